"""What every route of ours takes and gives, whatever the dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, TypeAlias, TypeVar

import msgspec

from inferry.api.http.reading import AT_ONCE, QUICK, Reading
from inferry.errors import InferenceError
from inferry.security.gate import Principal

T = TypeVar("T")


def _never(_: bytes) -> None:
    """Be in doubt of every body."""


@dataclass(slots=True)
class Request:
    """A request that passed the gate and the checks of the HTTP layer.

    uri: raw, with the query string. headers: names in lower case. body: inflated, within the limit.
    path_values: what the placeholders of the route stand for, URL-decoded once.
    compatible_with: the Elasticsearch major version asked for (8 or 9), None without one.
    address: of the client, where a trusted proxy told it; empty when it is not known.
    id: of this request, the caller's or ours. route: its path in the route table, empty for none.
    inference_id: the endpoint that a body names, where the path does not.
    reading: where a body is read that may take long; None reads it at once, however long it takes.
    """

    method: str
    path: str
    uri: str
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str]
    principal: Principal
    path_values: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    compatible_with: int | None = None
    address: str = ""
    id: str = ""
    route: str = ""
    inference_id: str = ""
    reading: Reading | None = field(default=None, repr=False)

    async def read(
        self, parse: Callable[[bytes], T], *, quickly: Callable[[bytes], T | None] = _never
    ) -> T:
        """Give what `parse` makes of the body, however long that takes.

        quickly: gives the same at a hundred megabytes a second, or None when it is in doubt.
        """
        body = self.body
        if len(body) <= QUICK:
            found = quickly(body)
            if found is not None:
                return found
        if self.reading is None or len(body) <= AT_ONCE:
            return parse(body)
        return await self.reading.run(partial(parse, body), size=len(body))


class Answer(msgspec.Struct, frozen=True):
    """What goes back. body: bytes; parts that are joined on the wire; or a stream.

    content_type: None = the JSON type that was negotiated. size: total of the parts in bytes, so
    that they need not be joined. headers: a tuple repeats the header.
    """

    body: bytes | Iterable[bytes] | AsyncIterator[bytes] = b""
    status: int = 200
    content_type: str | None = None
    headers: Mapping[str, str | tuple[str, ...]] = msgspec.field(default_factory=dict)
    size: int | None = None

    def parts(self) -> Iterable[bytes]:
        """Give the body of what is no stream."""
        if isinstance(self.body, AsyncIterator):
            raise TypeError("a stream has no parts")
        return (self.body,) if isinstance(self.body, bytes) else self.body


Handler: TypeAlias = Callable[[Request], Answer | Awaitable[Answer]]
"""A plain function has nothing to wait for: it answers at once."""
ErrorAnswer: TypeAlias = Callable[[InferenceError, Request], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the route table.

    path: `/_inference/{task_type}/{inference_id}`; a literal segment wins over a placeholder.
    action: what the gate asks about (`cluster:monitor/xpack/inference/get`), None = every
    authenticated caller; is_open: no credentials needed.
    render_error: the dialect that renders its errors, those of the gate included. It gets only
    errors of our tree: what is none has become an `InternalError` by then.
    parameters: query parameters it takes, beside those that every route takes.
    takes_body: a body is read; a route without refuses one.
    answers_head: a HEAD is answered as a GET without its body.
    max_body_bytes: a limit below the server's, None without one.
    has_media_types: the rules of the vendor media types hold (Elasticsearch's routes).
    body_type, answer_type, further_answers (per status, those that are no errors in form),
    media_types (of good answers): for the OpenAPI document.
    """

    method: str
    path: str
    handler: Handler
    action: str | None
    render_error: ErrorAnswer
    summary: str
    parameters: frozenset[str] = frozenset()
    takes_body: bool = False
    is_open: bool = False
    answers_head: bool = True
    max_body_bytes: int | None = None
    has_media_types: bool = True
    body_type: Any = None
    answer_type: Any = None
    further_answers: Mapping[int, Any] = field(default_factory=dict)
    media_types: tuple[str, ...] = ("application/json",)

    @property
    def changes(self) -> bool:
        """Whether a request may change what is stored; running an endpoint does not."""
        action = self.action
        return self.method != "GET" and (action is None or action.startswith("cluster:admin/"))

    @property
    def answers_at_once(self) -> bool:
        """Whether the handler has nothing to wait for."""
        return not iscoroutinefunction(self.handler)

    async def answer(self, request: Request) -> Answer:
        """Give what the handler gives."""
        answer = self.handler(request)
        return answer if isinstance(answer, Answer) else await answer
