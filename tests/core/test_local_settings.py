"""Settings of local endpoints: messages of PUT, rules of `_update`, the task of the model."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from inferry.domain import TaskType
from inferry.errors import (
    BadRequest,
    IllegalArgument,
    InvalidRequest,
    InvalidSettings,
    NotFound,
    UnusableModel,
)
from tests.core.registry_parts import House, local
from tests.core.test_local_models import attached

DENSE, SPARSE, RERANK = "text_embedding", "sparse_embedding", "rerank"
LEAST, MOST = "min_number_of_allocations", "max_number_of_allocations"


def adaptive(**bounds: Any) -> dict[str, Any]:
    return local(num_allocations=None, adaptive_allocations={"enabled": True, **bounds})


def bare(**settings: Any) -> dict[str, Any]:
    return {"service": "elasticsearch", "service_settings": settings}


@pytest.mark.parametrize(
    ("body", "task_type", "words"),
    [
        (
            bare(model_id="m"),
            DENSE,
            "1: [service_settings] does not contain the required setting [num_threads];"
            "2: [service_settings] does not contain one of the required settings"
            " [num_allocations, adaptive_allocations];",
        ),
        (local(num_allocations=0), DENSE, "[num_allocations] must be a positive integer"),
        (local(num_threads=-1), DENSE, "[num_threads] must be a positive integer"),
        (
            adaptive(**{LEAST: -1}),
            DENSE,
            "[min_number_of_allocations] must be a non-negative integer or null",
        ),
        (
            adaptive(**{MOST: 0}),
            DENSE,
            "[max_number_of_allocations] must be a positive integer or null",
        ),
        (
            adaptive(**{LEAST: 3, MOST: 2}),
            DENSE,
            "[min_number_of_allocations] must not be larger than [max_number_of_allocations]",
        ),
        (
            local(max_chunks_per_doc=2),
            RERANK,
            "The [max_chunks_per_doc] setting requires [long_document_strategy] to be set to"
            " [chunk]",
        ),
        (
            local(long_document_strategy="chunk", max_chunks_per_doc=0),
            RERANK,
            "[max_chunks_per_doc] must be a positive integer",
        ),
        (
            local(long_document_strategy="chunk", max_chunks_per_doc=2),
            RERANK,
            "[long_document_strategy] cannot be [chunk] in this version of the server",
        ),
        (
            local(element_type="bit", similarity="cosine"),
            DENSE,
            "[similarity] must be [l2_norm] for [element_type] [bit], got [cosine]",
        ),
    ],
)
async def test_local_row_011_what_is_wrong_with_settings_is_told(house, body, task_type, words):
    with pytest.raises(InvalidSettings) as caught:
        await house.put("a", body, task_type=task_type)

    assert words in str(caught.value)
    assert house.store.rows == {}


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"num_threads": "1", "num_allocations": 0}, []),
        ({"num_threads": 0, "adaptive_allocations": 5}, []),
        ({"num_threads": 0, "num_allocations": None}, ["num_allocations, adaptive_allocations"]),
        ({"num_threads": None, "num_allocations": 0}, ["num_threads"]),
        ({"num_threads": 1, "adaptive_allocations": {}}, ["num_allocations, adaptive_allocations"]),
    ],
)
async def test_what_is_there_with_a_wrong_value_is_not_called_missing(house, settings, missing):
    with pytest.raises(InvalidSettings) as caught:
        await house.put("a", bare(model_id="m", **settings), task_type=DENSE)

    assert re.findall(r"does not contain [^\[]*\[([^\]]*)\]", str(caught.value)) == missing


async def test_adaptive_allocations_say_whether_they_are_on(house):
    body = local(num_allocations=None, adaptive_allocations={LEAST: 2})
    answer = await house.put("a", body, task_type=DENSE)

    assert answer["service_settings"]["adaptive_allocations"] == {"enabled": False, LEAST: 2}
    given = {"service_settings": {"adaptive_allocations": {MOST: 2}}}
    updated = await house.update(given)
    assert updated["service_settings"]["adaptive_allocations"] == {"enabled": False, MOST: 2}


async def test_local_row_011_fixed_and_adaptive_allocations_are_no_settings_of_a_start(house):
    body = local(adaptive_allocations={"enabled": True})

    with pytest.raises(InvalidRequest, match="cannot be set if adaptive allocations is enabled"):
        await house.put("a", body, task_type=DENSE)


@pytest.mark.parametrize(
    ("body", "task_type", "words"),
    [
        (local(unknown=1), SPARSE, r"settings \[\{unknown=1\}\] unknown to the \[elasticsearch\]"),
        (
            adaptive(unknown=1),
            SPARSE,
            r"unknown settings \[\{unknown=1\}\] while parsing field \[adaptive_allocations\]",
        ),
        (local(similarity="cosine"), SPARSE, r"similarity=cosine.* unknown to the"),
        (local(long_document_strategy="truncate"), DENSE, "unknown to the"),
        (local() | {"chunking_settings": {}}, RERANK, r"chunking_settings.* unknown to the"),
    ],
)
async def test_local_row_011_settings_that_nobody_knows_are_refused(house, body, task_type, words):
    with pytest.raises(BadRequest, match=words):
        await house.put("a", body, task_type=task_type)


async def test_documents_may_be_cut(house):
    answer = await house.put("a", local(long_document_strategy="truncate"), task_type=RERANK)

    assert answer["service_settings"]["long_document_strategy"] == "truncate"
    assert answer["task_settings"] == {"return_documents": True}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_allocations": 2, "adaptive_allocations": {"enabled": True}}, "cannot be set if"),
        ({"num_threads": 2}, r"\[num_threads\] cannot be updated"),
        ({"num_allocations": None}, "does not contain one of the required settings"),
        ({"num_allocations": 0}, "must be a positive integer"),
        ({"model_id": "other"}, r"\[model_id\] cannot be updated"),
    ],
)
async def test_local_row_011_only_allocations_can_be_updated(house, given, words):
    await house.put("a", local(), task_type=DENSE)

    with pytest.raises(BadRequest, match=words):
        await house.update({"service_settings": given})


async def test_local_row_011_one_kind_of_allocations_replaces_the_other(house):
    await house.put("a", local(), task_type=SPARSE)
    follows = {"enabled": True, MOST: 4}

    answer = await house.update({"service_settings": {"adaptive_allocations": follows}})
    assert answer["service_settings"] == {
        "num_threads": 1,
        "model_id": "m",
        "adaptive_allocations": follows,
    }

    answer = await house.update(
        {"service_settings": {"num_allocations": 3, "adaptive_allocations": None}}
    )
    assert answer["service_settings"] == {"num_allocations": 3, "num_threads": 1, "model_id": "m"}


@pytest.mark.parametrize(
    ("bounds", "expected"), [({}, 3), ({LEAST: 5}, 5), ({MOST: 2}, 2), ({LEAST: 0}, 3)]
)
async def test_a_number_that_follows_the_load_stays_within_new_bounds(house, bounds, expected):
    await house.put("a", adaptive(), task_type=DENSE)
    running = house.deployments.running["a"].spec
    await house.deployments.scale(msgspec.structs.replace(running, num_allocations=3))

    follows = {"enabled": True, **bounds, MOST: bounds.get(MOST, 9)}
    await house.update({"service_settings": {"adaptive_allocations": follows}})

    assert house.deployments.running["a"].spec.num_allocations == expected


async def test_local_row_011_task_settings_are_updated_as_of_every_service(house):
    await house.put("a", local(), task_type=RERANK)

    answer = await house.update({"task_settings": {"return_documents": False}})

    assert answer["task_settings"] == {"return_documents": False}
    assert house.deployments.scaled == []


# --- the task ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task_type", list(TaskType)[:3])
async def test_the_model_tells_the_task_where_nobody_else_does(house: House, task_type):
    house.deployments.tasks = {"m": task_type}
    await house.put("a", local(), task_type=None)

    answer = await house.put("b", attached("a"), task_type=None)

    assert answer["task_type"] == task_type


async def test_the_older_service_is_sparse(house):
    body = local() | {"service": "elser"}

    assert (await house.put("a", body, task_type=None))["task_type"] == SPARSE


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (bare(), BadRequest, r"missing required setting \[task_type\]"),
        (local("gone"), NotFound, r"the model \[gone\] is not here"),
        (attached("gone"), NotFound, r"Cannot find deployment \[gone\]"),
    ],
)
async def test_a_model_that_nobody_knows_is_told_of_before_its_task(house, body, error, words):
    house.deployments.absent = {"gone"}

    with pytest.raises(error, match=words):
        await house.put("a", body, task_type=None)


async def test_a_model_is_to_be_named(house):
    with pytest.raises(IllegalArgument, match="model_id must be provided"):
        await house.put("a", bare(num_threads=1, num_allocations=1), task_type=SPARSE)


async def test_bits_come_in_eights(house):
    body = local(element_type="bit")  # of vectors of three numbers

    with pytest.raises(UnusableModel, match=r"multiple of 8 dimensions, the model \[m\] gives \[3"):
        await house.put("a", body, task_type=DENSE)

    assert house.store.rows == {}
    assert house.deployments.running == {}
