"""Deployments of a real server that rest when nobody asks, and come back when many do at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.models.folders import write_classifier, write_model, write_splade
from tests.server import Reply, Server, run_server

pytestmark = [pytest.mark.server, pytest.mark.faults]

MODELS = "/_ml/trained_models"
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("text_embedding", {"input": "hello"}),
    "sparse": ("sparse_embedding", {"input": "hello"}),
    "ranker": ("rerank", {"input": ["a", "b"], "query": "q"}),
}
CALLERS = 24


@pytest.fixture
def server(tmp_path):
    models = tmp_path / "models"
    write_model(models / "dense")
    write_splade(models / "sparse")
    write_classifier(models / "ranker")
    environment = {"INFERRY_MODELS__PATH": str(models), "INFERRY_ENGINE__IDLE_TIME": "1s"}
    with run_server(tmp_path / "data", workers=2, environment=environment) as running:
        yield running


def put(server: Server, model_id: str) -> str:
    """Create an endpoint whose allocations may fall to none, and give its path."""
    task_type, _ = TASKS[model_id]
    adaptive = {"enabled": True, "min_number_of_allocations": 0, "max_number_of_allocations": 4}
    settings = {"model_id": model_id, "num_threads": 1, "adaptive_allocations": adaptive}
    path = f"/_inference/{task_type}/on-{model_id}"
    body = {"service": "elasticsearch", "service_settings": settings}
    assert server.call("PUT", f"{path}?timeout=60s", body).status == 200
    return path


def allocations(server: Server, deployment_id: str) -> int:
    shown = server.call("GET", f"{MODELS}/{deployment_id}/_stats").json["trained_model_stats"]
    number: int = shown[0]["deployment_stats"]["number_of_allocations"]
    return number


def test_local_row_006_what_rests_comes_back_under_parallel_first_requests_and_none_fails(server):
    paths = {model_id: put(server, model_id) for model_id in TASKS}
    usual = {
        model_id: server.call("POST", paths[model_id], TASKS[model_id][1]) for model_id in TASKS
    }
    server.wait_until(lambda: not any(allocations(server, f"on-{one}") for one in TASKS))

    def ask(number: int) -> tuple[str, Reply]:
        model_id = list(TASKS)[number % len(TASKS)]
        return model_id, server.call("POST", paths[model_id], TASKS[model_id][1])

    with ThreadPoolExecutor(CALLERS) as callers:
        replies = list(callers.map(ask, range(3 * CALLERS)))

    assert [reply.status for _, reply in replies] == [200] * 3 * CALLERS
    for model_id, reply in replies:
        assert reply.content == usual[model_id].content
    assert [allocations(server, f"on-{one}") for one in TASKS] == [1, 1, 1]


def test_local_row_006_what_rests_comes_back_for_infer_by_every_id(server):
    path = put(server, "dense")
    usual = server.call("POST", path, TASKS["dense"][1]).json["text_embedding"][0]["embedding"]
    server.wait_until(lambda: not allocations(server, "on-dense"))

    def ask(model_id: str) -> Reply:
        body = {"docs": [{"text_field": "hello"}]}
        reply: Reply = server.call("POST", f"{MODELS}/{model_id}/_infer?timeout=60s", body)
        return reply

    with ThreadPoolExecutor(CALLERS) as callers:
        replies = list(callers.map(ask, ["on-dense", "dense"] * (CALLERS // 2)))

    assert [reply.status for reply in replies] == [200] * CALLERS
    for reply in replies:
        assert reply.json == {"inference_results": [{"predicted_value": usual}]}
