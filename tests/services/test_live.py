"""Every task of every service over HTTP: a real server, its provider on loopback."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from inferry.core.regions import region_of
from inferry.domain import TaskType
from tests.providers import Provider, run_provider, send_json
from tests.server import Server, run_server
from tests.services import simulated
from tests.services.cases import SERVICES
from tests.services.offers import (
    IN_REGION,
    OFFERS,
    STREAMED,
    Offer,
    body_of,
    endpoint_at,
    every,
    unmeasured,
)

pytestmark = pytest.mark.server

_numbers = itertools.count(1)
CHAT = next(offer for offer in OFFERS if str(offer) == "openai-chat_completion")
COHERE = next(offer for offer in OFFERS if str(offer) == "cohere-text_embedding")


@dataclass
class Live:
    """A server with a provider that stands for all vendors."""

    server: Server
    provider: Provider

    @contextmanager
    def endpoint(self, offer: Offer, **settings: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Create the endpoint of an offer and give its path and the answer; deleted at the end."""
        path = f"/_inference/{offer.task_type}/live-{next(_numbers)}"
        body = body_of(endpoint_at(offer, self.provider.url))
        body["service_settings"] |= settings
        answer = self.server.call("PUT", path, body)
        assert answer.status == 200, answer.content
        try:
            yield path, answer.json
        finally:
            deleted = self.server.call("DELETE", path)
        assert deleted.status == 200
        assert self.server.call("GET", path).status == 404


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[Live]:
    with run_provider() as provider:
        provider.always(simulated.answer)
        origins = {
            f"INFERRY_OUTBOUND__BASE_URLS__{name.upper()}": provider.url for name in SERVICES
        }
        data_dir = tmp_path_factory.mktemp("live") / "data"
        with run_server(data_dir, environment=origins) as server:
            yield Live(server, provider)
            log = server.log.read_text()
    assert "sk-marker" not in log


def asked(offer: Offer, text: str) -> dict[str, Any]:
    match offer.task_type:
        case TaskType.CHAT_COMPLETION:
            return {"messages": [{"role": "user", "content": text}]}
        case TaskType.RERANK:
            return {"query": "q", "input": [text, "another"]}
        case TaskType.COMPLETION:
            return {"input": text}
        case _:
            return {"input": [text, "another"]}


def said(offer: Offer, answer: dict[str, Any]) -> Any:
    """Give what an answer says of the first input."""
    match offer.task_type:
        case TaskType.CHAT_COMPLETION:
            return answer["choices"][0]["message"]["content"]
        case TaskType.RERANK:
            return next(one for one in answer["rerank"] if one["index"] == 0)["relevance_score"]
        case TaskType.COMPLETION:
            return answer["completion"][0]["result"]
        case TaskType.EMBEDDING:
            return answer["embeddings"][0]["embedding"]
        case kind:
            return answer[kind][0]["embedding"]


def expected(offer: Offer, text: str) -> Any:
    match offer.task_type:
        case TaskType.CHAT_COMPLETION | TaskType.COMPLETION:
            return simulated.reply_text(text)
        case TaskType.RERANK:
            return simulated.score_of(text)
        case TaskType.SPARSE_EMBEDDING:
            return simulated.weights_of(text)
        case _:
            return simulated.vector_of(text)


@every()
def test_an_endpoint_is_created_read_and_run(offer, live):
    with live.endpoint(offer) as (path, created):
        read = live.server.call("GET", path).json["endpoints"][0]
        answer = live.server.call("POST", path, asked(offer, "hello there"))

    assert read == created
    assert "sk-marker" not in json.dumps(created)
    assert answer.status == 200, answer.content
    assert said(offer, answer.json) == expected(offer, "hello there")


@every(STREAMED)
def test_an_answer_is_streamed(offer, live):
    with live.endpoint(offer) as (path, _):
        answer = live.server.call("POST", f"{path}/_stream", asked(offer, "hello there"))

    *chunks, end = re.findall(r"^data: (.*)$", answer.content.decode(), re.MULTILINE)
    read = [json.loads(one) for one in chunks]
    if offer.task_type is TaskType.CHAT_COMPLETION:
        pieces = [one["delta"].get("content") for chunk in read for one in chunk["choices"]]
    else:
        pieces = [one["delta"] for chunk in read for one in chunk["completion"]]
    assert end == "[DONE]"
    assert "".join(piece or "" for piece in pieces) == simulated.reply_text("hello there")


@every()
def test_a_refusal_of_the_provider_is_answered_without_its_secrets(offer, live):
    async def refuse(connection, received):
        if received.path.endswith("/token"):
            await simulated.answer(connection, received)
            return
        said = f"not with {' or '.join(sorted(received.headers.values()))}"
        body = simulated.error_body(offer.service.name, 400, said)
        await send_json(connection, body, status=400)

    with live.endpoint(offer) as (path, _):
        live.provider.always(refuse)
        answer = live.server.call("POST", path, asked(offer, "hello there"))
        live.provider.always(simulated.answer)

    assert answer.status == 400
    assert b"not with" in answer.content
    assert b"sk-marker" not in answer.content


def test_a_provider_that_always_fails_is_left_alone_and_the_caller_told_until_when(live):
    async def fail(connection, received):
        await send_json(connection, {"error": {"message": "down"}}, status=502)

    with live.endpoint(CHAT, api_key="an account of its own") as (path, _):
        live.provider.always(fail)
        answers = [live.server.call("POST", path, asked(CHAT, "hi")) for _ in range(11)]
        live.provider.always(simulated.answer)

    *failed, refused = answers
    assert {answer.status for answer in failed} == {400}
    assert refused.status == 429
    assert refused.json["error"]["type"] == "es_rejected_execution_exception"
    assert 1 <= int(refused.headers["retry-after"]) <= 5


@every(IN_REGION)
def test_an_endpoint_outside_the_region_policy_is_neither_created_nor_run(offer, live):
    region = region_of(offer.service.name, offer.case.request.endpoint.service_settings)
    assert region is not None
    policy = {"allowed_regions": [{"csp": region.csp, "region": "elsewhere"}]}
    address = "/_inference/_region_policy"
    named = unmeasured(offer)
    body = body_of(named)

    with live.endpoint(offer, **named.service_settings) as (path, _):
        forced = live.server.call("PUT", f"{address}?force=true", {"region_policy": policy})
        assert forced.status == 200, forced.content
        created = live.server.call("PUT", f"{path}-2", body)
        run = live.server.call("POST", path, asked(offer, "hi"))
        assert live.server.call("DELETE", address).status == 200

    assert (created.status, run.status) == (403, 403)
    assert f"[{region.name}]" in created.json["error"]["reason"]


@pytest.mark.parametrize(
    ("embedding_type", "root", "similarity", "dimensions"),
    [
        ("float", "text_embedding", "dot_product", simulated.WIDTH),
        ("byte", "text_embedding_bytes", "dot_product", simulated.WIDTH),
        ("bit", "text_embedding_bits", "l2_norm", simulated.WIDTH * 8),
    ],
)
def test_elements_of_every_type_go_through_with_the_width_and_similarity_that_fit(
    live, embedding_type, root, similarity, dimensions
):
    with live.endpoint(COHERE, embedding_type=embedding_type) as (path, created):
        answer = live.server.call("POST", path, {"input": ["hello"]}).json

    settings = created["service_settings"]
    assert (settings["similarity"], settings["dimensions"]) == (similarity, dimensions)
    of = simulated.vector_of if embedding_type == "float" else simulated.bytes_of
    assert answer == {root: [{"embedding": of("hello")}]}
