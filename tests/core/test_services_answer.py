"""The catalogue is what the declarations say, in the form clients expect."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from inferry.core.services_answer import services_answer
from inferry.domain import TaskType
from inferry.services.catalog import built_in_services

SERVICES = {service.name: service for service in built_in_services()}
EXPECTED = json.loads((Path(__file__).parent / "services_answer.json").read_text())


def test_the_catalogue_is_the_expected_one_to_the_letter():
    assert json.dumps(services_answer(SERVICES), indent=2) == json.dumps(EXPECTED, indent=2)


@pytest.mark.parametrize("task_type", [TaskType.CHAT_COMPLETION, TaskType.RERANK])
def test_a_task_type_keeps_the_services_that_offer_it(task_type):
    found = services_answer(SERVICES, task_type)

    assert found == [one for one in EXPECTED if task_type in one["task_types"]]
    assert found != EXPECTED


def test_services_are_sorted_by_name_whatever_its_case():
    renamed = {name: replace(SERVICES["openai"], name=name) for name in ("b", "C", "a")}

    assert [one["service"] for one in services_answer(renamed)] == ["a", "b", "C"]


def test_a_task_type_that_nobody_offers_gives_an_empty_list():
    assert services_answer({}, TaskType.RERANK) == []
