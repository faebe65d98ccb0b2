"""A provider over TLS that chats at the pace of a real one: PORT CERTIFICATE KEY.

The first event comes 300 ms after the request, then one every 20 ms, 100 in all. Each says when it
left, in nanoseconds of the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time

FIRST_S = 0.3
EVERY_S = 0.02
EVENTS = 100

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "left TIME "}, "finish_reason": None}],
    }
)
_WHOLE = json.dumps(
    {
        "id": "chatcmpl-1",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello"},
                "finish_reason": "stop",
            }
        ],
    }
).encode()


class Provider(asyncio.Protocol):
    """Answers the requests of one connection, one after the other."""

    def __init__(self) -> None:
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Begin to answer a request that is complete."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if not found or len(rest) < length:
            return
        self._buffer = rest[length:]
        if b'"stream":true' in rest or b'"stream": true' in rest:
            self._begun = self._loop.time()
            self._transport.write(_HEAD)
            self._loop.call_at(self._begun + FIRST_S, self._tick, 1)
        else:
            sizes = f"HTTP/1.1 200 OK\r\nContent-Length: {len(_WHOLE)}\r\n\r\n".encode()
            self._transport.write(sizes + _WHOLE)

    def _tick(self, number: int) -> None:
        if self._transport.is_closing():
            return
        if number > EVENTS:
            self._transport.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            return
        event = _EVENT.replace("TIME", str(time.monotonic_ns()))
        self._transport.write(_chunk(f"data: {event}\n\n".encode()))
        at = self._begun + FIRST_S + number * EVERY_S
        self._loop.call_at(at, self._tick, number + 1)


def _chunk(payload: bytes) -> bytes:
    return f"{len(payload):x}\r\n".encode() + payload + b"\r\n"


async def main(port: int, certificate: str, key: str) -> None:
    """Serve until the process is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", port, ssl=context, backlog=2048)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
