"""The calls of the OpenAI dialect, from a request to the bytes that answer it.

The middle and the service are the real ones; only the way to the provider is held in memory.
"""

import base64
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from inferry.api.exchange import Answer, Request
from inferry.api.openai.routes import openai_routes
from inferry.api.routes import Match, RouteTable
from inferry.calls import Event, HttpReply
from inferry.concurrency import Nursery
from inferry.core.inference import Inference, Timeouts
from inferry.core.runners.compose import compose, compose_local
from inferry.core.snapshot import Snapshot
from inferry.errors import InferenceError
from inferry.records import EndpointRecord, Put
from inferry.security.gate import Principal
from inferry.service import HttpTask
from inferry.services import elasticsearch
from inferry.services.openai import SERVICE
from inferry.telemetry import Metrics
from tests.core.engines import ToldEngine
from tests.providers import WIDTH, chat, chat_events, embeddings, vector_of

HELLO = [{"role": "user", "content": "hello"}]


@dataclass
class MemoryOutbound:
    """Answers calls as a provider would, and keeps their bodies."""

    status: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    cut_after: int | None = None
    closed: bool = False

    async def exchange(self, exchange, read):
        body = json.loads(exchange.call.body)
        self.bodies.append(body)
        told = embeddings(body) if "input" in body else chat(body)
        if self.status != 200:
            told = {"error": {"message": "no", "code": "no_quota", "type": "insufficient_quota"}}
        return read(HttpReply(self.status, {}, json.dumps(told).encode(), exchange.call.url))

    @asynccontextmanager
    async def stream(self, exchange, *, framing, refuse):
        body = json.loads(exchange.call.body)
        self.bodies.append(body)
        if self.status != 200:
            raise refuse(HttpReply(self.status, {}, b"{}"))
        try:
            yield self
        finally:
            self.closed = True

    async def events(self):
        for count, data in enumerate(chat_events(self.bodies[-1])):
            if count == self.cut_after:
                yield [Event(json.dumps({"error": {"message": "the model died"}}), "error")]
                return
            yield [Event(data)]


class Writer:
    """Knows the one secret."""

    async def submit(self, command):
        return {"api_key": "sk-1"}


class Limiter:
    """Lets everybody pass."""

    async def acquire(self, group, requests_per_minute, *, deadline):
        return 0.0


@dataclass
class Dialect:
    """The routes of the dialect, and the provider behind them."""

    table: RouteTable
    provider: MemoryOutbound

    async def call(self, method: str, path: str, body: object = None) -> Answer:
        """Give the answer, rendered by the route when it is an error."""
        match = self.table.find(method, path, path)
        assert isinstance(match, Match)
        raw = b"" if body is None else json.dumps(body).encode()
        request = Request(
            method, path, path, {}, {}, Principal("ada"), path_values=match.values, body=raw
        )
        try:
            return await match.route.answer(request)
        except InferenceError as error:
            return match.route.render_error(error, request)

    async def json(self, method: str, path: str, body: object = None):
        """Give the status and the decoded body."""
        answer = await self.call(method, path, body)
        assert not isinstance(answer.body, AsyncIterator)
        raw = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
        return answer.status, json.loads(raw)

    async def events(self, body: object, path: str = "/v1/chat/completions") -> list[str]:
        """Give the data of the events of a stream."""
        answer = await self.call("POST", path, body)
        assert answer.content_type == "text/event-stream"
        assert isinstance(answer.body, AsyncIterator)
        raw = b"".join([part async for part in answer.body]).decode()
        return [event.removeprefix("data: ") for event in raw.split("\n\n") if event]


def record(inference_id, task_type, *, service="openai", **settings: object):
    service_settings = {"model_id": "gpt", **settings}
    return Put(EndpointRecord(inference_id, task_type, service, service_settings, {}, None))


def unextended():
    """Give a service that knows the unified schema only."""
    tasks = {
        task_type: replace(task, forwards_extra=False)
        for task_type, task in SERVICE.tasks.items()
        if isinstance(task, HttpTask)
    }
    return replace(SERVICE, name="plain", tasks=tasks)


