"""The service `openai` with `url` at infinity, a server of embeddings in OpenAI's format."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import pytest

from inferry.concurrency import run_all

TEXTS = ["hello there", "a", "The sky above the port, 7 times!"]
WIDTH = 32


def define(infinity, path: str = "/embeddings", **settings) -> dict[str, Any]:
    given = {"api_key": "a key", "model_id": infinity.model, "url": infinity.url + path}
    return {"service": "openai", "service_settings": {**given, **settings}}


def direct(infinity, texts: list[str]) -> list[list[float]]:
    """Ask infinity itself."""
    reply = infinity.post("/embeddings", {"model": infinity.model, "input": texts})
    return [row["embedding"] for row in reply["data"]]


@pytest.fixture(scope="module")
def endpoint(infinity, ours) -> str:
    path = "/_inference/text_embedding/infinity"
    created = ours.call("PUT", path, define(infinity))
    assert created.status == 200, created.content
    assert created.json["service_settings"]["dimensions"] == WIDTH
    return path


@pytest.mark.parametrize("count", [1, 3])
def test_vectors_are_those_that_it_gives_directly(infinity, ours, endpoint, count):
    answer = ours.call("POST", endpoint, {"input": TEXTS[:count]})

    assert answer.status == 200, answer.content
    found = [row["embedding"] for row in answer.json["text_embedding"]]
    assert found == [pytest.approx(row, abs=1e-6) for row in direct(infinity, TEXTS[:count])]


def test_the_task_embedding_gives_the_same(infinity, ours):
    path = "/_inference/embedding/infinity-all"
    created = ours.call("PUT", path, define(infinity))
    answer = ours.call("POST", path, {"input": TEXTS})

    assert created.status == 200, created.content
    found = [row["embedding"] for row in answer.json["embeddings"]]
    assert found == [pytest.approx(row, abs=1e-6) for row in direct(infinity, TEXTS)]


def test_the_openai_dialect_gives_the_same_in_base64(infinity, ours, endpoint):
    body = {"model": "infinity", "input": TEXTS, "encoding_format": "base64"}

    answer = ours.call("POST", "/v1/embeddings", body)

    rows = [base64.b64decode(row["embedding"]) for row in answer.json["data"]]
    found = [list(struct.unpack(f"<{WIDTH}f", row)) for row in rows]
    assert found == [pytest.approx(row, abs=1e-6) for row in direct(infinity, TEXTS)]


async def test_many_at_a_time_get_their_own(infinity, ours, endpoint):
    texts = [f"text {n}" for n in range(64)]

    answers = await run_all(
        asyncio.to_thread(ours.call, "POST", endpoint, {"input": text}) for text in texts
    )

    found = [answer.json["text_embedding"][0]["embedding"] for answer in answers]
    assert found == [pytest.approx(row, abs=1e-5) for row in direct(infinity, texts)]


def test_its_refusals_are_told_in_its_words(infinity, ours):
    path = "/_inference/text_embedding/infinity-lost"

    answer = ours.call("PUT", path, define(infinity, path="/nowhere"))

    assert answer.status == 404
    cause = answer.json["error"]["caused_by"]["reason"]
    assert cause.startswith(f"Resource not found at [{infinity.url}/nowhere]")
    assert cause.endswith("Error message: [Not Found]")


def test_another_format_than_its_own_is_refused_in_its_words(infinity, ours):
    settings = {"api_key": "a key", "url": f"{infinity.url}/embeddings"}
    body = {"service": "hugging_face", "service_settings": settings}

    answer = ours.call("PUT", "/_inference/text_embedding/infinity-other", body)

    assert answer.status == 422
    assert "Field required" in answer.json["error"]["caused_by"]["reason"]
