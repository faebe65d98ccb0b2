"""The official SDK and our service send the same requests, and read the same replies.

This proves our wire format against the SDK that is installed, not the behaviour of OpenAI itself.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from openai import AsyncOpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inferry.calls import HttpCall
from inferry.domain import ChatChunk, Completion, DenseEmbeddings, InferenceRequest
from inferry.service import HttpTask
from inferry.vectors import vectors_to_json
from tests.providers import (
    Connection,
    Provider,
    Received,
    begin_events,
    open_provider,
    send_event,
    send_json,
)
from tests.services.cases import Case, cases
from tests.services.driving import running, stream_of

ORIGIN = "https://api.openai.com"
DROPPED = ("accept", "x-stainless-")
DROPPED_NAMES = {"user-agent", "host", "connection", "content-length"}

CASES = [case for case in cases("cases") if case.service.name == "openai"]
STREAMS = [case for case in cases("streams") if case.service.name == "openai"]

every_call = pytest.mark.parametrize("case", [*CASES, *STREAMS], ids=str)
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_stream = pytest.mark.parametrize("case", STREAMS, ids=str)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with open_provider() as opened:
        yield opened


# --- what the SDK is told: the same logical input ------------------------------------------------


def sdk_client(case: Case, provider: Provider) -> AsyncOpenAI:
    endpoint = case.request.endpoint
    organization = endpoint.service_settings.get("organization_id")
    return AsyncOpenAI(
        base_url=f"{provider.url}/v1",
        api_key=endpoint.secrets["api_key"],
        organization=organization if isinstance(organization, str) else None,
        max_retries=0,
    )


def sdk_arguments(request: InferenceRequest) -> dict[str, Any]:
    """Say what is asked for in the words of the SDK."""
    task = request.task_settings
    asked: dict[str, Any] = {"model": request.endpoint.service_settings["model_id"]}
    asked |= {"user": task["user"]} if "user" in task else {}
    asked["extra_headers"] = task.get("headers", {})
    # What the caller adds goes along, but for what the request itself decides.
    ours = {"model", "stream"}
    asked["extra_body"] = {name: request.extra[name] for name in request.extra if name not in ours}
    return asked


def sdk_embeddings_arguments(request: InferenceRequest) -> dict[str, Any]:
    settings = request.endpoint.service_settings
    asked = sdk_arguments(request)
    asked["input"] = [one if isinstance(one, str) else one[0].value for one in request.inputs]
    if request.endpoint.dimensions_set_by_user:
        asked["dimensions"] = settings["dimensions"]
    return asked


def sdk_chat_arguments(request: InferenceRequest) -> dict[str, Any]:
    asked = sdk_arguments(request)
    if request.chat is None:
        (text,) = request.inputs
        asked["messages"] = [{"role": "user", "content": text}]
    else:
        asked |= msgspec.to_builtins(request.chat)
        if reasoning := asked.pop("reasoning", None):
            asked["reasoning_effort"] = reasoning["effort"]
    if request.stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return asked


async def ask_sdk(case: Case, provider: Provider) -> Any:
    """Give what the SDK makes of the reply; of a stream, its chunks."""
    async with sdk_client(case, provider) as client:
        if case.task_type.is_chunkable:
            return await client.embeddings.create(**sdk_embeddings_arguments(case.request))
        answer = await client.chat.completions.create(**sdk_chat_arguments(case.request))
        return [chunk async for chunk in answer] if case.request.stream else answer


async def ask_ours(case: Case, provider: Provider) -> Any:
    """Give what our service makes of the reply, its origin replaced by the provider's."""

    def build(request: InferenceRequest) -> HttpCall:
        call = case.task.build(request)
        path = call.url.partition("/v1/")[2]
        return replace(call, url=f"{provider.url}/v1/{path}")

    task: HttpTask = replace(case.task, build=build)
    async with running(case.service, case.request, task=task) as runners:
        if case.request.stream:
            return await stream_of(runners, case.request)
        return await runners.run(case.request)


# --- comparing -----------------------------------------------------------------------------------


def headers_of(received: Received) -> dict[str, str]:
    return {
        name: value
        for name, value in received.headers.items()
        if name not in DROPPED_NAMES and not name.startswith(DROPPED)
    }


