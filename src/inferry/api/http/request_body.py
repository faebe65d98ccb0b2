"""Read the body of a request: within a limit, within a time, inflated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from inferry.api.http.compression import decompress, too_large
from inferry.api.http.direct import Direct
from inferry.concurrency import time_limit
from inferry.errors import BadRequest, BodyTooLarge, UnsupportedMediaType

Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]


def has_body(headers: Mapping[str, str]) -> bool:
    """Tell whether the headers announce a body."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


@dataclass(frozen=True, slots=True)
class BodyReader:
    """Reads bodies. timeout_s: the longest pause of a client while it sends one."""

    max_bytes: int
    timeout_s: float

    async def read(
        self,
        headers: Mapping[str, str],
        receive: Receive,
        *,
        max_bytes: int | None,
        direct: Direct | None = None,
    ) -> bytes:
        """Give the body; `max_bytes` lowers the limit.

        Raises `BodyTooLarge`, `UnsupportedMediaType` for an encoding other than gzip, and
        `BadRequest` for a body that is not complete or not gzip.
        """
        limit = self.max_bytes if max_bytes is None else min(max_bytes, self.max_bytes)
        body = direct.take_body() if direct is not None else None
        if body is None:
            body = await self._receive(headers.get("content-length"), receive, limit)
        elif len(body) > limit:
            raise BodyTooLarge(too_large(limit))
        encoding = headers.get("content-encoding")
        if encoding is None or not body:
            return body
        match encoding.strip().lower():
            case "gzip" | "x-gzip":
                return await decompress(body, max_bytes=limit)
            case "identity":
                return body
        raise UnsupportedMediaType(f"Content-Encoding header [{encoding}] is not supported")

    async def _receive(self, announced: str | None, receive: Receive, limit: int) -> bytes:
        if announced is not None and (not announced.isdecimal() or int(announced[:20]) > limit):
            raise BodyTooLarge(too_large(limit))
        message = await self._next(receive)
        body: bytes = message["body"]
        if not message["more_body"] and len(body) <= limit:
            return body
        parts = [body]
        size = len(body)
        while message["more_body"]:
            if size > limit:
                break
            message = await self._next(receive)
            parts.append(message["body"])
            size += len(parts[-1])
        if size > limit:
            raise BodyTooLarge(too_large(limit))
        return b"".join(parts)

    async def _next(self, receive: Receive) -> dict[str, Any]:
        """Wait for the next part."""
        try:
            with time_limit(self.timeout_s):
                message = await receive()
        except TimeoutError:
            raise BadRequest("the request body did not arrive in time") from None
        if message["type"] != "http.request":
            raise BadRequest("the request body is not complete")
        return message
