"""Texts by which a model is quantized, and those that are held out to see how close it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from inferry.errors import IllegalArgument

FEWEST, MOST = 16, 300
"""Texts of a sample. More are not closer, and take longer."""

_GOOD = f"50 to {MOST} of the texts that the model will see are good, at least {FEWEST}"
_HELD_OUT = 10
_QUERY_WORDS = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pair:
    """What a model that reranks sees."""

    query: str
    document: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Texts, a line of a file each."""

    name: str
    lines: tuple[str, ...]

    def pairs(self) -> list[Pair]:
        """Read lines as `query<TAB>document`, or make queries of the beginnings of documents.

        Of its own document for every other one, so that there are pairs that belong together and
        pairs that do not. Raises `IllegalArgument` where only some lines have a TAB.
        """
        lines = self.lines
        parted = [line.split("\t", 1) for line in lines]
        if all(len(parts) == 1 for parts in parted):
            turned = (lines[-1], *lines[:-1])
            origins = (lines[at] if at % 2 else turned[at] for at in range(len(lines)))
            return [
                Pair(_beginning(origin), line) for origin, line in zip(origins, lines, strict=True)
            ]
        if bare := sum(len(parts) == 1 for parts in parted):
            raise IllegalArgument(
                f"the texts [{self.name}] are of the form query<TAB>document in some lines, but"
                f" [{bare}] have no TAB: all lines have one, or none"
            )
        return [Pair(query, document) for query, document in parted]


def read_sample(file: Path | None) -> Sample:
    """Read a text per line. Raises `IllegalArgument`, which says how many are good."""
    if file is None:
        raise IllegalArgument(
            "8 bits are fitted to what a model computes of texts, and there are none: name a file"
            f" with a text per line as --texts FILE; {_GOOD}"
        )
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        raise IllegalArgument(f"cannot read the texts [{file}]: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise IllegalArgument(f"the texts [{file}] are not UTF-8 in line [{line}]") from error
    lines = [line for line in map(str.strip, content.split("\n")) if line]
    if len(lines) < FEWEST:
        raise IllegalArgument(f"the texts [{file}] are [{len(lines)}], a line each: {_GOOD}")
    step = max(1.0, len(lines) / MOST)
    chosen = (lines[int(at * step)] for at in range(min(len(lines), MOST)))
    return Sample(str(file), tuple(chosen))


def part(texts: Sequence[T]) -> tuple[list[T], list[T]]:
    """Give the texts to quantize by, and those to judge by: every tenth, spread over all."""
    return [text for at, text in enumerate(texts) if at % _HELD_OUT], [*texts[::_HELD_OUT]]


def _beginning(text: str) -> str:
    return " ".join(text.split()[:_QUERY_WORDS])
