"""Providers on loopback, each in the format of its vendor; what they answer depends on the input.

So mistakes of order, batching or joining show. One `answer` knows all paths, since no two formats
share one.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tests import providers
from tests.providers import (
    WIDTH,
    Connection,
    Received,
    begin_events,
    chat_text,
    send_json,
    vector_of,
)

Body: TypeAlias = dict[str, Any]
__all__ = ["WIDTH", "vector_of"]
Event: TypeAlias = tuple[str, Body]
"""Its name, "" for none, and what it says."""


async def answer(connection: Connection, received: Received) -> None:
    """Answer as the vendor whose path it is; as OpenAI would where it is nobody else's."""
    path = received.path.partition("?")[0]
    if path.endswith("/converse-stream"):
        events = [(name, json.dumps(said)) for name, said in _converse_events(received.json)]
        await send_frames(connection, events)
        return
    for pattern, events_of in _STREAMS.items():
        if re.search(pattern, path) and (":stream" in path or received.json.get("stream")):
            await _send_events(connection, events_of(received.json))
            return
    for pattern, reply_to in _REPLIES.items():
        if re.search(pattern, path):
            await send_json(connection, reply_to(received.json))
            return
    await providers.answer(connection, received)


def weights_of(text: str) -> dict[str, float]:
    """Give the sparse embedding of `text`."""
    return {f"{text}-a": 0.75, f"{text}-b": 0.5}


def bytes_of(text: str) -> list[int]:
    """Give the embedding of `text` in signed bytes."""
    return [int(number * 128) for number in vector_of(text)]


def score_of(text: str) -> float:
    """Give what a document is worth."""
    return vector_of(text, 1)[0]


def reply_text(said: str) -> str:
    """Give what an assistant answers to the last thing said."""
    return chat_text({"messages": [{"content": said}]})


def error_body(service: str, status: int, message: str) -> Any:
    """Give the error body of a vendor."""
    match service:
        case "cohere" | "amazonbedrock":
            return {"message": message}
        case "googleaistudio" | "googlevertexai":
            return {"error": {"code": status, "message": message, "status": "SAID_NO"}}
        case "anthropic":
            return {"type": "error", "error": {"type": "said_no", "message": message}}
        case "mistral":
            return {"object": "error", "message": message, "type": "said_no", "code": "1"}
        case "hugging_face":
            return {"error": message, "error_type": "Validation"}
        case _:
            return {"error": {"message": message, "type": "said_no", "code": "no"}}


def error_event(service: str, message: str) -> bytes:
    """Give an error within a stream, the way a vendor sends it."""
    said = json.dumps(error_body(service, 500, message))
    match service:
        case "amazonbedrock":
            return aws_frame("modelStreamErrorException", said.encode(), kind="exception")
        case "anthropic":
            return f"event: error\ndata: {said}\n\n".encode()
        case "cohere":
            delta = {"finish_reason": "ERROR", "error": message}
            return f"data: {json.dumps({'type': 'message-end', 'delta': delta})}\n\n".encode()
        case _:
            return f"data: {said}\n\n".encode()


def event_of(service: str, said: bytes) -> bytes:
    """Give an event that says `said`, in the framing of a vendor."""
    if service == "amazonbedrock":
        return aws_frame("contentBlockDelta", said)
    return b"data: " + said + b"\n\n"


def pieces_of(text: str) -> list[str]:
    """Cut a text the way a stream does."""
    words = text.split(" ")
    return [word if n == 0 else f" {word}" for n, word in enumerate(words)]


# --- Cohere --------------------------------------------------------------------------------------

_COHERE_TOKENS = {"tokens": {"input_tokens": 4.0, "output_tokens": 3.0}}


def _cohere_embed(body: Body) -> Body:
    (kind,) = body.get("embedding_types", ["float"])
    of = vector_of if kind == "float" else bytes_of
    return {
        "id": "1",
        "texts": body["texts"],
        "embeddings": {kind: [of(text) for text in body["texts"]]},
        "meta": {"billed_units": {"input_tokens": 4}},
    }


def _cohere_rerank(body: Body) -> Body:
    return {"id": "1", **providers.ranking(body)}


def _cohere_chat(body: Body) -> Body:
    content = [{"type": "text", "text": chat_text(body)}]
    message = {"role": "assistant", "content": content}
    return {"id": "1", "finish_reason": "COMPLETE", "message": message, "usage": _COHERE_TOKENS}


def _cohere_events(body: Body) -> list[Event]:
    start = {"message": {"role": "assistant", "content": []}}
    events: list[Body] = [
        {"type": "message-start", "id": "1", "delta": start},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"text": ""}}}},
    ]
    events += [
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}}
        for piece in pieces_of(chat_text(body))
    ]
    end = {"finish_reason": "COMPLETE", "usage": _COHERE_TOKENS}
    events += [{"type": "content-end", "index": 0}, {"type": "message-end", "delta": end}]
    return [(event["type"], event) for event in events]


# --- Google --------------------------------------------------------------------------------------

_GOOGLE_USAGE = {"promptTokenCount": 4, "candidatesTokenCount": 3, "totalTokenCount": 7}


def _gemini_embed(body: Body) -> Body:
    texts = [one["content"]["parts"][0]["text"] for one in body["requests"]]
    return {"embeddings": [{"values": vector_of(text)} for text in texts]}


def _vertex_embed(body: Body) -> Body:
    counted = {"truncated": False, "token_count": 4}
    texts = [one["content"] for one in body["instances"]]
    return {
        "predictions": [
            {"embeddings": {"values": vector_of(text), "statistics": counted}} for text in texts
        ]
    }


