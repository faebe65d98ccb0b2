"""Pairs of texts as a model sees them: what stands around them, and how they are cut.

Source of the ways to cut: Elasticsearch, `NlpTokenizer` (`first`, `second`, `balanced`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from inferry.errors import IllegalArgument
from inferry.modeling import Truncation


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens of a pair: ids and token types, with places for the two texts.

    first, second: where the texts go, each of which stands for any number of tokens.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...]
    first: int
    second: int

    @property
    def specials(self) -> int:
        """Count the special tokens."""
        return len(self.ids) - 2

    def put(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
        """Give the ids and the token types of a pair."""
        ids, types = self.ids, self.types
        a, b = self.first, self.second
        return (
            [*ids[:a], *first, *ids[a + 1 : b], *second, *ids[b + 1 :]],
            [
                *types[:a],
                *[types[a]] * len(first),
                *types[a + 1 : b],
                *[types[b]] * len(second),
                *types[b + 1 :],
            ],
        )


def cut_pair(first: int, second: int, room: int, truncation: Truncation) -> tuple[int, int]:
    """Give how many tokens of the first and of the second text are kept.

    room: for both together. Raises `IllegalArgument` where the one that is not cut fills it.
    """
    if first + second <= room:
        return first, second
    match truncation:
        case "second":
            if first > room:
                raise _too_large(first, room, "first")
            return first, room - first
        case "first":
            if second > room:
                raise _too_large(second, room, "second")
            return room - second, second
        case "balanced":
            half = room // 2
            kept = min(first, half if second > half else room - second)
            return kept, min(second, room - kept)
    assert_never(truncation)


def _too_large(tokens: int, room: int, which: str) -> IllegalArgument:
    return IllegalArgument(
        f"Unable to truncate: the input is too large for the {which} sequence, it has [{tokens}]"
        f" tokens and there is room for [{room}]"
    )
