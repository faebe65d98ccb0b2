"""What is asked becomes a request: which setting wins, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.core.asking import Ask, settle
from inferry.core.runners.compose import compose
from inferry.core.runners.runner import Runners
from inferry.domain import Deadline, Endpoint, InferenceRequest, InputType, TaskType
from inferry.errors import BadRequest, InvalidRequest, InvalidSettings
from inferry.service import HttpTask
from tests.core.limiters import Permits
from tests.core.outbounds import DENSE, SERVICE, Replies

DEADLINE = Deadline.after(30, "30s")


def runners_for(task_type=TaskType.TEXT_EMBEDDING, *, service=SERVICE, **stored) -> Runners:
    task = service.tasks[task_type]
    assert isinstance(task, HttpTask)
    endpoint = Endpoint("e", task_type, "small", {}, task_settings=stored)
    return compose(
        endpoint, service, task, outbound=Replies(), limiter=Permits(), count=lambda *_: None
    )


def settled(runners: Runners, **asked) -> InferenceRequest:
    return settle(Ask(**{"inputs": ("a",), **asked}), runners, DEADLINE)


def test_without_settings_in_the_request_the_stored_ones_are_used_as_they_are() -> None:
    runners = runners_for(user="stored")

    request = settled(runners)

    assert request.task_settings is runners.endpoint.task_settings
    assert request.endpoint is runners.endpoint
    assert request.inputs == ("a",)


def test_settings_of_the_request_win_key_by_key() -> None:
    request = settled(runners_for(user="stored", depth=1), task_settings={"depth": 2})

    assert request.task_settings == {"user": "stored", "depth": 2}


def test_null_counts_as_not_sent_and_unknown_settings_are_ignored() -> None:
    given = {"user": None, "no_such": 1}

    assert settled(runners_for(user="stored"), task_settings=given).task_settings == {
        "user": "stored"
    }


def test_a_setting_out_of_its_range_is_refused_with_its_scope() -> None:
    with pytest.raises(InvalidSettings, match=r"\[task_settings\].*\[depth\]"):
        settled(runners_for(), task_settings={"depth": 0})


@pytest.mark.parametrize(
    ("root", "given", "stored", "used"),
    [
        (InputType.SEARCH, "clustering", "ingest", InputType.SEARCH),
        (None, "clustering", "ingest", InputType.CLUSTERING),
        (None, None, "ingest", InputType.INGEST),
        (None, None, None, InputType.UNSPECIFIED),
        (InputType.UNSPECIFIED, None, "ingest", InputType.INGEST),
    ],
)
def test_input_type_of_the_root_wins_over_that_of_the_settings(root, given, stored, used) -> None:
    runners = runners_for(**({"input_type": stored} if stored else {}))
    settings = {"input_type": given} if given else {}

    assert settled(runners, input_type=root, task_settings=settings).input_type is used


@pytest.mark.parametrize("given", [InputType.INGEST, InputType.SEARCH, InputType.UNSPECIFIED])
def test_input_types_that_clients_send_by_habit_are_always_accepted(given) -> None:
    settled(runners_for(), input_type=given)


def test_an_input_type_that_a_service_has_no_use_for_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        settled(runners_for(), input_type=InputType.CLUSTERING)

    assert "Input type [clustering] is not supported for [small]" in str(caught.value)


def test_an_input_type_that_a_service_names_is_accepted() -> None:
    task = replace(DENSE, input_types=frozenset({InputType.CLUSTERING}))
    service = replace(SERVICE, tasks={TaskType.TEXT_EMBEDDING: task})

    request = settled(runners_for(service=service), input_type=InputType.CLUSTERING)

    assert request.input_type is InputType.CLUSTERING


@pytest.mark.parametrize(
    ("root", "given", "stored", "used"), [(1, 2, 3, 1), (None, 2, 3, 2), (None, None, 3, 3)]
)
def test_top_n_of_the_root_wins_over_that_of_the_settings(root, given, stored, used) -> None:
    settings = {"top_n": given} if given else {}

    request = settled(
        runners_for(TaskType.RERANK, top_n=stored), top_n=root, task_settings=settings
    )

    assert request.top_n == used


@pytest.mark.parametrize(("root", "stored", "used"), [(False, True, False), (None, True, True)])
def test_return_documents_of_the_root_wins_over_that_of_the_settings(root, stored, used) -> None:
    runners = runners_for(TaskType.RERANK, return_documents=stored)

    assert settled(runners, return_documents=root).return_documents is used


@pytest.mark.parametrize("inputs", [(), ("a", "b")])
def test_a_completion_takes_exactly_one_input(inputs) -> None:
    with pytest.raises(BadRequest, match=r"^Small completions only accepts 1 input$"):
        settled(runners_for(TaskType.COMPLETION), inputs=inputs)
