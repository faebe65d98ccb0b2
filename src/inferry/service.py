"""The shape of a service: data plus pure functions.

A service file names its settings as fields and, per task type, how a request becomes an HTTP call
and how the reply becomes a result. No I/O, clock, environment, retry or logging: the runners have
those once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from inferry.calls import Credential, Event, HttpCall, HttpReply
from inferry.domain import ChatChunk, Endpoint, InferenceRequest, Result, TaskType
from inferry.errors import Retry
from inferry.fields import Field

Build: TypeAlias = Callable[[InferenceRequest], HttpCall]
Parse: TypeAlias = Callable[[HttpReply, InferenceRequest], Result]
Reduce: TypeAlias = Callable[[Event], Iterable[ChatChunk]]
"""Turns one event into chunks; may keep state, so every stream gets a fresh one."""
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

    decode: gives a fresh reducer for a stream's events, None when the task does not stream.
    max_batch: inputs per call, None for no limit. max_tokens: estimated tokens per call.
    check: finds problems that concern several settings at once (arguments: settings, secrets).
    resolve: completes the settings of a new endpoint, e.g. a fixed URL (after validation).
    """

    build: Build
    parse: Parse
    service_settings: tuple[Field, ...]
    task_settings: tuple[Field, ...] = ()
    decode: Callable[[], Reduce] | None = None
    framing: Framing = "sse"
    max_batch: int | None = None
    max_tokens: int | None = None
    requests_per_minute: int | None = None
    default_similarity: str | None = None


@dataclass(frozen=True, slots=True)
class LocalTask:
    """A task that the engine runs."""

    service_settings: tuple[Field, ...]
    task_settings: tuple[Field, ...] = ()


Task: TypeAlias = HttpTask | LocalTask


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the wire.

    auth: None for services that run here. group: the rate-limit group of an endpoint, so that
    endpoints of one account share a bucket (a digest stands for a secret).
    error_message: the provider's message in an error body, or None. The code, param and kind of an
    OpenAI-like error body come along.
    check: problems that concern several settings at once.
    requests_per_minute: default of `rate_limit`, unless the task has its own.
    """

    name: str
    title: str
    tasks: Mapping[TaskType, Task]
    auth: Auth | None = None
    errors: tuple[ErrorRow, ...] = ()
    error_message: Callable[[HttpReply], ProviderError] | None = None
    group: Callable[[Endpoint], str] | None = None
    check: Callable[[Endpoint], list[str]] | None = None
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderError:
    """What a provider's error body says; None where it says nothing."""

    message: str | None = None
    code: str | None = None
    param: str | None = None
    kind: str | None = None
