"""What is particular to the service googlevertexai."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inferry.calls import HttpReply
from inferry.domain import Chat, Deadline, Endpoint, InferenceRequest, Message, TaskType
from inferry.errors import Retry, UnreadableReply
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask
from inferry.services.googlevertexai import (
    SERVICE,
    batch_of,
    build_embeddings,
    build_rerank,
    check,
    error_message,
    group,
    parse_embeddings,
    parse_rerank,
)
from inferry.services.vertex_chat import build_chat

KEY_FILE = (Path(__file__).parent / "googlevertexai/service_account.json").read_text()
GOOGLE = {"project_id": "p", "location": "us-east1", "model_id": "m"}
CHAT, RERANK = TaskType.CHAT_COMPLETION, TaskType.RERANK
WHICH = "For Google Model Garden, you must provide either provider with url and/or streaming_url."


def endpoint(
    settings: dict[str, Any] | None = None, task_type: TaskType = CHAT, key: str = KEY_FILE
) -> Endpoint:
    secrets = {"service_account_json": key}
    return Endpoint("mine", task_type, "googlevertexai", settings or GOOGLE, secrets=secrets)


def request(settings: dict[str, Any] | None = None, **more) -> InferenceRequest:
    return InferenceRequest(endpoint(settings), Deadline.after(30, "30s"), **more)


def asking(settings: dict[str, Any] | None = None, **more) -> InferenceRequest:
    return request(settings, chat=Chat([Message("user", "Hi")], **more))


def reply(body) -> HttpReply:
    return HttpReply(200, {}, json.dumps(body).encode())


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        GOOGLE,
        {"project_id": "p", "model_id": "m"},
        {**GOOGLE, "provider": "google"},
        {"provider": "anthropic", "url": "https://a"},
        {"provider": "meta", "streaming_url": "https://a", "model_id": "m"},
    ],
)
def test_a_model_of_google_or_the_url_of_another_vendors_is_enough(settings):
    assert check(endpoint(settings)) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"location": "us-east1"},
        {"project_id": "p"},
        {"provider": "google", "model_id": "m"},
        {"provider": "anthropic", **GOOGLE},
        {"url": "https://a", **GOOGLE},
    ],
)
def test_what_names_no_model_is_told_both_ways_to_name_one(settings):
    (problem,) = check(endpoint(settings))

    assert problem.startswith(WHICH)
    assert f"location [{settings.get('location', 'null')}]" in problem


def test_a_model_of_google_has_no_url():
    settings = {**GOOGLE, "provider": "google", "url": "https://a"}

    assert check(endpoint(settings)) == [
        "[service_settings] does not allow the setting [url] for the provider [google]"
    ]


def test_the_url_of_a_vendor_is_no_matter_of_the_other_tasks():
    assert check(endpoint({"project_id": "p"}, RERANK)) == []


def test_a_location_that_would_change_the_host_is_refused():
    (problem,) = check(endpoint({**GOOGLE, "location": "evil.example.org/"}))

    assert "[location] must consist of" in problem


@pytest.mark.parametrize(
    "key",
    [
        "{",
        "[]",
        '"a"',
        "{}",
        '{"client_email": "e", "private_key": "k"}',
        '{"client_email": "e", "private_key": 1, "token_uri": "https://a"}',
    ],
)
def test_what_is_no_key_file_is_refused_and_not_shown(key):
    (problem,) = check(endpoint(key=key))

    assert problem == (
        "[secret_settings] Invalid value for [service_account_json]. It must be the JSON text of a"
        " service account's key file, with [client_email], [private_key] and [token_uri]"
    )


def test_a_reference_to_a_key_file_is_checked_when_it_is_used():
    assert check(endpoint(key="${file:vertex.json}")) == []


@pytest.mark.parametrize(
    ("task_type", "settings", "missing"),
    [
        (TaskType.TEXT_EMBEDDING, {}, ["project_id", "model_id", "service_account_json"]),
        (RERANK, {"model_id": "m"}, ["project_id", "service_account_json"]),
        (CHAT, {}, ["service_account_json"]),
    ],
)
def test_what_is_required_depends_on_the_task(task_type, settings, missing):
    task = SERVICE.tasks[task_type]
    assert isinstance(task, HttpTask)

    parsed = parse_settings(
        task.service_settings, settings, scope="service_settings", purpose=Purpose.CREATE
    )

    assert parsed.problems == [
        f"[service_settings] does not contain the required setting [{name}]" for name in missing
    ]


def test_a_rate_limit_is_shared_by_project_location_and_model_whatever_the_key():
    mine = endpoint()

    assert group(mine) == group(endpoint(key="{}"))
    assert group(mine) == group(replace(mine, task_type=TaskType.COMPLETION))
    for changed in ({"project_id": "q"}, {"location": "eu"}, {"model_id": "n"}):
        assert group(mine) != group(endpoint({**GOOGLE, **changed}))
    assert group(mine) != group(replace(mine, task_type=TaskType.TEXT_EMBEDDING))
    assert group(endpoint(task_type=RERANK)) == group(endpoint({"project_id": "p"}, RERANK))


@pytest.mark.parametrize(("settings", "size"), [({}, 250), ({"max_batch_size": 7}, 7)])
def test_the_endpoint_says_how_many_inputs_a_call_takes(settings, size):
    assert batch_of(endpoint({**GOOGLE, **settings})) == size


# --- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "host", "place"),
    [
        (None, "aiplatform.googleapis.com", "global"),
        ("global", "aiplatform.googleapis.com", "global"),
        ("us", "aiplatform.us.rep.googleapis.com", "us"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com", "europe-west4"),
    ],
)
def test_a_location_is_a_host_and_a_place_in_the_path(location, host, place):
    settings = {"project_id": "example.org:p", "model_id": "a/b"}
    settings |= {"location": location} if location else {}

    call = build_chat(asking(settings))

    assert call.url == (
        f"https://{host}/v1/projects/example.org:p/locations/{place}"
        "/publishers/google/models/a%2Fb:generateContent"
    )


def test_the_model_of_a_chat_request_replaces_the_endpoints():
    assert build_chat(asking(model="other")).url.endswith("/models/other:generateContent")


@pytest.mark.parametrize(
    ("settings", "mode", "url"),
    [
        ({"url": "https://a", "streaming_url": "https://b"}, False, "https://a"),
        ({"url": "https://a", "streaming_url": "https://b"}, True, "https://b"),
        ({"url": "https://a"}, True, "https://a"),
        ({"streaming_url": "https://b"}, False, "https://b"),
    ],
)
def test_each_mode_has_its_url_or_the_only_one_there_is(settings, mode, url):
    asked = replace(asking({"provider": "anthropic", **settings}), stream=mode)

    assert build_chat(asked).url == url


@pytest.mark.parametrize("provider", ["mistral", "ai21"])
def test_some_vendors_know_only_the_older_words_of_openai(provider):
    asked = asking({"provider": provider, "url": "https://a"}, max_completion_tokens=5)

    body = json.loads(build_chat(replace(asked, stream=True)).body)

    assert body["max_tokens"] == 5
    assert not {"max_completion_tokens", "stream_options", "model"} & body.keys()


@pytest.mark.parametrize(("asked", "task", "tokens"), [(5, 9, 5), (None, 9, 9), (None, None, 1024)])
def test_the_longest_answer_of_anthropic_is_always_said(asked, task, tokens):
    settings = {"provider": "anthropic", "url": "https://a"}
    given = asking(settings, max_completion_tokens=asked)

    call = build_chat(replace(given, task_settings={"max_tokens": task} if task else {}))

    assert json.loads(call.body)["max_tokens"] == tokens


def test_dimensions_that_were_measured_are_not_sent():
    measured = request({**GOOGLE, "dimensions": 8}, inputs=("a",))

    assert json.loads(build_embeddings(measured).body) == {"instances": [{"content": "a"}]}


@pytest.mark.parametrize(("wanted", "sent"), [(None, None), (True, False), (False, True)])
def test_texts_of_documents_come_back_unless_they_are_not_wanted(wanted, sent):
    asked = request(inputs=("a",), query="q", return_documents=wanted)

    assert json.loads(build_rerank(asked).body).get("ignoreRecordDetailsInResponse") is sent


# --- replies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "records", [[{"id": "x", "score": 1}], [{"id": "0"}], [{"score": 1}], None]
)
def test_a_record_without_a_place_or_a_score_is_unreadable(records):
    with pytest.raises(UnreadableReply):
        parse_rerank(reply({"records": records}), request(inputs=("a",)))


def test_values_that_are_no_vector_are_unreadable():
    body = {"predictions": [{"embeddings": {"values": ["a"]}}]}

    with pytest.raises(UnreadableReply, match="Failed to parse the embeddings"):
        parse_embeddings(reply(body), request(inputs=("a",)))


@pytest.mark.parametrize(
    ("body", "message", "code", "kind"),
    [
        (
            {"error": {"code": 404, "message": "No", "status": "NOT_FOUND"}},
            *("No", "404", "NOT_FOUND"),
        ),
        ({"error": {"message": "No"}}, "No", None, "google_vertex_ai_error"),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "No"}},
            *("No", None, "overloaded_error"),
        ),
    ],
)
def test_errors_of_google_and_of_other_vendors_are_read(body, message, code, kind):
    said = error_message(reply(body))

    assert (said.message, said.code, said.param, said.kind) == (message, code, None, kind)


def test_a_service_that_is_busy_has_words_of_its_own():
    row = next(one for one in SERVICE.errors if one.first == 503)

    assert row.retry is Retry.YES
    assert row.text == "The Google Vertex AI service may be temporarily overloaded or down"
