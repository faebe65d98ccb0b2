"""What is particular to the service hugging_face."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from inferry.calls import HttpReply
from inferry.domain import Deadline, Endpoint, InferenceRequest, TaskType
from inferry.errors import Retry, UnreadableReply, UpstreamError
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask
from inferry.services.hugging_face import (
    SERVICE,
    check,
    group,
    parse_dense,
    parse_rerank,
    parse_sparse,
)

ENDPOINT = Endpoint(
    "mine",
    TaskType.TEXT_EMBEDDING,
    "hugging_face",
    {"url": "https://a.example.org"},
    secrets={"api_key": "k"},
)
REQUEST = InferenceRequest(ENDPOINT, Deadline.after(30, "30s"), ("a",))


def reply(body) -> HttpReply:
    return HttpReply(200, {}, json.dumps(body).encode())


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task_type", [TaskType.COMPLETION, TaskType.CHAT_COMPLETION])
def test_a_chat_needs_the_url_of_a_chat(task_type):
    other = replace(ENDPOINT, task_type=task_type)
    chat = replace(other, service_settings={"url": "https://a.example.org/v1/chat/completions"})

    assert check(other) == [
        "[service_settings] Invalid value [https://a.example.org]."
        f" [url] must contain [/v1/chat/completions] for task type [{task_type}]"
    ]
    assert check(chat) == []


def test_other_tasks_take_any_url_and_a_missing_one_is_said_elsewhere():
    chat = replace(ENDPOINT, task_type=TaskType.CHAT_COMPLETION, service_settings={})

    assert check(ENDPOINT) == []
    assert check(chat) == []


def test_an_endpoint_of_vectors_has_no_model():
    task = SERVICE.tasks[TaskType.TEXT_EMBEDDING]
    assert isinstance(task, HttpTask)
    given = {"url": "https://a.example.org", "api_key": "k", "model_id": "m"}

    parsed = parse_settings(
        task.service_settings, given, scope="service_settings", purpose=Purpose.CREATE
    )

    assert parsed.unknown == {"model_id": "m"}


def test_endpoints_of_one_url_and_key_share_a_rate_limit_group():
    elsewhere = replace(ENDPOINT, service_settings={"url": "https://b.example.org"})

    assert group(ENDPOINT) == group(replace(ENDPOINT, inference_id="yours"))
    assert group(ENDPOINT) != group(elsewhere)
    assert group(ENDPOINT) != group(replace(ENDPOINT, secrets={"api_key": "other"}))


# --- replies -----------------------------------------------------------------------------------


def test_vectors_may_stand_under_a_name():
    found = parse_dense(reply({"embeddings": [[1, 2], [3, 4]]}), REQUEST)

    assert found == parse_dense(reply([[1, 2], [3, 4]]), REQUEST)


@pytest.mark.parametrize(
    "body", [[[[1, 2], [3, 4]]], {"embeddings": [[[1, 2]]]}, [[[[1]]]]], ids=str
)
def test_a_vector_for_every_token_is_told_so_and_asked_for_once(body):
    with pytest.raises(UpstreamError) as raised:
        parse_dense(reply(body), REQUEST)

    assert "must pool" in raised.value.message
    assert raised.value.retry is Retry.NO


@pytest.mark.parametrize("body", [[1, 2], [[]], [["a"]], {"embeddings": []}, {"embeddings": None}])
def test_rows_that_are_no_vectors_are_unreadable(body):
    with pytest.raises(UnreadableReply):
        parse_dense(reply(body), REQUEST)


@pytest.mark.parametrize("body", [[{"a": "b"}], [[{"index": 1}]], [[0.5]], {"a": 0.5}])
def test_items_that_are_no_weights_are_unreadable(body):
    with pytest.raises(UnreadableReply):
        parse_sparse(reply(body), REQUEST)


@pytest.mark.parametrize("body", [[{"index": 0}], [{"score": 0.5}], [0.5]])
def test_scores_without_a_document_are_unreadable(body):
    with pytest.raises(UnreadableReply):
        parse_rerank(reply(body), REQUEST)


@pytest.mark.parametrize(
    ("status", "text", "retry"),
    [
        (302, "Unhandled redirection", Retry.NO),
        (400, "Received an unsuccessful status code", Retry.NO),
        (401, "Received an authentication error status code", Retry.NO),
        (413, "Received a content too large status code", Retry.SHORTER),
        (422, "Received an unsuccessful status code", Retry.NO),
        (429, "Received a rate limit status code", Retry.YES),
        (500, "Received a server error status code", Retry.NO),
        (502, "Received a rate limit status code", Retry.YES),
        (503, "Received a rate limit status code", Retry.YES),
        (504, "Received a server error status code", Retry.NO),
    ],
)
def test_a_status_has_its_words_and_its_retry(status, text, retry):
    found = next(one for one in SERVICE.errors if one.first <= status <= one.last)

    assert (found.text, found.retry) == (text, retry)
