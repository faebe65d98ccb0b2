"""What is particular to the service cohere."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from inferry.calls import Event, HttpReply
from inferry.core.definition import define_endpoint
from inferry.domain import Deadline, Endpoint, InferenceRequest, Json, Settings, TaskType
from inferry.errors import InvalidSettings, Retry, UnreadableReply, UpstreamError
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask
from inferry.services.cohere import (
    SERVICE,
    adopt,
    build_embed,
    check,
    decode_chat,
    group,
    parse_chat,
    parse_embed,
)

ENDPOINT = Endpoint(
    "mine", TaskType.TEXT_EMBEDDING, "cohere", {"model_id": "m"}, secrets={"api_key": "k"}
)
REQUEST = InferenceRequest(ENDPOINT, Deadline.after(30, "30s"), ("a",))


def of_type(embedding_type: str) -> InferenceRequest:
    settings = {"model_id": "m", "embedding_type": embedding_type}
    return replace(REQUEST, endpoint=replace(ENDPOINT, service_settings=settings))


def reply(body) -> HttpReply:
    return HttpReply(200, {}, json.dumps(body).encode())


# --- settings ----------------------------------------------------------------------------------


def test_a_missing_model_is_told_in_the_words_of_the_wire():
    (problem,) = check(replace(ENDPOINT, service_settings={}))

    assert str(problem) == (
        "The [service_settings.model_id] field is required for the Cohere V2 API."
    )
    assert check(ENDPOINT) == []


def test_a_model_that_is_refused_is_not_called_missing():
    settings: dict[str, Json] = {"model_id": "", "api_key": "k"}
    body: dict[str, Json] = {"service": "cohere", "service_settings": settings}

    with pytest.raises(InvalidSettings) as caught:
        define_endpoint("e", body, {"cohere": SERVICE}, task_type="rerank")

    assert "[model_id] must be a non-empty string" in str(caught.value)
    assert "is required" not in str(caught.value)


def test_the_model_may_have_its_older_name():
    assert adopt({"model": "m", "api_key": "k"}, {}) == ({"model_id": "m", "api_key": "k"}, {})
    assert adopt({"model": "old", "model_id": "m"}, {}) == ({"model": "old", "model_id": "m"}, {})


@pytest.mark.parametrize("embedding_type", ["bit", "BINARY"])
def test_bits_are_compared_by_their_distance_unless_the_user_says_otherwise(embedding_type):
    settings, _ = adopt({"embedding_type": embedding_type}, {})
    chosen, _ = adopt({"embedding_type": embedding_type, "similarity": "cosine"}, {})

    assert settings["similarity"] == "l2_norm"
    assert chosen["similarity"] == "cosine"


@pytest.mark.parametrize("embedding_type", ["float", "byte", 3, None])
def test_other_elements_are_compared_as_the_task_says(embedding_type):
    settings, _ = adopt({"embedding_type": embedding_type}, {})

    assert "similarity" not in settings


def test_the_version_of_the_api_is_not_the_users_to_choose():
    task = SERVICE.tasks[TaskType.COMPLETION]
    assert isinstance(task, HttpTask)

    parsed = parse_settings(
        task.service_settings,
        {"model_id": "m", "api_key": "k", "api_version": "V1"},
        scope="service_settings",
        purpose=Purpose.CREATE,
    )

    assert parsed.unknown == {"api_version": "V1"}


def test_endpoints_of_one_key_share_a_rate_limit_group():
    other = replace(ENDPOINT, inference_id="yours", service_settings={"model_id": "other"})

    assert group(ENDPOINT) == group(other)
    assert group(ENDPOINT) != group(replace(ENDPOINT, secrets={"api_key": "other"}))


# --- requests ----------------------------------------------------------------------------------


def test_dimensions_are_not_sent_since_older_models_refuse_them():
    settings: Settings = {"model_id": "m", "dimensions": 8}
    endpoint = replace(ENDPOINT, service_settings=settings, dimensions_set_by_user=True)

    body = json.loads(build_embed(replace(REQUEST, endpoint=endpoint)).body)

    assert body.keys() == {"texts", "model", "input_type", "embedding_types"}


# --- replies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("embeddings", [{}, {"float": [[1]]}, {"int8": None}])
def test_elements_that_were_not_asked_for_are_no_answer(embeddings):
    with pytest.raises(UnreadableReply) as raised:
        parse_embed(reply({"embeddings": embeddings}), of_type("byte"))

    assert raised.value.message == (
        "Failed to find a supported embedding type in the Cohere embeddings response."
        " Supported types are [binary, float, int8]"
    )


@pytest.mark.parametrize(
    ("embedding_type", "row"),
    [("byte", [128]), ("bit", [-129]), ("byte", [0.5]), ("byte", []), ("float", ["a"])],
)
def test_a_row_of_other_elements_is_unreadable(embedding_type, row):
    name = {"byte": "int8", "bit": "binary"}.get(embedding_type, embedding_type)

    with pytest.raises(UnreadableReply, match="Failed to parse the embeddings"):
        parse_embed(reply({"embeddings": {name: [row]}}), of_type(embedding_type))


def test_a_message_without_a_text_is_unreadable():
    with pytest.raises(UnreadableReply, match=r"required field \[text\] in Cohere chat response"):
        parse_chat(
            reply({"message": {"content": [{"type": "thinking", "thinking": "x"}]}}), REQUEST
        )


@pytest.mark.parametrize(
    ("delta", "reason"),
    [
        ({"finish_reason": "ERROR", "error": "the model died"}, "the model died"),
        ({"finish_reason": "TIMEOUT"}, "TIMEOUT"),
        ({"finish_reason": "ERROR_TOXIC"}, "ERROR_TOXIC"),
    ],
)
def test_a_stream_that_ends_badly_is_an_error(delta, reason):
    event = Event(json.dumps({"type": "message-end", "delta": delta}), "message-end")

    with pytest.raises(UpstreamError) as raised:
        decode_chat(REQUEST)(event)

    assert raised.value.message == f"Cohere stopped the stream due to an error: {reason}"


def test_an_event_that_is_none_ends_the_stream_with_what_it_says():
    with pytest.raises(UpstreamError, match=r"Error message: \[too many tokens\]"):
        decode_chat(REQUEST)(Event('{"message": "too many tokens"}'))


def test_an_event_of_a_kind_to_come_is_passed_over():
    assert (
        decode_chat(REQUEST)(Event('{"type": "tool-plan-delta", "delta": {"message": {}}}')) == ()
    )


def test_too_many_texts_have_words_of_their_own():
    message = "invalid request: total number of texts must be at most 96, received 97"
    rows = [one for one in SERVICE.errors if one.first <= 400 <= one.last]

    row = next(one for one in rows if one.contains in message)

    assert (row.text, row.retry) == ("Received a texts array too large response", Retry.NO)
