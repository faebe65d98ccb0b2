"""PUT `_update`: rows 84-94."""

from __future__ import annotations

from tests.providers import refuse


def test_row_084_task_settings_are_merged(wire):
    inference_id = wire.endpoint(more={"task_settings": {"user": "one", "headers": {"X-A": "a"}}})

    reply = wire.put(f"/_inference/{inference_id}/_update", {"task_settings": {"user": "two"}})

    assert reply.status == 200
    assert reply.json["task_settings"] == {"user": "two", "headers": {"X-A": "a"}}
    [item] = wire.get(f"/_inference/{inference_id}").json["endpoints"]
    assert item == reply.json


def test_row_085_a_new_key_is_used_by_the_next_call(wire):
    inference_id = wire.endpoint(api_key="sk-old-1")

    reply = wire.put(
        f"/_inference/text_embedding/{inference_id}/_update",
        {"service_settings": {"api_key": "sk-new-1"}},
    )
    wire.post(f"/_inference/{inference_id}", {"input": "x"})

    assert reply.status == 200
    assert b"sk-new-1" not in reply.content
    assert wire.provider.requests[-1].headers["authorization"] == "Bearer sk-new-1"


def test_row_086_what_does_not_exist_cannot_be_updated(wire):
    reply = wire.put("/_inference/nowhere/_update", {"task_settings": {}})

    text = "The inference endpoint [nowhere] does not exist and cannot be updated"
    assert reply.status == 404
    assert reply.json["error"]["reason"] == text


def test_row_087_an_empty_object_changes_nothing_and_is_refused(wire):
    inference_id = wire.endpoint()

    reply = wire.put(f"/_inference/{inference_id}/_update", {})

    wire.refused(400, "status_exception", "Request body is empty", reply)


def test_an_update_without_a_body_is_refused(wire):
    inference_id = wire.endpoint()

    reply = wire.put(f"/_inference/{inference_id}/_update")

    wire.refused(400, "parse_exception", "request body is required", reply)


def test_row_088_chunking_settings_cannot_be_updated(wire):
    inference_id = wire.endpoint()

    reply = wire.put(
        f"/_inference/{inference_id}/_update", {"chunking_settings": {"strategy": "none"}}
    )

    text = "Request contained fields which cannot be updated, remove these fields and try again"
    wire.refused(400, "status_exception", text, reply)


def test_row_089_the_service_may_be_repeated(wire):
    inference_id = wire.endpoint()

    reply = wire.put(
        f"/_inference/{inference_id}/_update",
        {"service": "openai", "task_settings": {"user": "x"}},
    )

    assert reply.status == 200


def test_row_090_the_type_cannot_be_changed(wire):
    inference_id = wire.endpoint()

    reply = wire.put(
        f"/_inference/completion/{inference_id}/_update", {"task_settings": {"user": "x"}}
    )

    text = "Task type must match the task type of the existing endpoint"
    wire.refused(400, "status_exception", text, reply)


def test_row_091_without_a_type_the_stored_one_holds(wire):
    inference_id = wire.endpoint()

    reply = wire.put(f"/_inference/{inference_id}/_update", {"task_settings": {"user": "x"}})

    assert reply.status == 200
    assert reply.json["task_type"] == "text_embedding"


def test_row_092_nothing_changes_when_the_validation_call_fails(wire):
    inference_id = wire.endpoint()
    before = wire.get(f"/_inference/{inference_id}").content
    wire.provider.then(refuse(401, "bad key"))

    reply = wire.put(
        f"/_inference/{inference_id}/_update",
        {"service_settings": {"api_key": "sk-bad"}, "task_settings": {"user": "x"}},
    )

    assert reply.status == 401
    assert wire.get(f"/_inference/{inference_id}").content == before


def test_row_093_an_update_to_what_is_costs_no_call(wire):
    inference_id = wire.endpoint(more={"task_settings": {"user": "x"}})
    wire.provider.requests.clear()

    reply = wire.put(f"/_inference/{inference_id}/_update", {"task_settings": {"user": "x"}})

    assert reply.status == 200
    assert wire.provider.requests == []


def test_row_094_the_allocations_of_a_local_model_can_be_changed(wire):
    wire.put(
        "/_inference/text_embedding/local",
        {
            "service": "elasticsearch",
            "service_settings": {
                "model_id": ".all-minilm-l6-v2",
                "num_allocations": 1,
                "num_threads": 1,
            },
        },
    )

    reply = wire.put("/_inference/local/_update", {"service_settings": {"num_allocations": 2}})

    assert reply.json["service_settings"]["num_allocations"] == 2


def test_both_names_of_the_time_limit_are_taken(wire):
    inference_id = wire.endpoint()
    path = f"/_inference/{inference_id}/_update?timeout=20s&master_timeout=30s"

    assert wire.put(path, {"task_settings": {"user": "x"}}).status == 200
