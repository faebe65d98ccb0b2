"""The yardstick of runs: the least that a gateway does, as ASGI on bare uvicorn with aiohttp.

It decodes the body, calls the upstream with a body of its own, decodes the answer, and encodes it
in the Inference API's shape. No routes, keys, limits, checks, retries or metrics. `UPSTREAM` is the
origin of the upstream. Run with `python -m uvicorn bench.proxy:application`.
"""

from __future__ import annotations

import os
from functools import cache

import aiohttp
import msgspec

_UPSTREAM = os.environ.get("UPSTREAM", "")
_HEADERS = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}


class _Asked(msgspec.Struct):
    input: str | list[str] = ""
    messages: list[dict] = []
    stream: bool = False


class _Row(msgspec.Struct):
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Row]


class _Choice(msgspec.Struct):
    message: dict | None = None
    delta: dict | None = None
    finish_reason: str | None = None
    index: int = 0


class _Chat(msgspec.Struct):
    id: str
    choices: list[_Choice]
    model: str
    usage: dict | None = None


_encode = msgspec.json.Encoder().encode
_asked = msgspec.json.Decoder(_Asked).decode
_embeddings = msgspec.json.Decoder(_Embeddings).decode
_chat = msgspec.json.Decoder(_Chat).decode


@cache
def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
    return aiohttp.ClientSession(connector=connector)


async def application(scope, receive, send) -> None:  # noqa: ANN001  the types of ASGI are no ones
    """Serve one connection."""
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    asked = _asked(body)
    if scope["path"].endswith("/embeddings"):
        await _send(send, await _embed(asked))
    elif asked.stream:
        await _stream(asked, send)
    else:
        await _send(send, await _complete(asked))


async def _embed(asked: _Asked) -> bytes:
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    raw = await _post("/v1/embeddings", {"model": "m", "input": texts})
    rows = [{"embedding": row.embedding} for row in _embeddings(raw).data]
    return _encode({"text_embedding": rows})


async def _complete(asked: _Asked) -> bytes:
    body = {"model": "m", "messages": asked.messages, "n": 1, "stream": False}
    told = _chat(await _post("/v1/chat/completions", body))
    choices = [
        {"index": one.index, "message": one.message, "finish_reason": one.finish_reason}
        for one in told.choices
    ]
    return _encode(
        {
            "id": told.id,
            "choices": choices,
            "model": told.model,
            "object": "chat.completion",
            "usage": told.usage,
        }
    )


async def _stream(asked: _Asked, send) -> None:  # noqa: ANN001
    """Pass events that arrived together on in one piece."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    body = {"model": "m", "messages": asked.messages, "n": 1, "stream": True}
    waiting = b""
    path = "/v1/chat/completions"
    async with _session().post(_UPSTREAM + path, data=_encode(body), headers=_HEADERS) as reply:
        async for part in reply.content.iter_any():
            *events, waiting = (waiting + part).split(b"\n\n")
            told = b"".join(map(_event, events))
            await send({"type": "http.response.body", "body": told, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _event(event: bytes) -> bytes:
    payload = event.removeprefix(b"data: ")
    if payload == b"[DONE]":
        return b"event: message\ndata: [DONE]\n\n"
    told = _chat(payload)
    choices = [
        {"delta": one.delta, "finish_reason": one.finish_reason, "index": one.index}
        for one in told.choices
    ]
    chunk = {"id": told.id, "choices": choices, "model": told.model}
    return b"event: message\ndata: %b\n\n" % _encode({**chunk, "object": "chat.completion.chunk"})


async def _post(path: str, body: dict) -> bytes:
    async with _session().post(_UPSTREAM + path, data=_encode(body), headers=_HEADERS) as reply:
        return await reply.read()


async def _send(send, body: bytes) -> None:  # noqa: ANN001
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
