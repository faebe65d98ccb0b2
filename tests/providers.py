"""A provider on loopback: records what it is sent, answers in OpenAI's shape, or misbehaves.

Embeddings depend on a hash of the text, so that mistakes of order, batching or joining show.
`async with open_provider() as provider` runs it on the test's loop, `with run_provider()` in a
thread, for tests that drive a server in another process.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

WIDTH = 8


@dataclass(frozen=True)
class Received:
    """A request as it came. Header names are lower case; `path` has the query string."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Connection:
    """One accepted connection, for a fault to write what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, payload: bytes) -> None:
        """Write and wait until it is on its way."""
        self.writer.write(payload)
        await self.writer.drain()

    async def closed_by_peer(self) -> None:
        """Wait until the other side hangs up."""
        while await self.reader.read(65536):
            continue


Behaviour: TypeAlias = Callable[[Connection, Received], Awaitable[None]]
"""Answers one request; the connection is kept open afterwards unless it was closed."""


@dataclass
class Provider:
    """requests: what came, in order. open_connections: those the other side has not closed."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    open_connections: int = 0
    _next: deque[Behaviour] = field(default_factory=deque)
    _always: Behaviour | None = None
    _all_closed: asyncio.Event = field(default_factory=asyncio.Event)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def then(self, *behaviours: Behaviour) -> None:
        """Answer the next requests with `behaviours`, one each; then as usual again."""
        self._next.extend(behaviours)

    def always(self, behaviour: Behaviour | None) -> None:
        """Answer every request with `behaviour`; None for as usual."""
        self._always = behaviour

    async def all_closed(self) -> None:
        """Wait until no connection is open."""
        if self.open_connections:
            await self._all_closed.wait()

    async def request_arrived(self) -> None:
        """Wait for the next request."""
        self._arrived.clear()
        await self._arrived.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.open_connections += 1
        self._all_closed.clear()
        try:
            while received := await _read_request(reader):
                self.requests.append(received)
                self._arrived.set()
                behaviour = self._next.popleft() if self._next else self._always or answer
                await behaviour(Connection(reader, writer), received)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            writer.close()
            self.open_connections -= 1
            if self.open_connections == 0:
                self._all_closed.set()


@asynccontextmanager
async def open_provider(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[Provider]:
    """Run a provider on the current loop."""
    provider = Provider()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(provider.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    provider.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()


@contextmanager
def run_provider() -> Iterator[Provider]:
    """Run a provider in a thread of its own."""
    ready: deque[tuple[Provider, asyncio.AbstractEventLoop, asyncio.Event]] = deque()
    started = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()
        async with open_provider() as provider:
            ready.append((provider, asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    started.wait(10)
    provider, loop, stop = ready[0]
    try:
        yield provider
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def unused_port() -> int:
    """Give a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- good answers ------------------------------------------------------------------------------


def vector_of(text: str, width: int = WIDTH) -> list[float]:
    """Give the embedding of `text`: numbers that single precision holds exactly."""
    digest = hashlib.sha256(text.encode()).digest() * (width // 32 + 1)
    return [(byte - 128) / 128 for byte in digest[:width]]


async def answer(connection: Connection, received: Received) -> None:
    """Answer as OpenAI would: embeddings, chat, streamed chat, OAuth2 tokens, rerank."""
    path = received.path.partition("?")[0]
    if path.endswith("/token"):
        await send_json(connection, {"access_token": "token-1", "expires_in": 3600})
    elif path.endswith("/embeddings"):
        await send_json(connection, embeddings(received.json))
    elif path.endswith("/rerank"):
        await send_json(connection, ranking(received.json))
    elif path.endswith("/chat/completions"):
        if received.json.get("stream"):
            await send_events(connection, chat_events(received.json))
        else:
            await send_json(connection, chat(received.json))
    else:
        await send_json(connection, {"error": {"message": f"Unknown path {path}"}}, status=404)


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Give the reply to an embeddings call, in numbers or base64 as asked."""
    given = body["input"]
    texts = [given] if isinstance(given, str) else given
    rows: list[Any] = [vector_of(text, body.get("dimensions", WIDTH)) for text in texts]
    if body.get("encoding_format") == "base64":
        rows = [base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode() for row in rows]
    tokens = sum(len(text.split()) for text in texts)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows)
        ],
        "model": body.get("model", "model"),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def ranking(body: dict[str, Any]) -> dict[str, Any]:
    """Score each document by its hash."""
    scores = [vector_of(text, 1)[0] for text in body["documents"]]
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    return {"results": sorted(results, key=lambda one: -one["relevance_score"])}


def chat_text(body: dict[str, Any]) -> str:
    """Give what the assistant says to a chat."""
    return f"You said: {body['messages'][-1].get('content')}"


def chat(body: dict[str, Any]) -> dict[str, Any]:
    """Give the reply to a chat call."""
    message = {"role": "assistant", "content": chat_text(body), "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model", "model"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
    }


def chat_events(body: dict[str, Any]) -> list[str]:
    """Give the data of the events of a streamed chat, `[DONE]` included."""
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": body.get("model", "model"),
    }
    words = chat_text(body).split(" ")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word if n == 0 else f" {word}"} for n, word in enumerate(words)]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    chunks.append({**head, "choices": [], "usage": usage})
    return [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]


