"""How the error tree looks to a client of Elasticsearch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferry import errors
from inferry.api.elastic.errors import (
    RENDERINGS,
    render_chat_error,
    render_error,
    rendering_of,
    snake_case,
)
from inferry.api.exchange import Answer


def every_class(root=errors.InferenceError):
    found = [root]
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            found += every_class(child)
    return found


def document_of(answer: Answer) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def rendered(error, request):
    answer = render_error(error, request)
    return answer.status, document_of(answer)


def test_every_error_has_its_row_in_the_table():
    assert set(RENDERINGS) == set(every_class())


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_every_error_can_be_rendered_in_both_forms(cls, make_request):
    error = cls("something [x] was wrong", retry_after_s=1.5)

    status, document = rendered(error, make_request())
    chat = render_chat_error(error, make_request())

    assert 300 <= status < 600
    assert "something [x] was wrong" in json.dumps(document)
    assert document_of(chat)["error"]["message"] == "something [x] was wrong"
    assert chat.headers["Retry-After"] == "2"


def test_a_subclass_that_nobody_listed_looks_like_its_parent():
    class NoSuchModel(errors.NotFound):
        pass

    assert rendering_of(NoSuchModel("x")).status == 404


@pytest.mark.parametrize(
    ("upstream", "status"),
    [(401, 401), (404, 404), (429, 429), (302, 302), (413, 413), (500, 400), (503, 400)]
    + [(200, 400), (None, 400)],
)
def test_only_codes_below_500_of_a_provider_are_passed_on(upstream, status, make_request):
    error = errors.UpstreamError("no", upstream_status=upstream)

    answer = render_error(error, make_request())

    assert answer.status == status
    shown = None if upstream is None else str(upstream)
    assert answer.headers.get("X-Inferry-Upstream-Status") == shown


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UpstreamUnreachable("no connection"), 502),
        (errors.UnreadableReply("half", upstream_status=200), 500),
        (errors.UnreadableReply("half", upstream_status=403), 500),
    ],
)
def test_no_answer_and_a_bad_answer_are_not_the_callers_fault(error, status):
    assert rendering_of(error).status == status


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (errors.UpstreamError("bad key", upstream_status=401), 401),
        (errors.UpstreamError("broken", upstream_status=503), 400),
        (errors.UpstreamUnreachable("no connection"), 400),
        (errors.DeadlineExceeded("late", timeout="1s"), 429),
    ],
)
def test_a_failed_validation_call_has_the_status_of_its_cause(cause, status, make_request):
    error = errors.ValidationCallFailed("validation call failed")
    error.__cause__ = cause

    got, document = rendered(error, make_request())

    assert got == status == document["status"]
    assert document["error"]["reason"] == "validation call failed"
    assert document["error"]["caused_by"]["reason"] == cause.message
    assert document["error"]["root_cause"] == [document["error"]["caused_by"]]


def test_what_a_library_said_is_shown_only_where_a_connection_failed(make_request):
    unreachable = errors.UpstreamUnreachable("Failed to send request to [host]")
    unreachable.__cause__ = ConnectionRefusedError("refused")
    unreadable = errors.UnreadableBody("[1:1] no")
    unreadable.__cause__ = ValueError("secret words")

    _, shown = rendered(unreachable, make_request())
    _, hidden = rendered(unreadable, make_request())

    assert shown["error"]["caused_by"] == {
        "type": "connection_refused_error",
        "reason": "refused",
    }
    assert shown["error"]["root_cause"][0]["reason"] == "Failed to send request to [host]"
    assert "secret" not in json.dumps(hidden)


def test_a_401_repeats_the_challenges_in_header_and_body(make_request):
    error = errors.NotAuthenticated("who are you?", detail="API key: expired")

    answer = render_error(error, make_request(query={"error_trace": "true"}))

    challenges = list(answer.headers["WWW-Authenticate"])
    described = document_of(answer)["error"]
    assert described["header"] == {"WWW-Authenticate": challenges}
    assert described["root_cause"][0]["header"] == {"WWW-Authenticate": challenges}
    assert described["additional_unsuccessful_credentials"] == "API key: expired"
    assert "stack_trace" not in described
    assert len(challenges) == 3


def test_our_own_time_limit_depends_on_the_version_of_the_client(make_request):
    message = "Request timed out after [30s] for inference id [a]"
    error = errors.DeadlineExceeded(message, timeout="30s")

    newest = rendered(error, make_request(compatible_with=9))
    older = rendered(error, make_request(compatible_with=8))

    assert newest[0] == 429
    assert newest[1]["error"]["type"] == "timeout_exception"
    assert older[0] == 408
    assert older[1]["error"] == {
        "root_cause": [{"type": "status_exception", "reason": "Request timed out after [30s]"}],
        "type": "status_exception",
        "reason": "Request timed out after [30s]",
    }


def test_simple_errors_are_a_text(make_request):
    wrong = errors.MethodNotAllowed("wrong method", allowed="GET,PUT")

    answer = render_error(wrong, make_request())

    assert answer.headers["Allow"] == "GET,PUT"
    assert rendered(wrong, make_request()) == (405, {"error": "wrong method", "status": 405})
    assert rendered(errors.NoHandler("no path"), make_request()) == (400, {"error": "no path"})


def test_a_chat_shows_the_words_of_the_provider(make_request):
    error = errors.UpstreamError(
        "Received an error",
        upstream_status=400,
        code="context_length",
        param="messages",
        kind="bad",
    )

    answer = render_chat_error(error, make_request())

    assert answer.status == 400
    assert document_of(answer) == {
        "error": {
            "code": "context_length",
            "message": "Received an error",
            "param": "messages",
            "type": "bad",
        }
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OSError", "os_error"),
        ("ConnectionRefusedError", "connection_refused_error"),
        ("ClientConnectorDNSError", "client_connector_dns_error"),
        ("Strange Name!", "strange_name_"),
    ],
)
def test_names_of_exceptions_are_written_in_snake_case(name, expected):
    assert snake_case(name) == expected
