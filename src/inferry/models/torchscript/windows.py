"""Windows over a text that is longer than what reaches a model at once. Pure.

The rules are those of Elasticsearch's tokenizers for `truncate: none` with a `span`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inferry.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens of a text, from `start` up to `end`."""

    start: int
    end: int


def lay_windows(words: Sequence[int | None], room: int, span: int) -> list[Window]:
    """Lay windows of at most `room` tokens over a text.

    Each begins `span` tokens before the one before it ends. words: for each token, which word it
    is of; windows begin and end between words, where a word does not fill one. A text without
    tokens has one empty window. Raises `BadRequest` where a window would not begin behind the one
    before it.
    """
    found = [Window(0, _end(words, 0, room))]
    while found[-1].end < len(words):
        start = _start(words, found[-1], span)
        found.append(Window(start, _end(words, start, room)))
    return found


def _end(words: Sequence[int | None], start: int, room: int) -> int:
    end = min(start + room, len(words))
    while start + 1 < end < len(words) and _is_within_word(words, end):
        end -= 1
    return end


def _start(words: Sequence[int | None], last: Window, span: int) -> int:
    start = last.end - span
    if start <= last.start:
        raise BadRequest(
            f"a window of [{last.end - last.start}] tokens and a [span] of [{span}] do not go"
            " together: the next window would not begin behind it"
        )
    while start > last.start + 1 and _is_within_word(words, start):
        start -= 1
    return start


def _is_within_word(words: Sequence[int | None], place: int) -> bool:
    """Tell whether a cut before `place` goes through a word."""
    return words[place] is not None and words[place] == words[place - 1]
