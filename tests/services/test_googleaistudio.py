"""What is particular to the service googleaistudio."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from inferry.calls import HttpReply
from inferry.domain import Deadline, Endpoint, InferenceRequest, TaskType
from inferry.errors import Retry, UnreadableReply, UpstreamError
from inferry.services.gemini.replies import parse_completion
from inferry.services.googleaistudio import (
    SERVICE,
    build_completion,
    build_embeddings,
    group,
    parse_embeddings,
)

ENDPOINT = Endpoint(
    "mine", TaskType.COMPLETION, "googleaistudio", {"model_id": "m"}, secrets={"api_key": "k"}
)
REQUEST = InferenceRequest(ENDPOINT, Deadline.after(30, "30s"), ("a",))


def reply(body) -> HttpReply:
    return HttpReply(200, {}, json.dumps(body).encode())


def test_endpoints_of_one_model_and_key_share_a_rate_limit_group():
    assert group(ENDPOINT) == group(replace(ENDPOINT, inference_id="yours"))
    assert group(ENDPOINT) != group(replace(ENDPOINT, secrets={"api_key": "other"}))
    assert group(ENDPOINT) != group(replace(ENDPOINT, service_settings={"model_id": "other"}))


def test_a_model_cannot_lead_to_another_path():
    endpoint = replace(ENDPOINT, service_settings={"model_id": "../a?b"})

    call = build_completion(replace(REQUEST, endpoint=endpoint))

    assert call.url.endswith("/v1/models/..%2Fa%3Fb:generateContent")


def test_dimensions_that_were_measured_are_not_sent():
    endpoint = replace(ENDPOINT, service_settings={"model_id": "m", "dimensions": 8})

    (asked,) = json.loads(build_embeddings(replace(REQUEST, endpoint=endpoint)).body)["requests"]

    assert asked.keys() == {"model", "content"}


@pytest.mark.parametrize("values", [[], ["a"], None, [[1]]])
def test_values_that_are_no_vector_are_unreadable(values):
    with pytest.raises(UnreadableReply):
        parse_embeddings(reply({"embeddings": [{"values": values}]}), REQUEST)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "the prompt {}. Reason: [SAFETY]"),
        (
            {"candidates": [{"finishReason": "SAFETY", "index": 0}]},
            "an answer {}. Reason: [content_filter]",
        ),
    ],
)
def test_what_a_safety_filter_keeps_back_is_a_bad_request_that_says_why(body, reason):
    with pytest.raises(UpstreamError) as raised:
        parse_completion(reply(body), REQUEST)

    said = reason.format("for request from inference entity id [mine]")
    assert raised.value.message == f"The [googleaistudio] service blocked {said}"
    assert (raised.value.upstream_status, raised.value.retry) == (400, Retry.NO)


@pytest.mark.parametrize(
    ("status", "text", "retry"),
    [
        (500, "Received a server error status code", Retry.YES),
        (503, "The Google AI Studio service may be temporarily overloaded or down", Retry.YES),
        (502, "Received a server error status code", Retry.NO),
        (429, "Received a rate limit status code", Retry.YES),
        (404, "Resource not found at [{url}]", Retry.NO),
        (403, "Received a permission denied error status code", Retry.NO),
        (302, "Unhandled redirection", Retry.NO),
        (400, "Received an unsuccessful status code", Retry.NO),
        (401, "Received an unsuccessful status code", Retry.NO),
    ],
)
def test_a_status_has_its_words_and_its_retry(status, text, retry):
    row = next(one for one in SERVICE.errors if one.first <= status <= one.last)

    assert (row.text, row.retry) == (text, retry)


@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: [body]])
def test_an_error_body_may_be_wrapped_in_a_list(wrap):
    error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}
    assert SERVICE.error_message is not None

    said = SERVICE.error_message(reply(wrap({"error": error})))

    assert (said.message, said.code, said.kind) == ("API key not valid.", "400", "INVALID_ARGUMENT")