@pytest.fixture
async def dialect():
    """Give the dialect with embedding endpoints `e` and `p`, a chat `c` and a completion `w`."""
    snapshot = Snapshot(cores=2)
    snapshot.apply(
        [
            record("e", "text_embedding", dimensions=WIDTH),
            record("c", "chat_completion"),
            record("w", "completion"),
            record("p", "text_embedding", service="plain"),
        ]
    )
    provider, metrics, engine = MemoryOutbound(), Metrics(), ToldEngine()
    async with Nursery() as nursery:
        inference = Inference(
            snapshot,
            {"openai": SERVICE, "plain": unextended(), "elasticsearch": elasticsearch.SERVICE},
            compose=partial(
                compose, outbound=provider, limiter=Limiter(), count=metrics.count_upstream
            ),
            compose_local=partial(compose_local, engine=engine, start=engine.start),
            writer=Writer(),
            metrics=metrics,
            timeouts=Timeouts(),
            nursery=nursery,
        )
        yield Dialect(RouteTable(openai_routes(snapshot, inference)), provider)


# --- embeddings --------------------------------------------------------------------------------


async def test_texts_are_embedded_in_their_order(dialect):
    status, answer = await dialect.json(
        "POST", "/v1/embeddings", {"model": "e", "input": ["a", "b"]}
    )

    assert status == 200
    assert [one["embedding"] for one in answer["data"]] == [vector_of("a"), vector_of("b")]
    assert answer["model"] == "e"
    assert answer["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


async def test_base64_gives_the_same_vectors_as_numbers(dialect):
    asked = {"model": "e", "input": "a text", "encoding_format": "base64"}

    _, answer = await dialect.json("POST", "/v1/embeddings", asked)

    raw = base64.b64decode(answer["data"][0]["embedding"])
    assert list(struct.unpack(f"<{WIDTH}f", raw)) == vector_of("a text")


async def test_a_local_model_embeds_too(dialect):
    asked = {"model": ".minilm-l6-v2", "input": ["abc", "d"], "dimensions": 1}

    status, answer = await dialect.json("POST", "/v1/embeddings", asked)
    refused, told = await dialect.json("POST", "/v1/embeddings", asked | {"dimensions": 2})

    assert status == 200
    assert [item["embedding"] for item in answer["data"]] == [[3.0], [1.0]]
    assert answer["usage"]["prompt_tokens"] == 7
    assert (refused, told["error"]["param"]) == (400, "dimensions")
    assert "must be [1]" in told["error"]["message"]


async def test_dimensions_are_accepted_when_they_are_those_of_the_endpoint(dialect):
    right = {"model": "e", "input": "a", "dimensions": WIDTH}
    wrong = right | {"dimensions": 3}

    assert (await dialect.json("POST", "/v1/embeddings", right))[0] == 200
    status, answer = await dialect.json("POST", "/v1/embeddings", wrong)
    assert (status, answer["error"]["param"]) == (400, "dimensions")
    assert "dimensions" not in dialect.provider.bodies[0]


async def test_other_parameters_reach_the_provider(dialect):
    await dialect.call("POST", "/v1/embeddings", {"model": "e", "input": "a", "user": "ada"})

    assert dialect.provider.bodies[0]["user"] == "ada"


async def test_a_parameter_that_the_service_would_lose_is_refused_by_name(dialect):
    asked = {"model": "p", "input": "a", "user": "ada"}

    status, answer = await dialect.json("POST", "/v1/embeddings", asked)

    assert (status, answer["error"]["param"]) == (400, "user")
    assert dialect.provider.bodies == []


async def test_a_model_that_is_no_endpoint_is_not_found(dialect):
    status, answer = await dialect.json("POST", "/v1/embeddings", {"model": "x", "input": "a"})

    assert status == 404
    assert answer["error"] == {
        "message": "Inference endpoint not found [x]",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }


async def test_an_endpoint_of_another_type_is_refused(dialect):
    status, answer = await dialect.json("POST", "/v1/embeddings", {"model": "c", "input": "a"})

    assert status == 400
    assert (
        "[text_embedding] does not match the model type [chat_completion]"
        in (answer["error"]["message"])
    )


async def test_a_refusal_of_the_provider_keeps_its_status_and_code(dialect):
    dialect.provider.status = 429

    status, answer = await dialect.json("POST", "/v1/embeddings", {"model": "e", "input": "a"})

    assert (status, answer["error"]["code"]) == (429, "no_quota")


async def test_a_failure_of_the_provider_is_a_bad_gateway(dialect):
    dialect.provider.status = 503

    answer = await dialect.call("POST", "/v1/embeddings", {"model": "e", "input": "a"})

    assert (answer.status, answer.headers["X-Inferry-Upstream-Status"]) == (502, "503")


# --- chat --------------------------------------------------------------------------------------


async def test_a_chat_is_answered_whole(dialect):
    asked = {"model": "c", "messages": HELLO, "seed": 7, "response_format": {"type": "text"}}

    status, answer = await dialect.json("POST", "/v1/chat/completions", asked)

    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "You said: hello"
    assert answer["usage"]["total_tokens"] == 7
    sent = dialect.provider.bodies[0]
    assert (sent["model"], sent["seed"], sent["response_format"]) == ("gpt", 7, {"type": "text"})


async def test_messages_reach_the_provider_with_every_member(dialect):
    messages = [{"role": "user", "content": "hello", "name": "ada"}]

    await dialect.call("POST", "/v1/chat/completions", {"model": "c", "messages": messages})

    assert dialect.provider.bodies[0]["messages"] == messages


async def test_a_chat_is_streamed_to_its_end(dialect):
    asked = {"model": "c", "messages": HELLO, "stream": True}

    *told, last = await dialect.events(asked)

    chunks = [json.loads(one) for one in told]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "You said: hello"
    assert not any("usage" in chunk for chunk in chunks)
    assert last == "[DONE]"
    assert dialect.provider.closed


async def test_a_stream_has_its_usage_last_when_it_was_asked_for(dialect):
    asked = {
        "model": "c",
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    *told, usage, last = await dialect.events(asked)

    assert json.loads(usage)["usage"]["total_tokens"] == 7
    assert all(json.loads(one)["usage"] is None for one in told)
    assert last == "[DONE]"


async def test_what_fails_before_a_stream_begins_has_a_status(dialect):
    dialect.provider.status = 401

    asked = {"model": "c", "messages": HELLO, "stream": True}
    status, answer = await dialect.json("POST", "/v1/chat/completions", asked)

    assert status == 401
    assert "authentication" in answer["error"]["message"]


async def test_what_fails_within_a_stream_is_its_last_event(dialect):
    dialect.provider.cut_after = 2

    *_, last = await dialect.events({"model": "c", "messages": HELLO, "stream": True})

    assert "the model died" in json.loads(last)["error"]["message"]


async def test_a_stream_that_nobody_reads_any_more_hangs_up_on_the_provider(dialect):
    asked = {"model": "c", "messages": HELLO, "stream": True}
    answer = await dialect.call("POST", "/v1/chat/completions", asked)

    await anext(answer.body)
    await answer.body.aclose()

    assert dialect.provider.closed


async def test_the_path_of_one_endpoint_serves_as_a_base_url(dialect):
    path = "/_inference/chat_completion/c/chat/completions"

    status, _ = await dialect.json("POST", path, {"messages": HELLO})
    assert status == 200
    await dialect.json("POST", path, {"model": "c", "messages": HELLO})
    await dialect.json("POST", path, {"model": "gpt-other", "messages": HELLO})

    assert [body["model"] for body in dialect.provider.bodies] == ["gpt", "gpt", "gpt-other"]


@pytest.mark.parametrize(
    ("members", "status", "param"),
    [({}, 400, "model"), ({"model": "x"}, 404, None), ({"model": "w"}, 400, None)],
)
async def test_a_chat_needs_the_id_of_a_chat_endpoint(dialect, members, status, param):
    asked = {"messages": HELLO} | members

    found, answer = await dialect.json("POST", "/v1/chat/completions", asked)

    assert (found, answer["error"]["param"]) == (status, param)


# --- models ------------------------------------------------------------------------------------


async def test_models_are_the_endpoints_that_can_be_run_here(dialect):
    status, answer = await dialect.json("GET", "/v1/models")

    ids = [model["id"] for model in answer["data"]]
    assert status == 200
    assert {"c", "e"} < set(ids)
    assert "w" not in ids
    assert ids == sorted(ids)


async def test_one_model_is_shown_by_its_id(dialect):
    status, answer = await dialect.json("GET", "/v1/models/e")

    assert (status, answer["id"], answer["owned_by"]) == (200, "e", "openai")


@pytest.mark.parametrize("inference_id", ["x", "w"])
async def test_a_model_that_cannot_be_run_here_is_not_found(dialect, inference_id):
    status, answer = await dialect.json("GET", f"/v1/models/{inference_id}")

    assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_every_route_asks_for_the_right_to_run(dialect):
    assert {route.action for route in dialect.table.routes} == {
        "cluster:monitor/xpack/inference/post"
    }
