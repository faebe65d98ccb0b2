"""DELETE of endpoints: rows 95-107."""

from __future__ import annotations

import pytest

from tests.wire.conftest import new_id

DONE = b'{"acknowledged":true,"pipelines":[],"indexes":[]}'


@pytest.fixture
def used(wire):
    """Give an endpoint that a pipeline uses, and the pipeline's name."""
    inference_id, name = wire.endpoint(), new_id("pipeline")
    reference = {"inference_ids": [inference_id], "kind": "pipeline"}
    assert wire.put(f"/_inferry/references/{name}", reference).status == 200
    yield inference_id, name
    wire.delete(f"/_inferry/references/{name}")


def refusal(inference_id, name):
    return (
        f"Inference endpoint {inference_id} is referenced by pipelines: [{name}]. Ensure that no "
        "pipelines are using this inference endpoint, or use force to ignore this warning and "
        "delete the inference endpoint."
    )


def test_row_095_an_endpoint_is_deleted(wire):
    inference_id = wire.endpoint()

    reply = wire.delete(f"/_inference/{inference_id}")

    assert (reply.status, reply.content) == (200, DONE)
    assert wire.get(f"/_inference/{inference_id}").status == 404


def test_row_096_the_right_type_in_the_path_is_fine(wire):
    inference_id = wire.endpoint()

    assert wire.delete(f"/_inference/text_embedding/{inference_id}").content == DONE


def test_row_097_another_type_in_the_path_is_refused(wire):
    inference_id = wire.endpoint()

    reply = wire.delete(f"/_inference/rerank/{inference_id}")

    text = "Requested task type [rerank] does not match the inference endpoint's task type"
    wire.refused(400, "status_exception", text, reply)


def test_row_098_an_unknown_id_is_not_found(wire):
    reply = wire.delete("/_inference/nowhere")

    text = "Inference endpoint not found [nowhere]"
    wire.refused(404, "resource_not_found_exception", text, reply)


@pytest.mark.parametrize("name", ["_all", "*"])
def test_row_099_nobody_deletes_everything(wire, name):
    inference_id = wire.endpoint()

    reply = wire.delete(f"/_inference/{name}")

    assert reply.status == 404
    assert wire.get(f"/_inference/{inference_id}").status == 200


def test_row_100_a_dry_run_deletes_nothing(wire):
    inference_id = wire.endpoint()

    reply = wire.delete(f"/_inference/{inference_id}?dry_run=true")

    assert reply.status == 200
    assert reply.json["acknowledged"] is False
    assert wire.get(f"/_inference/{inference_id}").status == 200


def test_row_101_a_dry_run_lists_who_uses_the_endpoint(wire, used):
    inference_id, name = used

    reply = wire.delete(f"/_inference/{inference_id}?dry_run=true")

    assert reply.json == {
        "acknowledged": False,
        "pipelines": [name],
        "indexes": [],
        "error_message": refusal(inference_id, name),
    }


def test_row_102_what_is_used_is_not_deleted(wire, used):
    reply = wire.delete(f"/_inference/{used[0]}")

    wire.refused(409, "status_exception", refusal(*used), reply)


def test_row_103_force_deletes_what_is_used(wire, used):
    assert wire.delete(f"/_inference/{used[0]}?force=true").status == 200
    assert wire.get(f"/_inference/{used[0]}").status == 404


def test_row_104_a_dry_run_wins_over_force(wire, used):
    reply = wire.delete(f"/_inference/{used[0]}?dry_run=true&force=true")

    assert reply.json["acknowledged"] is False
    assert wire.get(f"/_inference/{used[0]}").status == 200


def test_row_105_a_preconfigured_endpoint_needs_force(wire):
    reply = wire.delete("/_inference/.rerank-v1-elasticsearch")

    text = "[.rerank-v1-elasticsearch] is a reserved inference endpoint. Use the force=true query"
    wire.refused(400, "status_exception", text, reply)


def test_row_106_a_preconfigured_endpoint_comes_back(wire):
    reply = wire.delete("/_inference/.rerank-v1-elasticsearch?force=true")

    assert reply.status == 200
    assert wire.get("/_inference/.rerank-v1-elasticsearch").status == 200


def test_row_107_an_id_can_be_used_again(wire):
    inference_id = wire.endpoint()
    wire.delete(f"/_inference/{inference_id}")

    reply = wire.put(f"/_inference/text_embedding/{inference_id}", wire.definition())

    assert reply.status == 200


@pytest.mark.parametrize("query", ["force=yes", "dry_run=1"])
def test_a_flag_is_true_or_false(wire, query):
    reply = wire.delete(f"/_inference/nowhere?{query}")

    text = "as only [true] or [false] are allowed."
    wire.refused(400, "illegal_argument_exception", text, reply)
