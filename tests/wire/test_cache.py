"""With `cache.max_bytes` set, a text that was embedded before does not reach the provider again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.providers import run_provider
from tests.server import run_server

pytestmark = pytest.mark.server


def test_the_same_text_reaches_the_provider_once(tmp_path: Path) -> None:
    with (
        run_provider() as provider,
        run_server(tmp_path / "data", environment={"INFERRY_CACHE__MAX_BYTES": "10MB"}) as server,
    ):
        settings = {"api_key": "k", "model_id": "m", "url": f"{provider.url}/v1/embeddings"}
        body = {"service": "openai", "service_settings": settings}
        server.call("PUT", "/_inference/text_embedding/docs", body)
        first = server.call("POST", "/_inference/docs", {"input": ["fox", "dog"]})
        provider.requests.clear()

        again = server.call("POST", "/_inference/docs", {"input": ["dog", "bird", "fox"]})

        vectors = [item["embedding"] for item in again.json["text_embedding"]]
        known = [item["embedding"] for item in first.json["text_embedding"]]
        assert [vectors[2], vectors[0]] == known
        assert [received.json["input"] for received in provider.requests] == [["bird"]]
