"""Deployments over the wire: the verbs, what they refuse, and what stats tell."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.models.folders import write_classifier, write_json, write_model, write_splade
from tests.server import Reply, run_server
from tests.wire.conftest import Wire, new_id

MODELS = "/_ml/trained_models"
DENSE = "text_embedding"
ONE = {"num_allocations": 1, "num_threads": 1}
BUILT_IN = {
    ".elser-2-elasticsearch": ("sparse_embedding", {"input": "hello"}, "sparse_embedding"),
    ".multilingual-e5-small-elasticsearch": ("text_embedding", {"input": "hello"}, "embedding"),
    ".rerank-v1-elasticsearch": ("rerank", {"input": ["a", "b"], "query": "q"}, "rerank"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory, provider) -> Iterator[Wire]:
    """Run a server with tiny models, some of them behind the built-in ids."""
    top = tmp_path_factory.mktemp("deployments")
    models = top / "models"
    aliases = {
        ".elser_model_2": write_splade(models / "sparse"),
        ".multilingual-e5-small": write_model(models / "dense"),
        ".rerank-v1": write_classifier(models / "ranker"),
        ".rerank-v1-int8": write_classifier(models / "copy"),
    }
    settings = models / "copy/config_sentence_transformers.json"
    write_json(settings, {"inferry_truncation": "balanced"})
    write_model(models / "Nested/dense")
    (models / "broken").mkdir()
    (models / "broken/config.json").write_text("{}")
    lines = [f'"{model_id}" = "{folder}"' for model_id, folder in aliases.items()]
    config = top / "inferry.toml"
    config.write_text(
        f'[models]\npath = "{models}"\nallow_download = "never"\n[models.aliases]\n'
        + "\n".join(lines)
    )
    with run_server(top / "data", "--config", str(config), auth=True) as server:
        yield Wire(server, provider)


def start(house: Wire, model_id: str = "dense", query: str = "", body: Any = None) -> Reply:
    return house.post(f"{MODELS}/{model_id}/deployment/_start{query}", body)


def stats(house: Wire, deployment_id: str) -> dict[str, Any]:
    reply = house.get(f"{MODELS}/{deployment_id}/_stats")
    assert reply.status == 200, reply.content
    (row,) = reply.json["trained_model_stats"]
    shown: dict[str, Any] = row["deployment_stats"]
    return shown


@pytest.fixture
def deployed(house) -> Iterator[str]:
    """Start a deployment; it is stopped at the end."""
    deployment_id = new_id("deployment")
    reply = start(house, "dense", f"?deployment_id={deployment_id}&wait_for=fully_allocated")
    assert reply.status == 200, reply.content
    yield deployment_id
    house.post(f"{MODELS}/{deployment_id}/deployment/_stop?force=true")


# --- the verbs ---------------------------------------------------------------------------------


def test_a_start_answers_with_the_assignment(house):
    reply = start(
        house,
        "dense",
        "?deployment_id=shown&timeout=60s&wait_for=started",
        {"number_of_allocations": 2, "queue_capacity": 50},
    )

    assignment = reply.json["assignment"]
    parameters = assignment["task_parameters"]
    assert parameters["model_bytes"] > 1000
    assert parameters == {
        "model_id": "dense",
        "deployment_id": "shown",
        "model_bytes": parameters["model_bytes"],
        "threads_per_allocation": 1,
        "number_of_allocations": 2,
        "queue_capacity": 50,
        "cache_size": f"{parameters['model_bytes']}b",
        "priority": "normal",
        "per_deployment_memory_bytes": 0,
        "per_allocation_memory_bytes": 0,
    }
    (routing,) = assignment["routing_table"].values()
    assert routing == {
        "current_allocations": 2,
        "target_allocations": 2,
        "routing_state": "started",
        "reason": "",
    }
    assert assignment["assignment_state"] == "started"
    assert assignment["max_assigned_allocations"] == 2
    assert assignment["adaptive_allocations"] is None
    assert assignment["start_time"].endswith("Z")
    stopped = house.post(f"{MODELS}/shown/deployment/_stop")
    assert stopped.json == {"stopped": True}


def test_older_names_of_parameters_are_understood(house):
    reply = start(house, "dense", "?deployment_id=old&model_threads=2&inference_threads=1")

    assert reply.json["assignment"]["task_parameters"]["number_of_allocations"] == 2
    house.post(f"{MODELS}/old/deployment/_stop")


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "text"),
    [
        ("nowhere", None, 404, "resource_not_found_exception", "with model_id [nowhere]"),
        ("dense?threads_per_allocation=3", None, 400, "action_request", "power of 2"),
        ("dense?wait_for=ready", None, 400, "illegal_argument", "invalid [wait_for] [ready]"),
        ("dense?priority=high", None, 400, "illegal_argument", "invalid [priority] [high]"),
        ("dense?queue_capacity=x", None, 400, "illegal_argument", "[queue_capacity]"),
        ("dense?timeout=0s", None, 400, "action_request", "[timeout] must be positive"),
        ("dense?unknown=1", None, 400, "illegal_argument", "unrecognized parameter"),
        ("dense", {"unknown": 1}, 400, "x_content_parse", "unknown field [unknown]"),
        ("dense", {"number_of_allocations": "a"}, 400, "x_content_parse", "number_of_all"),
        ("broken", None, 500, "status_exception", "Could not start trained model deployment"),
    ],
)
def test_a_start_that_cannot_be_is_refused(house, path, body, status, kind, text):  # noqa: PLR0917
    model_id, _, query = path.partition("?")

    reply = start(house, model_id, f"?{query}" if query else "", body)

    assert reply.status == status, reply.content
    assert kind in reply.json["error"]["type"]
    assert text in reply.json["error"]["reason"]
    rows = house.get(f"{MODELS}/{model_id}*/_stats").json["trained_model_stats"]
    assert [row for row in rows if "deployment_stats" in row] == []


def test_what_runs_cannot_be_started_again(house, deployed):
    reply = start(house, "dense", f"?deployment_id={deployed}")

    text = f"Cannot start deployment [{deployed}] because it has already been started"
    house.refused(409, "status_exception", text, reply)


def test_an_update_changes_the_allocations_that_get_shows(house, deployed):
    body = {"service": "elasticsearch", "service_settings": {"deployment_id": deployed}}
    guest = new_id("guest")
    assert house.put(f"/_inference/{DENSE}/{guest}", body).status == 200

    reply = house.post(f"{MODELS}/{deployed}/deployment/_update", {"number_of_allocations": 3})

    assert reply.json["assignment"]["task_parameters"]["number_of_allocations"] == 3
    assert stats(house, deployed)["number_of_allocations"] == 3
    shown = house.get(f"/_inference/{guest}").json["service_settings"]
    vectors = {"dimensions": 16, "similarity": "cosine", "element_type": "float"}
    of_deployment = {"num_allocations": 3, "model_id": "dense", "deployment_id": deployed}
    assert shown == {**ONE, **of_deployment, **vectors}
    house.delete(f"/_inference/{guest}")


# --- attached endpoints ------------------------------------------------------------------------


def test_local_row_004_an_endpoint_attaches_and_the_deployment_survives_it(house, deployed):
    for settings in ({"deployment_id": deployed}, {"deployment_id": deployed, "model_id": "dense"}):
        guest = new_id("guest")
        body = {"service": "elasticsearch", "service_settings": settings}
        assert house.put(f"/_inference/{DENSE}/{guest}", body).status == 200
        run = house.post(f"/_inference/{guest}", {"input": "hello"})
        assert len(run.json["text_embedding"][0]["embedding"]) == 16
        assert house.delete(f"/_inference/{guest}").status == 200

    assert stats(house, deployed)["state"] == "started"


@pytest.mark.parametrize(
    ("settings", "task_type", "text"),
    [
        ({"deployment_id": "nowhere"}, DENSE, "Cannot find deployment [nowhere]"),
        ({"model_id": "x"}, DENSE, "uses model [dense] which does not match the model [x]"),
        ({}, "rerank", "type [text_embedding] does not match the requested task type [rerank]"),
    ],
)
def test_local_row_004_what_does_not_fit_is_refused(house, deployed, settings, task_type, text):
    body = {"service": "elasticsearch", "service_settings": {"deployment_id": deployed} | settings}

    reply = house.put(f"/_inference/{task_type}/{new_id('guest')}", body)

    assert reply.status == (404 if "Cannot find" in text else 400)
    assert text in reply.json["error"]["reason"]


def test_local_row_005_what_an_endpoint_made_is_stopped_with_force_only(house):
    inference_id = new_id("owner")
    body = {"service": "elasticsearch", "service_settings": {**ONE, "model_id": "dense"}}
    assert house.put(f"/_inference/{DENSE}/{inference_id}", body).status == 200

    refused = house.post(f"{MODELS}/{inference_id}/deployment/_stop")
    forced = house.post(f"{MODELS}/{inference_id}/deployment/_stop?force")

    text = (
        f"Cannot stop deployment [{inference_id}] as it was created by inference endpoint "
        f"[{inference_id}]"
    )
    house.refused(409, "status_exception", text, refused)
    assert forced.json == {"stopped": True}
    run = house.post(f"/_inference/{inference_id}", {"input": "hello"})
    house.refused(404, "resource_not_found_exception", "is not deployed", run)
    assert house.delete(f"/_inference/{inference_id}").status == 200


# --- copies of built-in models -----------------------------------------------------------------


@pytest.mark.parametrize("model_id", [".rerank-v1", ".rerank-v1-int8"])
def test_a_copy_of_a_built_in_model_is_listed_and_cuts_pairs_as_that_does(house, model_id):
    put = house.put(f"{MODELS}/{model_id}", {})
    assert put.status == 200, put.content
    (tokenization,) = put.json["inference_config"]["text_similarity"]["tokenization"].values()
    assert tokenization["truncate"] == "balanced"

    deployment_id = new_id("deployment")
    start(house, model_id, f"?deployment_id={deployment_id}")
    pair = {
        "docs": [{"text_field": "b " * 50}],
        "inference_config": {"text_similarity": {"text": "a " * 50}},
    }
    (found,) = house.post(f"{MODELS}/{deployment_id}/_infer", pair).json["inference_results"]

    assert found["is_truncated"]
    house.post(f"{MODELS}/{deployment_id}/deployment/_stop?force=true")
    assert house.delete(f"{MODELS}/{model_id}").status == 200


# --- stats -------------------------------------------------------------------------------------


def test_stats_tell_what_was_done(house, deployed):
    guest = new_id("guest")
    body = {"service": "elasticsearch", "service_settings": {"deployment_id": deployed}}
    house.put(f"/_inference/{DENSE}/{guest}", body)
    house.post(f"/_inference/{guest}", {"input": ["a", "b", "c"]})

    shown = stats(house, deployed)

    assert shown["inference_count"] == 3
    assert shown["allocation_status"] == {
        "allocation_count": 1,
        "target_allocation_count": 1,
        "state": "fully_allocated",
    }
    (node,) = shown["nodes"]
    assert node["routing_state"] == {"routing_state": "started"}
    assert node["inference_count"] == 3
    assert node["average_inference_time_ms"] > 0
    assert node["number_of_pending_requests"] == 0
    assert node["last_access"] >= shown["start_time"]
    house.delete(f"/_inference/{guest}")


def test_stats_tell_how_a_loaded_model_computes(house, deployed):
    shown = stats(house, deployed)["inferry_arithmetic"]

    assert shown["precision"] in {"f32", "bf16"}
    assert ("cosine" in shown) == (shown["precision"] == "bf16")


def test_stats_are_found_by_model_deployment_and_pattern(house, deployed):
    def ids(expression: str) -> list[str]:
        rows = house.get(f"{MODELS}/{expression}/_stats").json["trained_model_stats"]
        deployed = [row["deployment_stats"] for row in rows if "deployment_stats" in row]
        return [one["deployment_id"] for one in deployed]

    assert ids(deployed) == [deployed]
    assert deployed in ids("dense")
    assert deployed in ids("deployment-*")
    assert deployed in ids("_all")
    assert ids("none*") == []
    every = house.get(f"{MODELS}/_stats").json
    assert every["count"] == len(every["trained_model_stats"]) >= 1
    assert house.get(f"{MODELS}/none*/_stats?allow_no_match=false").status == 404
    assert house.get(f"{MODELS}/nothing/_stats").status == 404
    assert house.get(f"{MODELS}/_stats?size=1000").status == 200
    assert house.get(f"{MODELS}/_stats?size=1001").status == 400


def test_local_row_007_what_is_more_than_the_queue_takes_is_refused(house):
    assert start(house, "dense", "?deployment_id=narrow&queue_capacity=1").status == 200
    guest = new_id("guest")
    body = {"service": "elasticsearch", "service_settings": {"deployment_id": "narrow"}}
    house.put(f"/_inference/{DENSE}/{guest}", body)
    path = f"/_inference/{guest}"

    with ThreadPoolExecutor(1) as callers:
        long = callers.submit(house.post, path, {"input": ["one two three"] * 20_000})
        while not stats(house, "narrow")["nodes"][0]["number_of_pending_requests"]:
            assert not long.done()
        refused = house.post(path, {"input": "hello"})

        text = "inference process queue is full. Unable to execute command"
        house.refused(429, "es_rejected_execution_exception", text, refused)
        assert long.result().status == 200
    assert stats(house, "narrow")["rejected_execution_count"] == 1
    house.delete(path)
    house.post(f"{MODELS}/narrow/deployment/_stop")


def test_local_row_007_requests_that_take_too_long_are_told(house, deployed):
    guest = new_id("guest")
    body = {"service": "elasticsearch", "service_settings": {"deployment_id": deployed}}
    house.put(f"/_inference/{DENSE}/{guest}", body)
    path, texts = f"/_inference/{guest}?timeout=1ms", {"input": ["one two three"] * 5_000}
    vendor = "application/vnd.elasticsearch+json; compatible-with=8"
    headers: dict[str, str | None] = {"Accept": vendor, "Content-Type": vendor}

    newer, older = house.post(path, texts), house.post(path, texts, headers=headers)

    house.refused(429, "timeout_exception", "Request timed out after [1ms]", newer)
    assert older.status == 408
    house.delete(f"/_inference/{guest}")


def test_local_row_007_infer_refuses_what_is_more_than_the_queue_takes(house):
    assert start(house, "dense", "?deployment_id=tight&queue_capacity=1").status == 200
    guest, path = new_id("guest"), f"{MODELS}/tight/_infer"
    body = {"service": "elasticsearch", "service_settings": {"deployment_id": "tight"}}
    house.put(f"/_inference/{DENSE}/{guest}", body)

    with ThreadPoolExecutor(1) as callers:
        busy = callers.submit(
            house.post, f"/_inference/{guest}", {"input": ["one two three"] * 20_000}
        )
        while not stats(house, "tight")["nodes"][0]["number_of_pending_requests"]:
            assert not busy.done()
        refused = house.post(path, {"docs": [{"text_field": "hello"}]})

        text = "inference process queue is full. Unable to execute command"
        house.refused(429, "es_rejected_execution_exception", text, refused)
        assert busy.result().status == 200
    again = house.post(path, {"docs": [{"text_field": "hello"}]})
    assert len(again.json["inference_results"][0]["predicted_value"]) == 16
    house.delete(f"/_inference/{guest}")
    house.post(f"{MODELS}/tight/deployment/_stop")


@pytest.mark.parametrize("version", ["8", "9"])
def test_local_row_007_infer_that_takes_too_long_is_told_to_every_client(house, deployed, version):
    vendor = f"application/vnd.elasticsearch+json; compatible-with={version}"
    headers: dict[str, str | None] = {"Accept": vendor, "Content-Type": vendor}
    docs = {"docs": [{"text_field": "one two three"}] * 5_000}

    late = house.post(f"{MODELS}/{deployed}/_infer?timeout=1ms", docs, headers=headers)

    assert late.status == 408
    assert "Request timed out after [1ms]" in late.json["error"]["reason"]
    assert house.post(f"{MODELS}/{deployed}/_infer", {"docs": docs["docs"][:1]}).status == 200


# --- built-in models ---------------------------------------------------------------------------


def test_a_built_in_id_is_put_and_asked_whatever_model_stands_behind_it(house):
    """Here it is a folder, which a package would be in Elasticsearch."""
    path = f"{MODELS}/.multilingual-e5-small"

    put = house.put(f"{path}?wait_for_completion=true", {"input": {"field_names": ["text_field"]}})
    shown = house.get(f"{path}?include=definition_status").json["trained_model_configs"][0]
    started = start(house, ".multilingual-e5-small", "?deployment_id=put&timeout=60s")
    asked = house.post(f"{MODELS}/put/_infer", {"docs": [{"text_field": "hello"}]})
    in_use = house.delete(path)
    gone = house.delete(f"{path}?force=true")

    assert (put.status, started.status, in_use.status, gone.status) == (200, 200, 409, 200)
    assert shown["fully_defined"] is True
    assert shown["prefix_strings"] == {"search": "query: ", "ingest": "passage: "}
    assert "model_package" not in shown
    assert len(asked.json["inference_results"][0]["predicted_value"]) > 1
    assert house.get(path).status == 404
    again = start(house, ".multilingual-e5-small", "?deployment_id=put&timeout=60s")
    assert again.status == 200
    house.post(f"{MODELS}/put/deployment/_stop")


# --- preconfigured endpoints -------------------------------------------------------------------


@pytest.mark.parametrize("inference_id", BUILT_IN)
def test_local_row_003_parallel_first_requests_of_a_preconfigured_endpoint_all_succeed(
    house, inference_id
):
    task_type, body, _ = BUILT_IN[inference_id]
    path = f"/_inference/{task_type}/{inference_id}"
    before = house.get(path).json["service_settings"]
    assert "num_allocations" not in before

    with ThreadPoolExecutor(8) as callers:
        replies = list(callers.map(lambda _: house.post(path, body), range(8)))

    assert [reply.status for reply in replies] == [200] * 8
    assert len({reply.content for reply in replies}) == 1
    assert house.get(path).json["service_settings"] == {"num_allocations": 1, **before}
    assert stats(house, inference_id)["adaptive_allocations"] == before["adaptive_allocations"]


def test_local_row_003_preconfigured_endpoints_are_reserved_and_come_back(house):
    path = "/_inference/sparse_embedding/.elser-2-elasticsearch"
    body = {"service": "elasticsearch", "service_settings": {**ONE, "model_id": "sparse"}}

    put, plain = house.put(path, body), house.delete(path)
    forced = house.delete(f"{path}?force=true")

    assert (put.status, plain.status, forced.status) == (400, 400, 200)
    assert house.get(path).status == 200
    assert "num_allocations" not in house.get(path).json["service_settings"]
    run = house.post(path, {"input": "hello"})
    assert run.json["sparse_embedding"][0]["embedding"]


# --- models that nobody uploaded ----------------------------------------------------------------


def test_models_of_folders_are_listed_beside_uploads(house):
    reply = house.get(f"{MODELS}/nested__*?include=definition_status")

    assert reply.json["count"] == 1
    (shown,) = reply.json["trained_model_configs"]
    assert shown["model_id"] == "nested__dense"
    assert (shown["model_type"], shown["fully_defined"]) == ("pytorch", True)
    assert shown["model_size_bytes"] > 0
    assert shown["metadata"] == {"source": "folder"}
    assert shown["inference_config"]["text_embedding"]["embedding_size"] == 16
    assert b"broken" not in house.get(MODELS).content


def test_a_model_of_a_folder_works_under_the_id_that_it_is_listed_under(house):
    docs = {"docs": [{"text_field": "hello"}]}
    unknown = house.post(f"{MODELS}/nested__none/_infer", docs)
    before = house.post(f"{MODELS}/nested__dense/_infer", docs)
    (idle,) = house.get(f"{MODELS}/nested__dense/_stats").json["trained_model_stats"]

    started = start(house, "nested__dense")
    answer = house.post(f"{MODELS}/nested__dense/_infer", docs)
    (row,) = house.get(f"{MODELS}/nested__dense/_stats").json["trained_model_stats"]
    stopped = house.post(f"{MODELS}/nested__dense/deployment/_stop")

    assert (unknown.status, before.status) == (404, 409)
    assert b"Please deploy with the start trained model deployment API" in before.content
    assert "deployment_stats" not in idle
    assert [one.status for one in (started, answer, stopped)] == [200] * 3
    assert len(answer.json["inference_results"][0]["predicted_value"]) == 16
    assert row["deployment_stats"]["state"] == "started"
