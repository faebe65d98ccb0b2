"""With `cache.max_bytes` set, a text that was embedded before does not reach the provider again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.folders import write_model
from tests.providers import run_provider
from tests.server import Server, run_server

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


def test_the_cache_of_a_deployment_is_cleared_in_every_process(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "dense")
    environment = {
        "INFERRY_CACHE__MAX_BYTES": "10MB",
        "INFERRY_MODELS__PATH": str(tmp_path / "models"),
    }
    settings = {"model_id": "dense", "num_allocations": 1, "num_threads": 1}
    body = {"service": "elasticsearch", "service_settings": settings}
    with run_server(tmp_path / "data", workers=2, environment=environment) as server:
        assert server.call("PUT", "/_inference/text_embedding/e", body).status == 200
        connections = server.connections(each=1)

        def computed_for_a_text() -> int:
            """Send a text to both processes, and count how often it was computed."""
            before = _inference_count(server)
            for one in connections:
                assert one.call("POST", "/_inference/e", {"input": "fox"}).status == 200
            return _inference_count(server) - before

        first, again = computed_for_a_text(), computed_for_a_text()
        cleared = server.call("POST", "/_ml/trained_models/e/deployment/cache/_clear")
        anew = computed_for_a_text()

        assert cleared.json == {"cleared": True}
        assert (first, again, anew) == (2, 0, 2)
        nowhere = server.call("POST", "/_ml/trained_models/x/deployment/cache/_clear")
        assert nowhere.status == 404
        assert nowhere.json["error"]["type"] == "resource_not_found_exception"
        assert nowhere.json["error"]["reason"] == "No known model deployment with id [x]"


def _inference_count(server: Server) -> int:
    (row,) = server.call("GET", "/_ml/trained_models/e/_stats").json["trained_model_stats"]
    return int(row["deployment_stats"]["inference_count"])