async def send_json(
    connection: Connection,
    body: Any,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> None:
    """Send a whole JSON answer."""
    await send_bytes(connection, json.dumps(body).encode(), status=status, headers=headers)


async def send_bytes(
    connection: Connection,
    body: bytes,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    claims: int | None = None,
) -> None:
    """Send an answer; `claims`: what Content-Length says when that is a lie."""
    named = {"Content-Type": "application/json", **(headers or {})}
    lines = [f"{name}: {value}" for name, value in named.items()]
    lines.append(f"Content-Length: {len(body) if claims is None else claims}")
    head = "\r\n".join([f"HTTP/1.1 {status} Status", *lines, "", ""])
    await connection.send(head.encode() + body)


async def begin_events(connection: Connection) -> None:
    """Send the head of a stream."""
    await connection.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


async def send_event(connection: Connection, data: str, name: str = "") -> None:
    """Send one event in a chunk of its own."""
    event = (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
    await connection.send(_chunk(event.encode()))


async def send_events(connection: Connection, events: list[str]) -> None:
    """Send a whole stream at once."""
    body = b"".join(_chunk(f"data: {data}\n\n".encode()) for data in events)
    await begin_events(connection)
    await connection.send(body + b"0\r\n\r\n")


# --- faults ------------------------------------------------------------------------------------


async def reset(connection: Connection, _: Received) -> None:
    """Break the connection with a reset, before any answer."""
    raw = connection.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.transport.abort()


async def hang_up(connection: Connection, _: Received) -> None:
    """Close the connection in good order, before any answer."""
    connection.writer.close()


async def never_answer(connection: Connection, _: Received) -> None:
    """Say nothing until the other side hangs up."""
    await connection.closed_by_peer()
    connection.writer.close()


async def stall(connection: Connection, received: Received) -> None:
    """Send half of an answer, then nothing until the other side hangs up."""
    body = json.dumps(embeddings(received.json)).encode()
    await send_bytes(connection, body[: len(body) // 2], claims=len(body))
    await never_answer(connection, received)


async def half_json(connection: Connection, received: Received) -> None:
    """Send a 200 whose JSON ends in the middle."""
    body = json.dumps(embeddings(received.json)).encode()
    await send_bytes(connection, body[: len(body) // 2])


async def half_body(connection: Connection, received: Received) -> None:
    """Send half of what Content-Length promised, and hang up."""
    body = json.dumps(embeddings(received.json)).encode()
    await send_bytes(connection, body[: len(body) // 2], claims=len(body))
    connection.writer.close()


async def empty_body(connection: Connection, _: Received) -> None:
    """Send a 200 without a body."""
    await send_bytes(connection, b"")


async def too_few(connection: Connection, received: Received) -> None:
    """Leave out the last embedding."""
    body = embeddings(received.json)
    body["data"].pop()
    await send_json(connection, body)


async def error_in_200(connection: Connection, _: Received) -> None:
    """Send an error object with status 200."""
    await send_json(connection, {"error": {"message": "the model is gone", "code": "gone"}})


async def redirect(connection: Connection, _: Received) -> None:
    """Send 302 to the metadata service of a cloud."""
    location = {"Location": "http://169.254.169.254/latest/meta-data"}
    await send_json(connection, {}, status=302, headers=location)


async def big_body(connection: Connection, _: Received) -> None:
    """Send 60 MB."""
    size = 60_000_000
    await connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
    for _part in range(size // 1_000_000):
        await connection.send(b" " * 1_000_000)


def refuse(
    status: int, message: str = "no", *, headers: dict[str, str] | None = None, **members: str
) -> Behaviour:
    """Give a behaviour that answers `status` with an OpenAI-like error body."""

    async def send_refusal(connection: Connection, _: Received) -> None:
        error = {"message": message, **members}
        await send_json(connection, {"error": error}, status=status, headers=headers)

    return send_refusal


async def cut_stream(connection: Connection, received: Received) -> None:
    """Send the first events of a stream and break the connection."""
    await begin_events(connection)
    for data in chat_events(received.json)[:3]:
        await send_event(connection, data)
    connection.writer.close()


async def stalled_stream(connection: Connection, received: Received) -> None:
    """Send the first events of a stream, then nothing until the other side hangs up."""
    await begin_events(connection)
    for data in chat_events(received.json)[:3]:
        await send_event(connection, data)
    await never_answer(connection, received)


async def dripped_stream(connection: Connection, received: Received) -> None:
    """Send a whole stream byte by byte."""
    await begin_events(connection)
    for data in chat_events(received.json):
        for byte in f"data: {data}\n\n".encode():
            await connection.send(_chunk(bytes([byte])))
    await connection.send(b"0\r\n\r\n")


async def error_in_stream(connection: Connection, received: Received) -> None:
    """Send the first events of a stream, then an error event."""
    await begin_events(connection)
    for data in chat_events(received.json)[:2]:
        await send_event(connection, data)
    await send_event(connection, json.dumps({"error": {"message": "the model died"}}), "error")
    await connection.send(b"0\r\n\r\n")


# --- wire --------------------------------------------------------------------------------------


def _chunk(payload: bytes) -> bytes:
    return f"{len(payload):x}\r\n".encode() + payload + b"\r\n"


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = await reader.readline()
        if not line:
            return None
        head += line
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body)