def _vertex_rank(body: Body) -> Body:
    records = [{**one, "score": score_of(one["content"])} for one in body["records"]]
    return {"records": sorted(records, key=lambda one: -one["score"])[: body.get("topN")]}


def _gemini_chat(body: Body) -> Body:
    return {**_gemini_chunk(_gemini_text(body), "STOP"), "usageMetadata": _GOOGLE_USAGE}


def _gemini_events(body: Body) -> list[Event]:
    *pieces, last = pieces_of(_gemini_text(body))
    events = [_gemini_chunk(piece) for piece in pieces]
    events.append({**_gemini_chunk(last, "STOP"), "usageMetadata": _GOOGLE_USAGE})
    return [("", event) for event in events]


def _gemini_text(body: Body) -> str:
    return reply_text(body["contents"][-1]["parts"][-1]["text"])


def _gemini_chunk(text: str, finish_reason: str | None = None) -> Body:
    candidate: Body = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    candidate |= {"finishReason": finish_reason} if finish_reason else {}
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "1"}


# --- Anthropic -----------------------------------------------------------------------------------


def _anthropic_text(body: Body) -> str:
    said = body["messages"][-1]["content"]
    return reply_text(said if isinstance(said, str) else said[-1]["text"])


def _anthropic_message(body: Body) -> Body:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": _anthropic_text(body)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 4, "output_tokens": 3},
    }


def _anthropic_events(body: Body) -> list[Event]:
    message = {**_anthropic_message(body), "content": [], "stop_reason": None}
    message["usage"] = {"input_tokens": 4, "output_tokens": 1}
    events: list[Body] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    events += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
        for piece in pieces_of(_anthropic_text(body))
    ]
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    return [(event["type"], event) for event in events]


# --- Amazon --------------------------------------------------------------------------------------

_CONVERSE_USAGE = {"inputTokens": 4, "outputTokens": 3, "totalTokens": 7}


def _bedrock_invoke(body: Body) -> Body:
    if "inputText" in body:
        return {"embedding": vector_of(body["inputText"]), "inputTextTokenCount": 4}
    return {"id": "1", "embeddings": [vector_of(text) for text in body["texts"]]}


def _converse_text(body: Body) -> str:
    return reply_text(body["messages"][-1]["content"][-1]["text"])


def _converse(body: Body) -> Body:
    message = {"role": "assistant", "content": [{"text": _converse_text(body)}]}
    return {"output": {"message": message}, "stopReason": "end_turn", "usage": _CONVERSE_USAGE}


def _converse_events(body: Body) -> list[Event]:
    events: list[Event] = [("messageStart", {"role": "assistant"})]
    events += [
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}})
        for piece in pieces_of(_converse_text(body))
    ]
    return [
        *events,
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": _CONVERSE_USAGE}),
    ]


def aws_frame(name: str, payload: bytes, *, kind: str = "event") -> bytes:
    """Encode a frame of an AWS event stream: lengths, headers, payload, both checksums."""
    key = ":event-type" if kind == "event" else ":exception-type"
    named = {":message-type": kind, key: name, ":content-type": "application/json"}
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value))
        + value.encode()
        for name, value in named.items()
    )  # fmt: skip
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return head + struct.pack(">I", zlib.crc32(head))


# --- Hugging Face --------------------------------------------------------------------------------


def _hf_embed(body: Body) -> Any:
    return [vector_of(text) for text in body["inputs"]]


def _hf_embed_sparse(body: Body) -> Any:
    return [weights_of(text) for text in body["inputs"]]


def _hf_rerank(body: Body) -> Any:
    ranked = [{"index": n, "score": score_of(text)} for n, text in enumerate(body["texts"])]
    return sorted(ranked, key=lambda one: -one["score"])


# --- paths ---------------------------------------------------------------------------------------

_REPLIES: Mapping[str, Callable[[Body], Any]] = {
    r"/v2/embed$": _cohere_embed,
    r"/v2/rerank$": _cohere_rerank,
    r"/v2/chat$": _cohere_chat,
    r":batchEmbedContents$": _gemini_embed,
    r":generateContent$": _gemini_chat,
    r":predict$": _vertex_embed,
    r":rank$": _vertex_rank,
    r"(/v1/messages|:rawPredict|:streamRawPredict)$": _anthropic_message,
    r"/model/[^/]+/invoke$": _bedrock_invoke,
    r"/model/[^/]+/converse$": _converse,
    r"^/embed$": _hf_embed,
    r"^/embed_sparse$": _hf_embed_sparse,
    r"^/rerank$": _hf_rerank,
}
_STREAMS: Mapping[str, Callable[[Body], list[Event]]] = {
    r"/v2/chat$": _cohere_events,
    r":streamGenerateContent$": _gemini_events,
    r"(/v1/messages|:rawPredict|:streamRawPredict)$": _anthropic_events,
}


async def _send_events(connection: Connection, events: list[Event]) -> None:
    lines = [
        (f"event: {name}\n" if name else "") + f"data: {json.dumps(said)}\n\n"
        for name, said in events
    ]
    await begin_events(connection)
    await connection.send(b"".join(map(chunk, lines)) + b"0\r\n\r\n")


async def send_frames(connection: Connection, events: list[tuple[str, str]]) -> None:
    """Send a whole stream of AWS; of each event its name, and what it says."""
    frames = [aws_frame(name, said.encode()) for name, said in events]
    await connection.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    await connection.send(b"".join(map(chunk, frames)) + b"0\r\n\r\n")


def chunk(payload: str | bytes) -> bytes:
    """Give a chunk of a chunked body."""
    encoded = payload.encode() if isinstance(payload, str) else payload
    return f"{len(encoded):x}\r\n".encode() + encoded + b"\r\n"
