"""The work of a queue: jobs, cut into pieces to be tokenized, and into texts that are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from inferry.domain import InputType
from inferry.errors import InferenceError
from inferry.modeling import Answer, Encoded

_PIECE_TEXTS = 16
_PIECE_CHARACTERS = 8 * 1024
_BRIEF_CHARACTERS = 4096


class Lane(IntEnum):
    """Who goes first. CHECK is for the engine's own probes, which no queue holds up."""

    CHECK = 0
    SEARCH = 1
    INGEST = 2


@dataclass(eq=False, slots=True)
class Job:
    """The texts of one request. deadline: on the monotonic clock.

    ended: called once, when the last text has run (None) or when the job ends before.
    query: what each text is paired with. config: of the task, for this request. answers: those so
    far, in the order of the texts. tokens: that ran. cut: indices of texts that were too long.
    """

    texts: Sequence[str] = field(repr=False)
    input_type: InputType
    lane: Lane
    deadline: float
    ended: Callable[[InferenceError | None], None] = field(repr=False)
    query: str | None = field(default=None, repr=False)
    config: Mapping[str, Any] | None = field(default=None, repr=False)
    answers: list[Answer] = field(default_factory=list, repr=False)
    tokens: int = 0
    cut: list[int] = field(default_factory=list)
    handed_out: int = 0
    left: int = 0
    characters: int = 0
    is_over: bool = False

    def __post_init__(self) -> None:
        self.left = len(self.texts)
        self.answers = [b""] * self.left
        self.characters = sum(map(len, self.texts))

    @property
    def is_brief(self) -> bool:
        """Whether it is tokenized in less than a millisecond or so."""
        return self.characters <= _BRIEF_CHARACTERS


@dataclass(frozen=True, slots=True)
class Piece:
    """Some texts of a job, to be tokenized. first: index of the first one."""

    job: Job
    first: int
    texts: Sequence[str]


@dataclass(eq=False, frozen=True, slots=True)
class Item:
    """A tokenized text that waits for its batch. number: in the order of tokenizing."""

    job: Job
    index: int
    encoded: Encoded
    number: int

    @property
    def key(self) -> tuple[int, int]:
        """Order by length, then by age."""
        return len(self.encoded.ids), self.number


def next_piece(job: Job) -> Piece:
    """Cut off the next texts of `job`, few enough that others need not wait long."""
    first = end = job.handed_out
    characters = 0
    while end < len(job.texts) and end - first < _PIECE_TEXTS:
        characters += len(job.texts[end])
        if characters > _PIECE_CHARACTERS and end > first:
            break
        end += 1
    job.handed_out = end
    return Piece(job, first, job.texts[first:end])
