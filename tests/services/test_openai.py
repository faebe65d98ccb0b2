"""What is particular to the service openai."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from inferry.domain import (
    Chat,
    ContentItem,
    Deadline,
    Endpoint,
    InferenceRequest,
    Message,
    Reasoning,
    TaskType,
)
from inferry.errors import BadRequest, InvalidSettings
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask
from inferry.services.openai import SERVICE, build_chat, build_embeddings, check, group, move_model

OAUTH = {"client_id": "id", "scopes": ["a", "b"], "token_url": "https://login.example.org/token"}
KEY = {"api_key": "k"}


def endpoint(settings=None, *, secrets=None, task_settings=None) -> Endpoint:
    return Endpoint(
        "mine",
        TaskType.TEXT_EMBEDDING,
        "openai",
        {"model_id": "m", **(settings or {})},
        task_settings or {},
        secrets=KEY if secrets is None else secrets,
    )


def request(*inputs, **more) -> InferenceRequest:
    return InferenceRequest(endpoint(), Deadline.after(30, "30s"), inputs, **more)


def fields_of(task_type: TaskType):
    task = SERVICE.tasks[task_type]
    assert isinstance(task, HttpTask)
    return task.service_settings


# --- credentials -------------------------------------------------------------------------------


def test_an_api_key_alone_is_fine():
    assert check(endpoint()) == []


def test_client_credentials_alone_are_fine():
    assert check(endpoint(OAUTH, secrets={"client_secret": "s"})) == []


def test_without_any_credential_the_api_key_is_missing():
    (problem,) = check(endpoint(secrets={}))

    assert str(problem) == "[service_settings] does not contain the required setting [api_key]"


@pytest.mark.parametrize(
    ("settings", "secrets", "missing"),
    [
        ({"client_id": "id"}, {}, "client_secret, scopes, token_url"),
        ({"client_id": "id"}, KEY, "client_secret, scopes, token_url"),
        ({}, {"client_secret": "s"}, "client_id, scopes, token_url"),
        ({**OAUTH, "scopes": []}, {"client_secret": "s"}, "scopes"),
        (OAUTH, {}, "client_secret"),
    ],
)
def test_a_part_of_the_client_credentials_names_the_rest(settings, secrets, missing):
    assert check(endpoint(settings, secrets=secrets)) == [
        "[service_settings] OAuth2 fields [client_id, client_secret, scopes, token_url]"
        f" must be provided together; missing: [{missing}]"
    ]


def test_both_kinds_of_credentials_are_too_many():
    assert check(endpoint(OAUTH, secrets={"api_key": "k", "client_secret": "s"})) == [
        "[secret_settings] must have exactly one of [api_key] or [client_secret] field set,"
        " received: [api_key, client_secret]"
    ]


def test_endpoints_of_one_model_and_key_share_a_rate_limit_group():
    mine = endpoint()

    assert group(mine) == group(replace(mine, inference_id="yours"))
    assert group(mine) != group(replace(mine, secrets={"api_key": "other"}))
    assert group(mine) != group(replace(mine, service_settings={"model_id": "other"}))


def test_another_server_has_a_rate_limit_of_its_own_and_its_faults_stay_its_own():
    usual = group(endpoint())

    assert group(endpoint({"url": "https://api.openai.com/v1/embeddings"})) == usual
    assert group(endpoint({"url": "http://localhost:8000/v1/embeddings"})) != usual


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_type", "expected"),
    [
        (
            TaskType.TEXT_EMBEDDING,
            {
                "model_id": "m",
                "similarity": "dot_product",
                "rate_limit": {"requests_per_minute": 3000},
            },
        ),
        (
            TaskType.CHAT_COMPLETION,
            {"model_id": "m", "rate_limit": {"requests_per_minute": 500}},
        ),
    ],
)
def test_defaults_are_those_of_the_task(task_type, expected):
    parsed = parse_settings(
        fields_of(task_type), {"model_id": "m"}, scope="service_settings", purpose=Purpose.CREATE
    )

    assert parsed.values == expected


@pytest.mark.parametrize("name", ["model", "model_id"])
def test_the_model_of_an_older_client_moves_to_the_service_settings(name):
    moved = move_model({"api_key": "k"}, {name: "m", "user": "u"})

    assert moved == ({"api_key": "k", "model_id": "m"}, {"user": "u"})


def test_a_model_in_its_place_stays_and_a_second_one_is_left_over():
    given: tuple[dict[str, str], dict[str, str]] = ({"model_id": "m"}, {"model": "other"})

    assert move_model(*given) == given


@pytest.mark.parametrize("name", ["Authorization", "HOST", "content-length", "Transfer-Encoding"])
def test_headers_that_are_ours_are_refused_in_settings_and_in_requests(name):
    headers = {"headers": {name: "x"}}
    expected = f"[task_settings] does not allow the header [{name}] in [headers]"

    assert check(endpoint(task_settings=headers)) == [expected]
    with pytest.raises(InvalidSettings, match="does not allow the header"):
        build_embeddings(request("a", task_settings=headers))


@pytest.mark.parametrize(
    "headers", [{"X-A": "b\r\nX-Evil: 1"}, {"X-A": 1}, {"X A": "b"}, {"": "b"}, {"X-A": "é"}]
)
def test_headers_that_http_cannot_carry_are_refused(headers):
    (problem,) = check(endpoint(task_settings={"headers": headers}))

    assert "in [headers]" in str(problem)
    assert "Evil" not in str(problem)


def test_an_organization_that_http_cannot_carry_is_refused():
    (problem,) = check(endpoint({"organization_id": "a\nb"}))

    assert str(problem).startswith(
        "[service_settings] Invalid value ['a\\nb']. [organization_id] must"
    )


def test_a_header_of_the_task_settings_replaces_ours_of_that_name():
    call = build_embeddings(
        request("a", task_settings={"headers": {"content-type": "application/json; charset=utf-8"}})
    )

    assert call.headers == {"content-type": "application/json; charset=utf-8"}


# --- requests ----------------------------------------------------------------------------------


def test_dimensions_are_sent_only_if_the_user_asked_for_them():
    measured = replace(request("a"), endpoint=endpoint({"dimensions": 8}))
    asked = replace(measured, endpoint=replace(measured.endpoint, dimensions_set_by_user=True))

    assert "dimensions" not in json.loads(build_embeddings(measured).body)
    assert json.loads(build_embeddings(asked).body)["dimensions"] == 8


def test_an_input_that_is_no_text_is_a_bad_request():
    with pytest.raises(BadRequest, match="takes text only"):
        build_embeddings(request((ContentItem("image", "base64", "data:image/png;base64,AA=="),)))


@pytest.mark.parametrize("inputs", [(), ("a", "b")])
def test_a_completion_takes_one_input(inputs):
    with pytest.raises(BadRequest, match="OpenAI completions only accepts 1 input"):
        build_chat(request(*inputs))


def test_the_model_of_a_chat_request_replaces_the_endpoints():
    call = build_chat(request(chat=Chat([Message("user", "Hi")], model="other")))

    assert json.loads(call.body)["model"] == "other"


def test_reasoning_without_an_effort_is_a_bad_request():
    chat = Chat([Message("user", "Hi")], reasoning=Reasoning(summary="auto"))

    with pytest.raises(BadRequest) as raised:
        build_chat(request(chat=chat))

    assert raised.value.message == (
        "OpenAI chat completion requires [reasoning.effort] to map to [reasoning_effort]"
    )


def test_reasoning_of_earlier_turns_is_not_sent():
    earlier = Message("assistant", "Hi", reasoning="...", reasoning_details=[{"type": "x"}])

    call = build_chat(request(chat=Chat([earlier])))

    assert json.loads(call.body)["messages"] == [{"role": "assistant", "content": "Hi"}]
