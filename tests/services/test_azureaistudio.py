"""What is particular to the service azureaistudio."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import Completion, Deadline, Endpoint, InferenceRequest, Settings, TaskType
from inferry.errors import BadRequest, Retry, StreamingNotAllowed, UnreadableReply
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask
from inferry.services.azureaistudio import (
    SERVICE,
    adopt,
    build_completion,
    check,
    group,
    parse_answer,
    sign,
)
from tests.providers import Connection, Received, open_provider, send_json
from tests.services.driving import running

TOKEN: Settings = {
    "target": "https://acme.eastus2.models.ai.azure.com/",
    "provider": "meta",
    "endpoint_type": "token",
}
REALTIME: Settings = {
    "target": "https://acme.eastus2.inference.ml.azure.com/score",
    "provider": "mistral",
    "endpoint_type": "realtime",
}
ALL: Settings = {"temperature": 0.5, "top_p": 0.9, "do_sample": True, "max_new_tokens": 64}


def endpoint(settings: Settings = TOKEN, *, key: str = "k", **more) -> Endpoint:
    return Endpoint(
        "mine", TaskType.COMPLETION, "azureaistudio", settings, secrets={"api_key": key}, **more
    )


def request(settings: Settings = TOKEN, *inputs: str, **more) -> InferenceRequest:
    return InferenceRequest(
        endpoint(settings), Deadline.after(30, "30s"), inputs or ("Hi",), **more
    )


def reply(body) -> HttpReply:
    return HttpReply(200, {}, json.dumps(body).encode())


# --- what is offered ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_type", "endpoint_type", "providers"),
    [
        (TaskType.TEXT_EMBEDDING, "token", {"openai", "cohere"}),
        (TaskType.TEXT_EMBEDDING, "realtime", set()),
        (TaskType.COMPLETION, "token", {"openai", "meta", "cohere"}),
        (TaskType.COMPLETION, "realtime", {"mistral", "meta", "microsoft_phi", "databricks"}),
        (TaskType.RERANK, "token", {"cohere"}),
        (TaskType.RERANK, "realtime", set()),
    ],
)
def test_a_task_is_offered_by_some_providers_with_some_endpoint_types(
    task_type, endpoint_type, providers
):
    every = {"cohere", "databricks", "meta", "microsoft_phi", "mistral", "openai"}

    found = {
        provider
        for provider in every
        if not check(
            replace(
                endpoint({**TOKEN, "provider": provider, "endpoint_type": endpoint_type}),
                task_type=task_type,
            )
        )
    }

    assert found == providers


def test_what_is_not_offered_is_told_with_the_endpoint_type_where_that_is_why():
    embedding = replace(endpoint(TOKEN), task_type=TaskType.TEXT_EMBEDDING)

    assert check(embedding) == [
        "The [text_embedding] task type for provider [meta] is not available"
    ]
    assert check(endpoint({**REALTIME, "provider": "openai"})) == [
        "The [realtime] endpoint type with [completion] task type for provider [openai]"
        " is not available"
    ]


@pytest.mark.parametrize("name", ["provider", "endpoint_type"])
def test_a_missing_setting_is_said_elsewhere(name):
    assert check(endpoint({key: TOKEN[key] for key in TOKEN if key != name})) == []


def test_endpoints_of_one_deployment_and_key_share_a_rate_limit_group():
    assert group(endpoint()) == group(replace(endpoint(), inference_id="yours"))
    assert group(endpoint()) != group(endpoint(REALTIME))
    assert group(endpoint()) != group(endpoint(key="other"))


# --- credentials -------------------------------------------------------------------------------


def credential(settings: Settings, key: str = "k") -> Credential:
    call = HttpCall("POST", "https://acme.example.org")
    with pytest.raises(StopIteration) as done:
        next(sign(call, endpoint(settings, key=key), 0.0))
    found = done.value.value
    assert isinstance(found, Credential)
    return found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({**TOKEN, "provider": "openai"}, Credential({"api-key": "k"}, math.inf)),
        (REALTIME, Credential({"Authorization": "Bearer k"}, math.inf)),
        (
            TOKEN,
            Credential({"Authorization": "k"}, math.inf, {"Authorization": "Bearer k"}),
        ),
    ],
)
def test_the_key_travels_as_the_deployment_takes_it(settings, expected):
    assert credential(settings) == expected


def test_a_key_with_a_scheme_has_no_other_form():
    assert credential(TOKEN, "Bearer k") == Credential({"Authorization": "Bearer k"}, math.inf)


def test_a_key_that_no_header_can_carry_is_refused():
    with pytest.raises(BadRequest, match="api_key"):
        next(sign(HttpCall("POST", ""), endpoint(key="a\nb"), 0.0))


async def test_a_deployment_that_wants_a_bearer_token_is_asked_twice_once_only():
    async def behave(connection: Connection, received: Received) -> None:
        if received.headers["authorization"] == "Bearer k":
            await send_json(connection, {"choices": [{"message": {"content": "Hello!"}}]})
        else:
            await send_json(connection, {"error": {"message": "no"}}, status=401)

    async with open_provider() as provider:
        provider.always(behave)
        asked = request({**TOKEN, "target": provider.url})
        async with running(SERVICE, asked) as runners:
            results = [await runners.run(asked), await runners.run(asked)]

    assert results == [Completion(("Hello!",))] * 2
    assert [one.headers["authorization"] for one in provider.requests] == [
        "k",
        "Bearer k",
        "Bearer k",
    ]


# --- requests ----------------------------------------------------------------------------------


def test_a_deployment_billed_by_the_hour_has_a_format_of_its_own():
    call = build_completion(request(REALTIME, task_settings=ALL))

    assert call.url == REALTIME["target"]
    assert json.loads(call.body) == {
        "input_data": {
            "input_string": [{"content": "Hi", "role": "user"}],
            "parameters": ALL,
        }
    }


def test_parameters_that_nobody_set_are_not_sent():
    call = build_completion(request(REALTIME))

    assert json.loads(call.body) == {
        "input_data": {"input_string": [{"content": "Hi", "role": "user"}]}
    }


def test_a_deployment_billed_by_the_hour_does_not_stream():
    with pytest.raises(StreamingNotAllowed, match=r"endpoint type \[realtime\]"):
        build_completion(request(REALTIME, stream=True))


def test_the_target_of_a_model_of_openai_is_the_whole_url():
    settings = {**TOKEN, "provider": "openai", "target": "https://a.example.org/chat?v=1"}

    assert build_completion(request(settings)).url == "https://a.example.org/chat?v=1"


def test_a_completion_takes_one_input():
    with pytest.raises(BadRequest, match="Azure AI Studio completions only accepts 1 input"):
        build_completion(request(TOKEN, "a", "b"))


# --- replies -----------------------------------------------------------------------------------


def test_the_answer_of_a_deployment_billed_by_the_hour_is_its_output():
    assert parse_answer(reply({"output": "Hello!"}), request(REALTIME)) == Completion(("Hello!",))


@pytest.mark.parametrize("body", [{}, [], {"output": 1}, {"choices": []}])
def test_an_answer_without_an_output_is_unreadable(body):
    with pytest.raises(UnreadableReply):
        parse_answer(reply(body), request(REALTIME))


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "stored"), [(1, True), (0.0, False), (True, True), ("x", "x")])
def test_do_sample_may_be_a_number(given, stored):
    assert adopt({}, {"do_sample": given}) == ({}, {"do_sample": stored})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 2.5}, "less than or equal to [2.0]"),
        ({"top_p": -0.5}, "greater than or equal to [0.0]"),
        ({"max_new_tokens": 0}, "must be a positive integer"),
    ],
)
def test_parameters_have_their_ranges(settings, said):
    task = SERVICE.tasks[TaskType.COMPLETION]
    assert isinstance(task, HttpTask)

    parsed = parse_settings(
        task.task_settings, settings, scope="task_settings", purpose=Purpose.REQUEST
    )

    assert said in parsed.problems[0]


@pytest.mark.parametrize(
    ("status", "text", "retry"),
    [
        (400, "Received an unsuccessful status code", Retry.NO),
        (401, "Received an authentication error status code", Retry.NO),
        (404, "Received an unsuccessful status code", Retry.NO),
        (413, "Received a content too large status code", Retry.SHORTER),
        (500, "Received a server error status code", Retry.YES),
        (502, "Received a server error status code", Retry.NO),
        (503, "Received a server error status code", Retry.YES),
    ],
)
def test_a_status_has_its_words_and_its_retry(status, text, retry):
    found = [row for row in SERVICE.errors if row.first <= status <= row.last and not row.contains]

    assert (found[0].text, found[0].retry) == (text, retry)