def body_of_ours(received: Received, case: Case) -> dict[str, Any]:
    """Leave out what we always send and the SDK only when it is told to."""
    body: dict[str, Any] = received.json
    if body.get("stream") is False:
        del body["stream"]
    if "n" not in case.request.extra:
        body.pop("n", None)
    return body


def body_of_sdk(received: Received, case: Case) -> dict[str, Any]:
    """Leave out base64, the SDK's default, which we do not ask of servers behind another url."""
    body: dict[str, Any] = received.json
    if "url" in case.request.endpoint.service_settings:
        assert body.pop("encoding_format") == "base64"
    return body


def canned(case: Case) -> Any:
    """Give a behaviour that answers with the reply or the events of the file."""

    async def behave(connection: Connection, _: Received) -> None:
        if "reply" in case.written:
            await send_json(connection, case.written["reply"])
            return
        await begin_events(connection)
        for event in case.events:
            await send_event(connection, event.data.replace("[done]", "[DONE]"))
        await connection.send(b"0\r\n\r\n")

    return behave


@every_call
async def test_the_sdk_and_our_service_send_the_same_request(case, provider):
    provider.always(canned(case))

    await ask_sdk(case, provider)
    await ask_ours(case, provider)

    theirs, ours = provider.requests
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    assert headers_of(ours) == headers_of(theirs)
    assert body_of_ours(ours, case) == body_of_sdk(theirs, case)


@every_case
async def test_the_sdk_and_our_service_read_the_same_from_a_reply(case, provider):
    provider.always(canned(case))

    theirs = await ask_sdk(case, provider)
    ours = await ask_ours(case, provider)

    match ours:
        case DenseEmbeddings():
            vectors = [json.loads(row) for row in vectors_to_json(ours.vectors)]
            assert vectors == [row.embedding for row in sorted(theirs.data, key=lambda x: x.index)]
            assert ours.usage is not None
            assert ours.usage.input_tokens == theirs.usage.prompt_tokens
        case Completion():
            assert list(ours.texts) == [
                choice.message.content or choice.message.refusal for choice in theirs.choices
            ]
        case ChatChunk():
            assert same_chat(ours, theirs)


@every_stream
async def test_the_sdk_and_our_service_read_the_same_from_a_stream(case, provider):
    provider.always(canned(case))

    theirs = await ask_sdk(case, provider)
    ours = await ask_ours(case, provider)

    if case.request.chat is not None:
        assert len(ours) == len(theirs)
        assert all(same_chat(one, other) for one, other in zip(ours, theirs, strict=True))
    assert text_of(ours) == text_of(theirs) == case.written["text"]


@every_case
def test_the_sdk_accepts_our_canned_replies(case):
    reply = case.written["reply"]

    if not case.task_type.is_chunkable:
        assert ChatCompletion.model_validate(reply).id == reply["id"]
    elif isinstance(reply["data"][0]["embedding"], list):
        assert CreateEmbeddingResponse.model_validate(reply).model == reply["model"]


@every_stream
def test_the_sdk_accepts_our_canned_events(case):
    for event in case.events[:-1]:
        assert ChatCompletionChunk.model_validate_json(event.data).id == "chatcmpl-7"


def text_of(chunks: Any) -> str:
    return "".join(choice.delta.content or "" for one in chunks for choice in one.choices)


def same_chat(ours: ChatChunk, theirs: Any) -> bool:
    """Compare an answer or a chunk of ours with the SDK's, member by member."""
    assert (ours.id, ours.model, ours.created) == (theirs.id, theirs.model, theirs.created)
    for one, other in zip(ours.choices, theirs.choices, strict=True):
        said = other.delta if hasattr(other, "delta") else other.message
        assert (one.index, one.finish_reason) == (other.index, other.finish_reason)
        assert (one.delta.role, one.delta.content) == (said.role, said.content)
        assert one.delta.refusal == said.refusal
        calls = [call.model_dump(exclude_none=True) for call in said.tool_calls or []]
        assert [msgspec.to_builtins(call) for call in one.delta.tool_calls or []] == calls
    usage, counted = ours.usage, theirs.usage
    assert (usage is None) == (counted is None)
    if usage is not None:
        assert usage.input_tokens == counted.prompt_tokens
        assert usage.output_tokens == counted.completion_tokens
        assert usage.cached_tokens == counted.prompt_tokens_details.cached_tokens
        assert usage.reasoning_tokens == counted.completion_tokens_details.reasoning_tokens
    return True
