"""A provider on loopback with prepared answers, as fast as one process can write them: PORT.

Embeddings of 1,536 numbers (base64 where it is asked for), a chat answer, and a stream of 50
events, which leaves in one piece. It reads no JSON: it looks for the members it needs.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import struct
import sys

WIDTH = 1536
EVENTS = 50


def _embeddings(*, is_base64: bool) -> bytes:
    chance = random.Random(1)
    numbers = [round(chance.gauss(0, 0.03), 9) for _ in range(WIDTH)]
    packed = base64.b64encode(struct.pack(f"<{WIDTH}f", *numbers)).decode()
    row = {"object": "embedding", "index": 0, "embedding": packed if is_base64 else numbers}
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    return _json({"object": "list", "data": [row], "model": "m", "usage": usage})


def _chat() -> bytes:
    message = {"role": "assistant", "content": "lorem ipsum dolor sit amet " * 12}
    return _json(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 60, "total_tokens": 80},
        }
    )


def _stream() -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000}
    choices = [
        {"index": 0, "delta": {"content": f"word{n} "}, "finish_reason": None}
        for n in range(EVENTS - 1)
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [json.dumps({**head, "model": "m", "choices": [choice]}) for choice in choices]
    text = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
    return _answer("text/event-stream", text.encode())


def _json(value: object) -> bytes:
    return _answer("application/json", json.dumps(value).encode())


def _answer(content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Provider(asyncio.Protocol):
    """Answers the requests of one connection."""

    numbers = _embeddings(is_base64=False)
    packed = _embeddings(is_base64=True)
    chat = _chat()
    stream = _stream()

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            lines = self._buffer[:head].lower()
            at = lines.find(b"content-length:")
            length = int(lines[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            end = head + 4 + length
            if len(self._buffer) < end:
                return
            body = self._buffer[head + 4 : end]
            path = self._buffer.split(b" ", 2)[1]
            self._buffer = self._buffer[end:]
            self._transport.write(self._choose(path, body))

    def _choose(self, path: bytes, body: bytes) -> bytes:
        if path.endswith(b"/embeddings"):
            return self.packed if b'"base64"' in body else self.numbers
        is_stream = b'"stream":true' in body or b'"stream": true' in body
        return self.stream if is_stream else self.chat


async def main(port: int) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1])))
