"""What is particular to the service amazonbedrock."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from inferry.calls import HttpReply
from inferry.domain import (
    Deadline,
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    InputType,
    Settings,
    TaskType,
)
from inferry.errors import BadRequest, InvalidRequest, InvalidSettings, Retry, UnreadableReply
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask, ProviderError
from inferry.services.amazonbedrock import (
    SERVICE,
    batch_of,
    build_chat,
    build_embeddings,
    check,
    error_message,
    group,
    parse_embeddings,
)
from inferry.vectors import vectors_to_json
from tests.providers import Connection, Received, open_provider, send_json
from tests.services.driving import running

EVERY = ("ai21labs", "amazontitan", "anthropic", "cohere", "meta", "mistral")
KEYS = {"access_key": "AKID", "secret_key": "s3cret"}


def endpoint(provider: str = "amazontitan", model: str = "m", **more) -> Endpoint:
    settings = {"region": "us-east-1", "model": model, "provider": provider}
    more = {"task_type": TaskType.TEXT_EMBEDDING, "secrets": KEYS, **more}
    return Endpoint("mine", service="amazonbedrock", service_settings=settings, **more)


def request(of: Endpoint, *inputs: str, **more) -> InferenceRequest:
    return InferenceRequest(of, Deadline.after(30, "30s"), inputs or ("a",), **more)


def reply(body, **headers: str) -> HttpReply:
    return HttpReply(200, headers, json.dumps(body).encode())


# --- what is offered ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_type", "providers"),
    [
        (TaskType.TEXT_EMBEDDING, ("amazontitan", "cohere")),
        (TaskType.COMPLETION, EVERY),
        (TaskType.CHAT_COMPLETION, EVERY),
    ],
)
def test_a_task_is_offered_by_some_providers(task_type, providers):
    offered = [one for one in EVERY if not check(endpoint(one, task_type=task_type))]

    assert tuple(offered) == providers
    if providers != EVERY:
        assert check(endpoint("meta")) == [
            "The [text_embedding] task type for provider [meta] is not available"
        ]


@pytest.mark.parametrize(
    ("model", "problems"),
    [
        ("amazon.titan-embed-text-v2:0", []),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-text-v2:0", []),
        (
            "amazon.titan-embed-text-v1",
            ["[service_settings] does not allow the setting [dimensions]"],
        ),
    ],
)
def test_dimensions_are_for_the_model_that_can_be_asked_for_them(model, problems):
    asked = endpoint(model=model, dimensions_set_by_user=True)

    assert check(asked) == problems
    assert check(replace(asked, dimensions_set_by_user=False)) == []


def test_measured_dimensions_are_not_sent():
    one = endpoint(model="amazon.titan-embed-text-v2:0")
    measured = replace(one, service_settings={**one.service_settings, "dimensions": 8})

    assert json.loads(build_embeddings(request(measured)).body) == {"inputText": "a"}


def test_a_region_cannot_leave_its_place_in_the_host():
    one = endpoint()
    odd = replace(one, service_settings={**one.service_settings, "region": "x.evil.org/"})

    (problem,) = check(odd)

    assert problem.startswith("[service_settings] Invalid value ['x.evil.org/']. [region] must")


@pytest.mark.parametrize("provider", ["amazontitan", "ai21labs", "meta"])
def test_top_k_is_for_some_providers_in_settings_and_in_requests(provider):
    expected = f"The [top_k] task parameter is not available for provider [{provider}]"
    chat = endpoint(provider, task_type=TaskType.COMPLETION)

    assert check(replace(chat, task_settings={"top_k": 4.0})) == [expected]
    with pytest.raises(InvalidSettings) as raised:
        build_chat(request(chat, task_settings={"top_k": 4.0}))
    assert expected in raised.value.message


@pytest.mark.parametrize(
    ("provider", "sent"),
    [("anthropic", {"top_k": 4}), ("mistral", {"top_k": 4}), ("cohere", {"k": 4})],
)
def test_top_k_has_a_name_of_each_provider(provider, sent):
    chat = endpoint(provider, task_type=TaskType.COMPLETION)

    body = json.loads(build_chat(request(chat, task_settings={"top_k": 4.0})).body)

    assert body["additionalModelRequestFields"] == sent


def test_only_cohere_cuts_texts_itself():
    expected = (
        "The [text_embedding] task type for provider [amazontitan] does not allow [truncate] field"
    )

    assert check(endpoint(task_settings={"truncate": "END"})) == [expected]
    assert check(endpoint("cohere", task_settings={"truncate": "END"})) == []
    with pytest.raises(InvalidSettings) as raised:
        build_embeddings(request(endpoint(), task_settings={"truncate": "END"}))
    assert expected in raised.value.message


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 1.5}, {"top_p": 1.1}, {"temperature": -0.5}, {"max_new_tokens": 0}],
)
def test_parameters_have_their_ranges(settings: Settings):
    task = SERVICE.tasks[TaskType.COMPLETION]
    assert isinstance(task, HttpTask)

    parsed = parse_settings(
        task.task_settings, settings, scope="task_settings", purpose=Purpose.REQUEST
    )

    assert len(parsed.problems) == 1


def test_endpoints_of_one_pair_of_keys_share_a_rate_limit_group():
    mine = endpoint()

    assert group(mine) == group(endpoint("cohere", "other"))
    for name in KEYS:
        assert group(mine) != group(replace(mine, secrets={**KEYS, name: "other"}))


# --- embeddings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("input_type", "word"),
    [
        (InputType.INGEST, "search_document"),
        (InputType.INTERNAL_INGEST, "search_document"),
        (InputType.SEARCH, "search_query"),
        (InputType.INTERNAL_SEARCH, "search_query"),
        (InputType.CLASSIFICATION, "classification"),
        (InputType.CLUSTERING, "clustering"),
        (InputType.UNSPECIFIED, "search_document"),
    ],
)
def test_cohere_is_told_what_the_texts_are_for(input_type, word):
    call = build_embeddings(request(endpoint("cohere"), input_type=input_type))

    assert json.loads(call.body)["input_type"] == word


@pytest.mark.parametrize("input_type", [InputType.CLASSIFICATION, InputType.CLUSTERING])
def test_titan_cannot_be_told_what_texts_are_for(input_type):
    with pytest.raises(InvalidRequest) as raised:
        build_embeddings(request(endpoint(), input_type=input_type))

    assert f"Input type [{input_type}] is not supported for [amazonbedrock]" in str(raised.value)


async def test_titan_is_asked_for_one_text_at_a_time_and_the_order_stays():
    async def behave(connection: Connection, received: Received) -> None:
        number = float(received.json["inputText"])
        await send_json(connection, {"embedding": [number], "inputTextTokenCount": 1})

    one = endpoint(model="amazon.titan-embed-text-v2:0")
    texts = tuple(str(n) for n in range(20))
    task = SERVICE.tasks[TaskType.TEXT_EMBEDDING]
    assert isinstance(task, HttpTask)
    async with open_provider() as provider:
        provider.always(behave)

        def build(asked: InferenceRequest):
            call = task.build(asked)
            return replace(call, url=provider.url + call.url.partition("amazonaws.com")[2])

        asked = request(one, *texts)
        async with running(SERVICE, asked, task=replace(task, build=build)) as runners:
            result = await runners.run(asked)

    assert isinstance(result, DenseEmbeddings)
    rows = [json.loads(row) for row in vectors_to_json(result.vectors)]
    assert rows == [[float(n)] for n in range(20)]
    assert result.usage is not None
    assert result.usage.input_tokens == 20
    assert {one.path for one in provider.requests} == {
        "/model/amazon.titan-embed-text-v2%3A0/invoke"
    }
    assert len(provider.requests) == 20


def test_cohere_takes_many_texts_at_once():
    assert (batch_of(endpoint("cohere")), batch_of(endpoint())) == (96, 1)


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("amazontitan", {"embedding": "x"}),
        ("amazontitan", {"embedding": []}),
        ("amazontitan", {"embeddings": [[1]]}),
        ("cohere", {"embeddings": [["x"]]}),
        ("cohere", {"embeddings": {"float": [[]]}}),
        ("cohere", {"embedding": [1]}),
    ],
)
def test_rows_that_are_no_vectors_are_unreadable(provider, body):
    with pytest.raises(UnreadableReply):
        parse_embeddings(reply(body), request(endpoint(provider)))


# --- completions -------------------------------------------------------------------------------


def test_a_completion_takes_one_input():
    with pytest.raises(BadRequest, match="Amazon Bedrock completions only accepts 1 input"):
        build_chat(request(endpoint("meta", task_type=TaskType.COMPLETION), "a", "b"))


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            reply({"message": "No"}, **{"x-amzn-errortype": "ThrottlingException:http://a/"}),
            ProviderError("No", kind="ThrottlingException"),
        ),
        (reply({"Message": "No"}), ProviderError("No")),
        (reply({}), ProviderError()),
        (reply([]), ProviderError()),
    ],
)
def test_an_error_body_is_read_in_every_form_it_has(answer, expected):
    assert error_message(answer) == expected


@pytest.mark.parametrize(
    ("status", "text", "retry"),
    [
        (400, "Received an unsuccessful status code", Retry.NO),
        (403, "Received a permission denied error status code", Retry.NO),
        (404, "Resource not found at [{url}]", Retry.NO),
        (408, "Received an unsuccessful status code", Retry.NO),
        (424, "Received an unsuccessful status code", Retry.NO),
        (429, "Received a rate limit status code", Retry.YES),
        (500, "Received a server error status code", Retry.YES),
        (503, "Received a server error status code", Retry.YES),
        (504, "Received a server error status code", Retry.NO),
    ],
)
def test_a_status_has_its_words_and_its_retry(status, text, retry):
    found = next(row for row in SERVICE.errors if row.first <= status <= row.last)

    assert (found.text, found.retry) == (text, retry)
