"""Every failure has a status and words in OpenAI's shape."""

import inspect

import msgspec
import pytest

from inferry import errors
from inferry.api.exchange import Request
from inferry.api.openai.errors import WORDS, render_openai_error
from inferry.errors import (
    DeadlineExceeded,
    InferenceError,
    InvalidRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    QueueFull,
    UnreadableReply,
    UpstreamError,
    UpstreamUnreachable,
)
from inferry.security.gate import Principal

REQUEST = Request("POST", "/v1/embeddings", "/v1/embeddings", {}, {}, Principal("ada"))

CLASSES = {
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, InferenceError)
}


def render(error):
    answer = render_openai_error(error, REQUEST)
    assert isinstance(answer.body, bytes)
    return answer, msgspec.json.decode(answer.body)["error"]


def test_every_class_of_the_error_tree_has_its_own_row():
    assert set(WORDS) == CLASSES


@pytest.mark.parametrize("cls", sorted(CLASSES, key=str))
def test_every_class_is_rendered_with_all_four_members(cls):
    answer, told = render(cls("what was wrong"))

    assert 400 <= answer.status < 600
    assert list(told) == ["message", "type", "param", "code"]
    assert told["message"] == "what was wrong"


def test_a_subclass_that_the_table_does_not_know_is_told_as_its_parent():
    class Peculiar(NotFound):
        pass

    answer, told = render(Peculiar("gone"))

    assert (answer.status, told["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("upstream", "status"),
    [
        (400, 400),
        (401, 401),
        (404, 404),
        (429, 429),
        (302, 502),
        (500, 502),
        (503, 502),
        (504, 504),
        (None, 502),
    ],
)
def test_a_providers_refusal_keeps_its_status_and_its_failure_is_a_bad_gateway(upstream, status):
    answer, told = render(UpstreamError("no", upstream_status=upstream))

    assert answer.status == status
    assert told["type"] == "upstream_error"
    assert answer.headers.get("X-Inferry-Upstream-Status") == (upstream and str(upstream))


def test_the_words_of_the_provider_win_over_ours():
    error = UpstreamError(
        "too long",
        upstream_status=400,
        code="context_length_exceeded",
        param="messages",
        kind="invalid_request_error",
    )

    _, told = render(error)

    assert told == {
        "message": "too long",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }


@pytest.mark.parametrize("cls", [UpstreamUnreachable, UnreadableReply])
def test_a_provider_that_cannot_be_reached_or_read_is_a_bad_gateway(cls):
    answer, _ = render(cls("no answer", upstream_status=200))

    assert answer.status == 502


def test_our_own_deadline_is_told_apart_from_the_providers_failures():
    answer, told = render(DeadlineExceeded("Request timed out after [30s]", timeout="30s"))

    assert (answer.status, told["code"]) == (429, "timeout")


def test_the_field_at_fault_is_the_param():
    _, told = render(InvalidRequest("field [input] is empty", param="input"))

    assert told["param"] == "input"


def test_when_to_come_back_is_a_whole_number_of_seconds():
    answer, _ = render(QueueFull("full", retry_after_s=0.2))

    assert answer.headers["Retry-After"] == "1"


def test_a_caller_without_credentials_is_told_the_scheme():
    answer, told = render(NotAuthenticated("who are you?"))

    assert (answer.status, told["code"]) == (401, "invalid_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_wrong_method_is_told_the_right_ones():
    answer, _ = render(MethodNotAllowed("no", allowed="POST"))

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
