"""The shape of a service: data plus pure functions.

A service file names its settings as fields and, per task type, how a request becomes an HTTP call
and how the reply becomes a result. No I/O, clock, environment, retry or logging: the runners have
those once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from inferry.calls import Credential, Event, HttpCall, HttpReply
from inferry.domain import (
    ChatChunk,
    Endpoint,
    InferenceRequest,
    InputType,
    Result,
    Settings,
    TaskType,
)
from inferry.errors import Retry
from inferry.fields import Field, Problem

Build: TypeAlias = Callable[[InferenceRequest], HttpCall]
Parse: TypeAlias = Callable[[HttpReply, InferenceRequest], Result]
Reduce: TypeAlias = Callable[[Event], Iterable[ChatChunk] | None]
"""Turns one event into chunks, possibly none; None when the event ends the stream, and then nothing
more is read. It may keep state, so every stream gets a fresh one. Raises `UpstreamError` when the
event is an error of the provider's or cannot be read."""
Adopt: TypeAlias = Callable[[Settings, Settings], tuple[Settings, Settings]]
Framing: TypeAlias = Literal["sse", "json_lines", "aws"]
Auth: TypeAlias = Callable[[HttpCall, Endpoint, float], Generator[HttpCall, HttpReply, Credential]]
"""`auth(call, endpoint, now)` yields calls it needs made, receives their replies, and returns the
headers to add and until when they hold. `now`: seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """What a provider's status means.

    first, last: the statuses, both included. contains: only if the provider's message contains it.
    text: prefix of our message; `{name}` stands for the reply header of that name (`unknown` when
    absent), `{url}` for the URL that was called. retry: whether the call may be sent again.
    """

    first: int
    last: int
    text: str
    retry: Retry = Retry.NO
    contains: str = ""


@dataclass(frozen=True, slots=True)
class HttpTask:
    """A task that is one HTTP call.

    decode: gives a fresh reducer for the events of one stream (the request tells which words to
    use in its errors), None when the task does not stream.
    max_batch: inputs per call, None for no limit. batch_of: those of an endpoint, where its
    settings decide. max_tokens: estimated tokens per call.
    default_similarity: stored when the caller gave none, None for tasks without vectors.
    input_types: those that reach the provider; another one that a caller names is refused, except
    `ingest` and `search`, which clients send by habit.
    forwards_extra: `build` sends parameters outside the unified schema on; else they are refused.
    """

    build: Build
    parse: Parse
    service_settings: tuple[Field, ...]
    task_settings: tuple[Field, ...] = ()
    decode: Callable[[InferenceRequest], Reduce] | None = None
    framing: Framing = "sse"
    max_batch: int | None = None
    batch_of: Callable[[Endpoint], int] | None = None
    max_tokens: int | None = None
    requests_per_minute: int | None = None
    default_similarity: str | None = None
    input_types: frozenset[InputType] = frozenset()
    forwards_extra: bool = False

    def batch_size(self, endpoint: Endpoint) -> int | None:
        """Give the inputs per call of `endpoint`, None for no limit."""
        return self.max_batch if self.batch_of is None else self.batch_of(endpoint)


@dataclass(frozen=True, slots=True)
class LocalTask:
    """A task that the engine runs. input_types: those that a caller may name."""

    service_settings: tuple[Field, ...]
    task_settings: tuple[Field, ...] = ()
    input_types: frozenset[InputType] = frozenset(InputType)


Task: TypeAlias = HttpTask | LocalTask


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the wire.

    auth: None for services that run here. group: the rate-limit group of an endpoint, so that
    endpoints of one account share a bucket (a digest stands for a secret).
    error_message: the provider's message in an error body, or None. The code, param and kind of an
    OpenAI-like error body come along.
    check: problems that no single field shows, of an endpoint whose fields were parsed; reported
    before those of the fields. What was refused is not there; a `Missing` of it is not reported.
    adopt: moves what older clients put elsewhere; called with (service_settings, task_settings) as
    the caller gave them, before they are parsed.
    requests_per_minute: default of `rate_limit`, unless the task has its own.
    listed: shown by `_services`.
    """

    name: str
    title: str
    tasks: Mapping[TaskType, Task]
    auth: Auth | None = None
    errors: tuple[ErrorRow, ...] = ()
    error_message: Callable[[HttpReply], ProviderError] | None = None
    group: Callable[[Endpoint], str] | None = None
    check: Callable[[Endpoint], Sequence[Problem]] | None = None
    adopt: Adopt | None = None
    requests_per_minute: int | None = None
    listed: bool = True


@dataclass(frozen=True, slots=True)
class ProviderError:
    """What a provider's error body says; None where it says nothing."""

    message: str | None = None
    code: str | None = None
    param: str | None = None
    kind: str | None = None
