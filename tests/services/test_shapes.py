"""The types of a service carry what other providers need, run through the runners of the server.

Four small services in the shapes of Anthropic (a stream whose reader keeps state), of an OAuth
server (a token exchange before the call), of AWS (a signature over body and time) and of a server
that streams JSON lines.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from inferry.calls import Credential, Event, HttpCall, HttpReply
from inferry.domain import (
    ChatChoice,
    ChatChunk,
    ChatDelta,
    Completion,
    Deadline,
    Endpoint,
    FunctionCall,
    InferenceRequest,
    TaskType,
    ToolCall,
    Usage,
)
from inferry.errors import Retry, UpstreamError
from inferry.fields import Field
from inferry.service import Auth, ErrorRow, HttpTask, Reduce, Service
from inferry.services.auth import oauth2_client_credentials
from tests.clocks import FakeClock
from tests.providers import (
    Connection,
    Provider,
    Received,
    begin_events,
    open_provider,
    refuse,
    send_event,
    send_json,
)
from tests.services.driving import running, stream_of


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with open_provider() as opened:
        yield opened


def build(request: InferenceRequest) -> HttpCall:
    body = {"text": request.inputs[0], "stream": request.stream}
    url = str(request.endpoint.service_settings["url"])
    return HttpCall("POST", url, {"Content-Type": "application/json"}, json.dumps(body).encode())


def parse(reply: HttpReply, request: InferenceRequest) -> Completion:
    return Completion((msgspec.json.decode(reply.body)["text"],))


COMPLETION = HttpTask(build=build, parse=parse, service_settings=(Field("url", "url"),))


def service(*, auth: Auth | None = None, task: HttpTask = COMPLETION) -> Service:
    return Service("shape", "Shape", {TaskType.COMPLETION: task}, auth=auth)


def request_to(provider: Provider, **settings) -> InferenceRequest:
    endpoint = Endpoint(
        "mine",
        TaskType.COMPLETION,
        "shape",
        {"url": f"{provider.url}/v1/run", **settings},
        secrets={"client_secret": "s3cret", "secret_key": "k3y-of-aws"},
    )
    return InferenceRequest(endpoint, Deadline.after(5, "5s", "mine"), ("Hi",))


def answering(text: str) -> Any:
    async def behave(connection: Connection, _: Received) -> None:
        await send_json(connection, {"text": text})

    return behave


# --- a stream whose reader keeps state -----------------------------------------------------------


class _Block(msgspec.Struct):
    type: str = "text"
    text: str = ""
    id: str | None = None
    name: str | None = None
    partial_json: str = ""


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0


class _Start(msgspec.Struct):
    id: str
    model: str
    usage: _Usage


class _AnthropicEvent(msgspec.Struct):
    type: str
    index: int = 0
    message: _Start | None = None
    content_block: _Block | None = None
    delta: _Block | None = None
    usage: _Usage | None = None


class AnthropicReducer:
    """Knows who speaks, how many tokens went in, and which block is which tool call."""

    def __init__(self) -> None:
        self._start = _Start("", "", _Usage())
        self._tools: dict[int, int] = {}

    def __call__(self, event: Event) -> list[ChatChunk] | None:
        """Turn one event into chunks."""
        read = msgspec.json.decode(event.data, type=_AnthropicEvent)
        match event.name, read:
            case "message_start", _AnthropicEvent(message=_Start() as start):
                self._start = start
                return [self._chunk(ChatDelta(content="", role="assistant"))]
            case "content_block_start", _AnthropicEvent(
                content_block=_Block(type="tool_use") as it
            ):
                self._tools[read.index] = len(self._tools)
                return [self._tool_call(read.index, it.id, it.name, "")]
            case "content_block_delta", _AnthropicEvent(delta=_Block(type="text_delta") as it):
                return [self._chunk(ChatDelta(content=it.text))]
            case "content_block_delta", _AnthropicEvent(delta=_Block() as it):
                return [self._tool_call(read.index, None, None, it.partial_json)]
            case "message_delta", _AnthropicEvent(usage=_Usage() as usage):
                return [self._end(event, usage)]
            case "message_stop", _:
                return None
        return []

    def _end(self, event: Event, usage: _Usage) -> ChatChunk:
        reason = json.loads(event.data)["delta"]["stop_reason"]
        words = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length"}
        counted = Usage(self._start.usage.input_tokens, usage.output_tokens)
        return self._chunk(ChatDelta(), words[reason], counted)

    def _tool_call(self, block: int, tool: str | None, name: str | None, text: str) -> ChatChunk:
        call = ToolCall(self._tools[block], tool, FunctionCall(text, name), tool and "function")
        return self._chunk(ChatDelta(tool_calls=[call]))

    def _chunk(
        self, delta: ChatDelta, reason: str | None = None, usage: Usage | None = None
    ) -> ChatChunk:
        return ChatChunk(self._start.id, [ChatChoice(delta, reason)], self._start.model, usage)


def decode_anthropic(request: InferenceRequest) -> Reduce:
    return AnthropicReducer()


ANTHROPIC_EVENTS: list[tuple[str, dict[str, Any]]] = [
    (
        "message_start",
        {
            "message": {
                "id": "msg_1",
                "model": "c",
                "usage": {"input_tokens": 9, "output_tokens": 1},
            }
        },
    ),
    ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
    ("ping", {}),
    ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Let me see"}}),
    ("content_block_stop", {"index": 0}),
    (
        "content_block_start",
        {"index": 1, "content_block": {"type": "tool_use", "id": "t1", "name": "weather"}},
    ),
    (
        "content_block_delta",
        {"index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
    ),
    (
        "content_block_delta",
        {"index": 1, "delta": {"type": "input_json_delta", "partial_json": '"Graz"}'}},
    ),
    ("message_delta", {"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 12}}),
    ("message_stop", {}),
]


async def send_anthropic_events(connection: Connection, _: Received) -> None:
    await begin_events(connection)
    for name, data in ANTHROPIC_EVENTS:
        await send_event(connection, json.dumps({"type": name, **data}), name)
    await send_event(connection, "this is never read", "message_stop")
    await connection.send(b"0\r\n\r\n")


async def test_a_reader_with_state_turns_named_events_into_chunks(provider):
    provider.always(send_anthropic_events)
    asked = request_to(provider)
    shape = service(task=replace(COMPLETION, decode=decode_anthropic))

    async with running(shape, asked) as runners:
        first = await stream_of(runners, asked)
        second = await stream_of(runners, asked)

    deltas = [choice.delta for chunk in first for choice in chunk.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert first == second
    assert {(chunk.id, chunk.model) for chunk in first} == {("msg_1", "c")}
    assert "".join(delta.content or "" for delta in deltas) == "Let me see"
    assert [(call.index, call.id) for call in calls] == [(0, "t1"), (0, None), (0, None)]
    assert "".join((call.function and call.function.arguments) or "" for call in calls) == (
        '{"city":"Graz"}'
    )
    assert first[-1].usage == Usage(9, 12)
    assert first[-1].choices[0].finish_reason == "tool_calls"


# --- a token exchange before the call ------------------------------------------------------------


def token(name: str) -> Any:
    async def behave(connection: Connection, _: Received) -> None:
        await send_json(connection, {"access_token": name, "expires_in": 3600})

    return behave


def oauth_request(provider: Provider) -> InferenceRequest:
    url = f"{provider.url}/token"
    return request_to(provider, token_url=url, client_id="id", scopes=["run"])


async def test_a_token_is_exchanged_once_and_signs_until_it_expires(provider):
    clock = FakeClock()
    asked = oauth_request(provider)
    provider.then(token("t1"), answering("a"), answering("b"), token("t2"), answering("c"))

    async with running(service(auth=oauth2_client_credentials), asked, clock=clock) as runners:
        results = [await runners.run(asked), await runners.run(asked)]
        clock.advance(3600)
        results.append(await runners.run(asked))

    assert results == [Completion(("a",)), Completion(("b",)), Completion(("c",))]
    sent = [(one.path, one.headers["authorization"].split()[1]) for one in provider.requests]
    assert [path for path, _ in sent] == ["/token", "/v1/run", "/v1/run", "/token", "/v1/run"]
    assert [value for path, value in sent if path == "/v1/run"] == ["t1", "t1", "t2"]


async def test_a_refused_exchange_is_the_error_of_the_call(provider):
    asked = oauth_request(provider)

    async def deny(connection: Connection, _: Received) -> None:
        await send_json(connection, {"error": "invalid_client"}, status=401)

    provider.always(deny)

    async with running(service(auth=oauth2_client_credentials), asked) as runners:
        with pytest.raises(UpstreamError) as raised:
            await runners.run(asked)

    assert raised.value.message == (
        "Failed to retrieve access token for request for inference id [mine]: [invalid_client]"
    )
    assert [one.path for one in provider.requests] == ["/token"]


# --- a signature over body and time --------------------------------------------------------------


def sign(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    """Sign method, URL, body and second, as AWS does; good for this attempt only."""
    yield from ()
    signature = signature_of(call.method, call.body, int(now), endpoint.secrets["secret_key"])
    headers = {"X-Date": str(int(now)), "Authorization": f"Signature {signature}"}
    return Credential(headers, expires_at=None)


def signature_of(method: str, body: bytes, second: int, key: str) -> str:
    digest = hashlib.sha256(body).hexdigest()
    text = f"{method}\n{digest}\n{second}"
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def is_signed(received: Received) -> bool:
    second = int(received.headers["x-date"])
    expected = signature_of(received.method, received.body, second, "k3y-of-aws")
    return received.headers["authorization"] == f"Signature {expected}"


async def test_every_attempt_is_signed_anew(provider):
    clock = FakeClock()
    asked = request_to(provider)
    provider.then(refuse(503), answering("a"), answering("b"))
    signed = replace(service(auth=sign), errors=(ErrorRow(503, 503, "Busy", Retry.YES),))

    async with running(signed, asked, clock=clock) as runners:
        await runners.run(asked)
        clock.advance(1)
        await runners.run(replace(asked, inputs=("Another",)))

    assert all(is_signed(one) for one in provider.requests)
    assert len({one.headers["authorization"] for one in provider.requests}) == 3


# --- a stream of JSON lines ----------------------------------------------------------------------


def decode_lines(request: InferenceRequest) -> Reduce:
    """Read lines that say their kind, and end at one of them."""

    def reduce(event: Event) -> list[ChatChunk] | None:
        line = json.loads(event.data)
        match line["event_type"]:
            case "text-generation":
                return [ChatChunk("", [ChatChoice(ChatDelta(content=line["text"]))])]
            case "stream-end" if line["finish_reason"] == "ERROR":
                raise UpstreamError("The stream ended with an error", upstream_status=500)
            case "stream-end":
                return None
        return []

    return reduce


def sending_lines(*lines: dict[str, Any]) -> Any:
    async def behave(connection: Connection, _: Received) -> None:
        await begin_events(connection)
        for piece in "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode():
            await connection.send(b"1\r\n" + bytes([piece]) + b"\r\n")
        await connection.send(b"0\r\n\r\n")

    return behave


JSON_LINES = service(task=replace(COMPLETION, decode=decode_lines, framing="json_lines"))


async def test_json_lines_become_chunks_wherever_the_network_cuts_them(provider):
    provider.always(
        sending_lines(
            {"event_type": "stream-start"},
            {"event_type": "text-generation", "text": "Grüß "},
            {"event_type": "text-generation", "text": "Gott"},
            {"event_type": "stream-end", "finish_reason": "COMPLETE"},
        )
    )
    asked = request_to(provider)

    async with running(JSON_LINES, asked) as runners:
        chunks = await stream_of(runners, asked)

    assert [chunk.choices[0].delta.content for chunk in chunks] == ["Grüß ", "Gott"]


async def test_a_line_that_says_error_ends_the_stream_with_it(provider):
    provider.always(sending_lines({"event_type": "stream-end", "finish_reason": "ERROR"}))
    asked = request_to(provider)

    async with running(JSON_LINES, asked) as runners:
        with pytest.raises(UpstreamError, match="ended with an error"):
            await stream_of(runners, asked)
