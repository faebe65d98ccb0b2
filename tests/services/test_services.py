"""Every service does what its files say, and declares itself in the ways of the house."""

from __future__ import annotations

import json
import re

import pytest

from inferry.calls import HttpReply
from inferry.domain import ChatChunk, Endpoint, TaskType
from inferry.errors import UnreadableReply
from inferry.service import HttpTask, Service
from tests.services.cases import SERVICES, Case, cases, path_of, shown

MARKER = "sk-marker-1"

every_case = pytest.mark.parametrize("case", list(cases("cases")), ids=str)
every_stream = pytest.mark.parametrize("case", list(cases("streams")), ids=str)
every_call = pytest.mark.parametrize("case", [*cases("cases"), *cases("streams")], ids=str)
every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=lambda one: one.name)
hosted = [service for service in SERVICES.values() if service.auth is not None]
every_hosted = pytest.mark.parametrize("service", hosted, ids=lambda one: one.name)


def http_tasks(service: Service) -> list[tuple[TaskType, HttpTask]]:
    return [(kind, task) for kind, task in service.tasks.items() if isinstance(task, HttpTask)]


def chunks_of(case: Case) -> list[ChatChunk]:
    assert case.task.decode is not None
    reduce = case.task.decode(case.request)
    found: list[ChatChunk] = []
    for event in case.events:
        chunks = reduce(event)
        if chunks is None:
            return found
        found += chunks
    assert case.written.get("ends") == "with the body"
    return found


@every_service
def test_every_task_has_a_file_and_every_stream_a_case(service):
    for task_type, task in http_tasks(service):
        written = json.loads(path_of(service.name, task_type).read_text())

        assert written["source"].startswith("https://")
        assert written["cases"]
        assert bool(written.get("streams")) == (task.decode is not None)


@every_call
def test_a_request_becomes_the_call_of_the_file(case):
    call = case.task.build(case.request)

    assert {
        "method": call.method,
        "url": call.url,
        "headers": dict(call.headers),
        "body": json.loads(call.body),
    } == case.written["call"]


@every_case
def test_a_reply_becomes_the_result_of_the_file(case):
    assert shown(case.task.parse(case.reply, case.request)) == case.written["result"]


@every_stream
def test_events_become_the_chunks_of_the_file_until_the_stream_ends(case):
    assert [shown(chunk) for chunk in chunks_of(case)] == case.written["chunks"]


@every_stream
def test_the_pieces_of_a_stream_make_up_the_text(case):
    pieces = [choice.delta.content or "" for one in chunks_of(case) for choice in one.choices]

    assert "".join(pieces) == case.written["text"]


@every_case
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'"text"', b"<html>", b"\xff\xfe"])
def test_a_reply_that_makes_no_sense_is_told_so(case, body):
    with pytest.raises(UnreadableReply):
        case.task.parse(HttpReply(200, {}, body), case.request)


@every_call
def test_a_secret_is_only_in_what_signs_the_call(case):
    call = case.task.build(case.request)
    service = case.service

    assert MARKER not in f"{call}{case.request.endpoint}"
    assert service.auth is not None
    assert service.group is not None
    assert MARKER not in service.group(case.request.endpoint)
    steps = service.auth(call, case.request.endpoint, 0.0)
    token = HttpReply(200, {}, json.dumps({"access_token": MARKER, "expires_in": 3600}).encode())
    with pytest.raises(StopIteration) as done:
        asked = next(steps)
        assert MARKER not in repr(asked)
        steps.send(token)
    assert MARKER in str(done.value.value.headers)
    assert MARKER not in repr(done.value.value)


@every_hosted
def test_every_status_that_is_no_success_has_a_row(service):
    without = [
        status
        for status in range(300, 600)
        if not any(row.first <= status <= row.last and not row.contains for row in service.errors)
    ]

    assert without == []


@every_hosted
def test_placeholders_of_error_texts_are_headers_in_lower_case_or_the_url(service):
    named = {name for row in service.errors for name in re.findall(r"{([^}]*)}", row.text)}

    assert {name for name in named if not re.fullmatch(r"[a-z0-9-]+", name)} == set()


@every_service
def test_listed_settings_have_a_label_and_a_help(service):
    for task in service.tasks.values():
        for field in (*task.service_settings, *task.task_settings):
            assert not field.listed or (field.label and field.help), field.name


@every_service
def test_no_task_declares_a_setting_twice(service):
    for task in service.tasks.values():
        names = [field.name for field in (*task.service_settings, *task.task_settings)]

        assert len(names) == len(set(names))


@every_hosted
def test_hosted_tasks_have_a_rate_limit_by_default(service):
    for _, task in http_tasks(service):
        (field,) = [one for one in task.service_settings if one.name.startswith("rate_limit.")]

        assert field.default == (task.requests_per_minute or service.requests_per_minute)


@every_service
def test_an_endpoint_without_any_setting_can_be_checked(service):
    task_type = next(iter(service.tasks))
    settings = {} if service in hosted else {"model_id": "m"}
    endpoint = Endpoint("x", task_type, service.name, settings)

    assert service.check is None or isinstance(service.check(endpoint), list)
