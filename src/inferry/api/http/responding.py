"""Write an answer to the wire: rewritten and packed as asked for, in as few writes as possible."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from inferry.api.exchange import Answer, Request
from inferry.api.http.compression import SMALLEST, accepts_gzip, compress
from inferry.api.http.direct import Direct, Pairs, Whole
from inferry.api.http.media_types import content_type_of
from inferry.api.http.rendering import is_rewritten, rewrite

Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
PRODUCT: Final = (b"x-elastic-product", b"Elasticsearch")
_WRITE_BYTES: Final = 256 * 1024
_MAX_REMEMBERED: Final = 256


@dataclass(slots=True)
class Responder:
    """Sends answers; the values of content types are encoded once."""

    _content_types: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)

    async def send(
        self,
        answer: Answer,
        request: Request,
        pairs: Pairs,
        send: Send,
        *,
        direct: Direct | None = None,
    ) -> None:
        """Send `answer`. pairs: headers that stand on every answer; it is added to."""
        whole = self.whole(answer, request, pairs)
        if whole is not None:
            if direct is None or not direct.send_whole(whole):
                await send({"type": "http.response.start", "status": whole[0], "headers": whole[1]})
                await send({"type": "http.response.body", "body": whole[2]})
            return
        self._add_headers(pairs, answer, request, answer.size)
        if isinstance(answer.body, AsyncIterator):
            await _send_stream(answer.status, pairs, answer.body, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        for part in _in_writes(answer.parts()):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def whole(self, answer: Answer, request: Request, pairs: Pairs) -> Whole | None:
        """Give `answer` in one piece, None when it is a stream or large; `pairs` as in `send`."""
        body = answer.body
        if not isinstance(body, bytes):
            if answer.size is None or answer.size > _WRITE_BYTES:
                return None
            body = b"".join(answer.parts())
        self._add_headers(pairs, answer, request, len(body))
        return answer.status, pairs, body

    def _add_headers(
        self, pairs: Pairs, answer: Answer, request: Request, size: int | None
    ) -> None:
        for name, value in answer.headers.items():
            for one in (value,) if isinstance(value, str) else value:
                pairs.append((name.lower().encode("latin-1"), one.encode("latin-1")))
        if size != 0:
            pairs.append(self._content_type(answer, request))
        if size is not None:
            pairs.append((b"content-length", b"%d" % size))

    def _content_type(self, answer: Answer, request: Request) -> tuple[bytes, bytes]:
        value = answer.content_type or content_type_of(request.compatible_with)
        pair = self._content_types.get(value)
        if pair is None:
            if len(self._content_types) >= _MAX_REMEMBERED:
                self._content_types.clear()
            pair = self._content_types[value] = (b"content-type", value.encode("latin-1"))
        return pair


async def transform(answer: Answer, request: Request) -> Answer:
    """Filter, indent and pack `answer` as the caller asked; streams stay as they are."""
    body = answer.body
    is_json = answer.content_type is None
    rewrites = is_json and is_rewritten(request.query)
    packs = accepts_gzip(request.headers.get("accept-encoding"))
    if not (rewrites or packs) or isinstance(body, AsyncIterator):
        return answer
    joined = b"".join(answer.parts())
    if rewrites and joined:
        joined = await rewrite(joined, request.query)
    headers = answer.headers
    if packs and len(joined) >= SMALLEST:
        joined = await compress(joined)
        headers = {**headers, "Content-Encoding": "gzip"}
    return msgspec.structs.replace(answer, body=joined, size=len(joined), headers=headers)


async def _send_stream(status: int, pairs: Pairs, body: AsyncIterator[bytes], send: Send) -> None:
    """Send parts as they come; the source is closed when the client leaves."""
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    source: Any = body
    async with aclosing(source):
        async for part in body:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _in_writes(parts: Iterable[bytes]) -> Iterable[bytes]:
    """Join small parts, so that each write is worth it."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _WRITE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
