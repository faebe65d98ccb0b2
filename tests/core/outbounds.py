"""An `Outbound` without a network, and a small service that is called through it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from inferry.calls import Event, HttpCall, HttpReply
from inferry.domain import (
    ChatChoice,
    ChatChunk,
    ChatDelta,
    Completion,
    DenseEmbeddings,
    InferenceRequest,
    RankedDocument,
    Ranking,
    SparseEmbeddings,
    TaskType,
    Usage,
)
from inferry.errors import Retry, UnreadableReply, UpstreamError
from inferry.fields import Field
from inferry.protocols import EventStream, Exchange
from inferry.service import ErrorRow, HttpTask, LocalTask, ProviderError, Service
from inferry.vectors import JsonVector

T = TypeVar("T")


@dataclass
class Replies:
    """Implements `protocols.Outbound`: gives `replies` in turn, then what `answer` makes.

    exchanges: what was sent. open_streams: those nobody has closed.
    """

    replies: list[HttpReply | Exception] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    events: list[Event | list[Event] | Exception] = field(default_factory=list)
    open_streams: int = 0

    async def exchange(self, exchange: Exchange, read: Callable[[HttpReply], T]) -> T:
        """Give `read` of the next reply; nothing is retried."""
        self.exchanges.append(exchange)
        reply = self.replies.pop(0) if self.replies else answer(exchange.call)
        if isinstance(reply, Exception):
            raise reply
        return read(reply)

    @asynccontextmanager
    async def stream(
        self, exchange: Exchange, *, framing: str, refuse: Callable[[HttpReply], Exception]
    ) -> AsyncIterator[EventStream]:
        """Open a stream of `events`, or refuse with the next reply."""
        self.exchanges.append(exchange)
        if self.replies:
            reply = self.replies.pop(0)
            raise reply if isinstance(reply, Exception) else refuse(reply)
        self.open_streams += 1
        try:
            yield _Events(self.events)
        finally:
            self.open_streams -= 1

    def sent(self, index: int = -1) -> dict[str, object]:
        """Give the body of a call."""
        body: dict[str, object] = json.loads(self.exchanges[index].call.body)
        return body


class _Events:
    def __init__(self, events: Iterable[Event | list[Event] | Exception]) -> None:
        self._events = events

    async def events(self) -> AsyncGenerator[list[Event]]:
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event if isinstance(event, list) else [event]


def reply_with(body: object, status: int = 200, **headers: str) -> HttpReply:
    """Make a JSON reply; underscores in header names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpReply(
        status, named, json.dumps(body).encode(), "https://small.test/v1?key=sk-marker"
    )


def answer(call: HttpCall) -> HttpReply:
    """Answer a call: one result per input, its numbers the length of the text."""
    inputs = json.loads(call.body)["inputs"]
    return reply_with({"results": [len(text) for text in inputs], "tokens": len(inputs)})


# --- the service -------------------------------------------------------------------------------


def build(request: InferenceRequest) -> HttpCall:
    """Send everything that a request has, so that tests can look at it."""
    body = {
        "inputs": list(request.inputs),
        "input_type": request.input_type,
        "settings": dict(request.task_settings),
        "stream": request.stream,
        "top_n": request.top_n,
        "return_documents": request.return_documents,
    }
    return HttpCall("POST", "https://small.test/v1", {}, json.dumps(body).encode())


def results_of(reply: HttpReply) -> tuple[list[int], Usage | None]:
    """Read a reply."""
    try:
        body = json.loads(reply.body)
        tokens = body.get("tokens")
        usage = Usage(tokens, estimated=False) if tokens is not None else None
        return body["results"], usage
    except (ValueError, KeyError) as error:
        raise UnreadableReply("Failed to parse the reply, key sk-marker") from error


def parse_dense(reply: HttpReply, request: InferenceRequest) -> DenseEmbeddings:
    """Give vectors of width 2."""
    results, usage = results_of(reply)
    return DenseEmbeddings(tuple(JsonVector(b"[%d,0]" % one, 2) for one in results), usage=usage)


def parse_sparse(reply: HttpReply, request: InferenceRequest) -> SparseEmbeddings:
    """Give one token per input."""
    results, usage = results_of(reply)
    return SparseEmbeddings(tuple({"token": float(one)} for one in results), usage)


def parse_ranking(reply: HttpReply, request: InferenceRequest) -> Ranking:
    """Score the documents, in the order of the request."""
    results, usage = results_of(reply)
    documents = (RankedDocument(index, float(one)) for index, one in enumerate(results))
    return Ranking(tuple(documents), usage)


def parse_completion(reply: HttpReply, request: InferenceRequest) -> Completion:
    """Write one text per input."""
    results, usage = results_of(reply)
    return Completion(tuple(str(one) for one in results), usage)


def decode(request: InferenceRequest) -> Callable[[Event], list[ChatChunk] | None]:
    """Give a chunk per event; `end` ends the stream, `error` is the provider's."""

    def reduce(event: Event) -> list[ChatChunk] | None:
        if event.data == "end":
            return None
        if event.data == "error":
            raise UpstreamError("the model died, sk-marker")
        if not event.data:
            return []
        return [ChatChunk("1", [ChatChoice(ChatDelta(content=event.data))], usage=Usage(1, 1))]

    return reduce


def error_message(reply: HttpReply) -> ProviderError:
    """Read `{"error": {...}}`."""
    try:
        error = json.loads(reply.body)["error"]
    except (ValueError, KeyError, TypeError):
        return ProviderError()
    return ProviderError(
        error.get("message"), error.get("code"), error.get("param"), error.get("type")
    )


INPUT_TYPE = Field("input_type", "str", choices=("ingest", "search", "clustering"))
DENSE = HttpTask(
    build,
    parse_dense,
    service_settings=(),
    task_settings=(Field("user", "str"), Field("depth", "int", at_least=1), INPUT_TYPE),
    requests_per_minute=3000,
)
SERVICE = Service(
    name="small",
    title="Small",
    tasks={
        TaskType.TEXT_EMBEDDING: DENSE,
        TaskType.SPARSE_EMBEDDING: HttpTask(build, parse_sparse, service_settings=()),
        TaskType.RERANK: HttpTask(
            build,
            parse_ranking,
            service_settings=(),
            task_settings=(
                Field("top_n", "int", at_least=1),
                Field("return_documents", "bool"),
            ),
        ),
        TaskType.COMPLETION: HttpTask(build, parse_completion, service_settings=(), decode=decode),
    },
    errors=(
        ErrorRow(503, 503, "Received a server error status code", Retry.YES),
        ErrorRow(413, 413, "Received a content too large status code", Retry.SHORTER),
        ErrorRow(400, 400, "Received a shorter please status code", contains="reduce"),
        ErrorRow(429, 429, "Rate limit [{x-limit}], left [{x-left}]"),
        ErrorRow(404, 404, "Resource not found at [{url}]"),
    ),
    error_message=error_message,
)
LOCAL = Service(
    name="elasticsearch",
    title="Elasticsearch",
    tasks={TaskType.TEXT_EMBEDDING: LocalTask(()), TaskType.SPARSE_EMBEDDING: LocalTask(())},
)
