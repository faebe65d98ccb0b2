"""Deployments that callers start, stop and change by themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferry.commands import (
    ClearDeploymentCache,
    FetchStats,
    StartDeployment,
    StartModel,
    StopModel,
    UpdateModel,
)
from inferry.concurrency import Nursery
from inferry.errors import (
    BadRequest,
    Conflict,
    IllegalArgument,
    InvalidRequest,
    NoSuchPackage,
    NotDeployed,
    NotFound,
    StartFailed,
    StillStarting,
    UnusableModel,
    error_to_wire,
)
from inferry.records import (
    Announced,
    AssignmentRecord,
    DeploymentSpec,
    StoredFile,
    TrainedModelRecord,
)
from tests.core.registry_parts import House, let_others_come_in, local
from tests.core.test_local_models import attached

DENSE = "text_embedding"


async def start(house: House, model_id: str = "m", **more: Any):
    return await house.registry.start_model(StartModel(model_id, **more))


async def stop(house: House, expression: str, **more: Any) -> None:
    await house.registry.stop_model(StopModel(expression, **more))


def stored(house: House, deployment_id: str = "m") -> AssignmentRecord | None:
    found = house.store.rows.get(("assignment", deployment_id))
    assert found is None or isinstance(found, AssignmentRecord)
    return found


@pytest.fixture
async def callers():
    async with Nursery() as nursery:
        yield nursery


# --- start -------------------------------------------------------------------------------------


async def test_a_model_is_started_under_its_own_id_and_stored(house) -> None:
    record = await start(house)

    assert record.state == "started"
    assert house.deployments.starts == [(DeploymentSpec("m", "m", 1, 1), False)]
    assignment = stored(house)
    assert assignment is not None
    assert not assignment.is_starting


async def test_a_model_may_have_several_deployments(house) -> None:
    await start(house, deployment_id="one")
    await start(house, deployment_id="two", number_of_allocations=3)

    assert set(house.deployments.running) == {"one", "two"}
    assert house.deployments.running["two"].spec.num_allocations == 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"number_of_allocations": 0}, r"\[number_of_allocations\] must be a positive integer"),
        ({"threads_per_allocation": 3}, "must be a power of 2 less than or equal to 32"),
        ({"threads_per_allocation": 64}, "must be a power of 2 less than or equal to 32"),
        ({"threads_per_allocation": 0}, r"\[threads_per_allocation\] must be a positive integer"),
        ({"queue_capacity": 0}, r"\[queue_capacity\] must be a positive integer"),
        ({"queue_capacity": 100_001}, r"\[queue_capacity\] must be less than 100000"),
        ({"timeout_s": 0.0}, r"\[timeout\] must be positive"),
        ({"priority": "low", "number_of_allocations": 2}, r"must be 1 when \[priority\] is low"),
        ({"priority": "low", "threads_per_allocation": 2}, r"must be 1 when \[priority\] is low"),
        (
            {"number_of_allocations": 1, "adaptive_allocations": {"enabled": True}},
            r"\[number_of_allocations\] cannot be set if adaptive allocations is enabled",
        ),
        (
            {"adaptive_allocations": {"enabled": True, "min_number_of_allocations": -1}},
            "must be a non-negative integer or null",
        ),
    ],
)
async def test_what_no_deployment_can_have_is_refused(house, more, words) -> None:
    with pytest.raises(InvalidRequest, match=words):
        await start(house, **more)

    assert house.store.rows == {}


async def test_all_problems_are_told_together(house) -> None:
    with pytest.raises(InvalidRequest, match=r"1: \[threads.*;2: \[queue"):
        await start(house, threads_per_allocation=3, queue_capacity=0)


@pytest.mark.parametrize(("least", "expected"), [(None, 1), (0, 1), (3, 3)])
async def test_adaptive_allocations_start_with_the_least(house, least, expected) -> None:
    adaptive = {"enabled": True} | ({} if least is None else {"min_number_of_allocations": least})

    await start(house, adaptive_allocations=adaptive)

    assert house.deployments.running["m"].spec.num_allocations == expected


async def test_a_model_that_nobody_knows_is_not_found(house, monkeypatch) -> None:
    async def check(model_id: str, task_type: object = None) -> Any:
        raise IllegalArgument("no such model")

    monkeypatch.setattr(house.deployments, "check", check)

    with pytest.raises(NotFound, match=r"^No known trained model with model_id \[m\]$"):
        await start(house)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({}, NotFound, r"^Could not find trained model definition \[up\]$"),
        ({"announced": Announced(2, 9)}, BadRequest, "^Model definition truncated. Unable to"),
        ({"definition": StoredFile("", 9)}, NotFound, "^Could not find vocabulary document"),
    ],
)
async def test_an_upload_that_is_not_whole_is_not_started(house, changes, error, words) -> None:
    house.registry.load([TrainedModelRecord("up", {}, 1, **changes)])

    with pytest.raises(error, match=words):
        await start(house, "up")


async def test_a_deployment_is_started_once(house) -> None:
    await start(house)

    with pytest.raises(Conflict) as caught:
        await start(house)

    assert str(caught.value) == ("Cannot start deployment [m] because it has already been started")


@pytest.mark.parametrize("taken", ["endpoint", ".elser-2-elasticsearch", ".elser_model_2", "up"])
async def test_row_065_its_id_is_that_of_no_endpoint_and_of_no_other_model(house, taken) -> None:
    await house.put("endpoint")
    house.registry.load([TrainedModelRecord("up", {}, 1)])

    with pytest.raises(BadRequest) as caught:
        await start(house, deployment_id=taken)

    assert str(caught.value) == (
        f"Model IDs must be unique. Requested model ID [{taken}] matches existing model IDs but "
        "must not."
    )


@pytest.mark.parametrize("chosen", ["A", "a b", "a/b", "a,b", "*", "_all", "..", "a" * 65])
async def test_a_chosen_id_has_the_form_of_a_models(house, chosen) -> None:
    with pytest.raises(InvalidRequest, match="Invalid deployment_id"):
        await start(house, deployment_id=chosen)
    assert house.store.rows == {}


async def test_a_start_that_fails_is_told_with_its_reason_and_forgotten(house) -> None:
    house.deployments.fails = UnusableModel("the model is broken")

    with pytest.raises(StartFailed) as caught:
        await start(house)

    assert str(caught.value) == (
        "Could not start trained model deployment, the following nodes failed with errors "
        "[{local=the model is broken}]"
    )
    assert house.store.rows == {}
    assert house.deployments.running == {}


async def test_a_package_that_no_repository_has_is_not_found(house) -> None:
    house.deployments.fails = NoSuchPackage("Failed to find package [m]: [file:///x] has none")

    with pytest.raises(NotFound, match=r"^No known trained model with model_id \[m\]: Failed to"):
        await start(house)
    assert house.store.rows == {}


async def test_a_vocabulary_that_lacks_a_token_is_a_conflict(house) -> None:
    house.deployments.fails = Conflict("stored vocabulary is missing required [[PAD]] token")

    with pytest.raises(Conflict, match=r"^stored vocabulary is missing required") as caught:
        await start(house)
    assert caught.value.__cause__ is house.deployments.fails
    assert "cause" in error_to_wire(caught.value)
    assert house.store.rows == {}


async def test_local_row_007_a_start_that_takes_too_long_goes_on(house) -> None:
    house.deployments.gate = asyncio.Event()

    with pytest.raises(StillStarting, match=r"^Timed out after \[10ms\] waiting for model deploy"):
        await start(house, timeout_s=0.01, timeout="10ms")

    house.deployments.gate.set()
    await let_others_come_in()
    assert house.deployments.running["m"].state == "started"
    assignment = stored(house)
    assert assignment is not None
    assert not assignment.is_starting


async def test_who_waits_for_the_beginning_only_does_not_wait(house) -> None:
    house.deployments.gate = asyncio.Event()

    record = await start(house, wait_for="starting")

    assert record.state == "starting"
    kept = stored(house)
    assert kept is not None
    assert record.started_at_ms is not None
    assert record.started_at_ms >= kept.created_at_ms
    house.deployments.gate.set()


# --- stop --------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["d", "m", "*", "_all", "d*", "d,other"])
async def test_a_deployment_is_stopped_by_its_id_its_models_or_a_pattern(house, expression) -> None:
    await start(house, deployment_id="d")
    await start(house, "other")

    await stop(house, expression)

    assert "d" not in house.deployments.running
    assert stored(house, "d") is None


async def test_what_means_all_among_other_ids_is_an_id(house) -> None:
    await start(house, deployment_id="d")
    house.deployments.absent = {"_all"}

    with pytest.raises(NotFound, match=r"\[_all\]"):
        await stop(house, "d,_all")

    assert "d" in house.deployments.running


async def test_a_model_that_is_not_deployed_stops_at_once(house) -> None:
    await stop(house, "m")


async def test_what_nobody_knows_cannot_be_stopped(house) -> None:
    house.deployments.absent = {"nowhere"}

    with pytest.raises(NotFound, match=r"^No known model deployment with id \[nowhere\]$"):
        await stop(house, "nowhere")
    with pytest.raises(NotFound):
        await stop(house, "none*", allow_no_match=False)
    await stop(house, "none*")


async def test_of_several_deployments_one_is_to_be_named(house) -> None:
    await start(house, deployment_id="one")
    await start(house, deployment_id="two")

    with pytest.raises(BadRequest, match=r"several deployments \[one, two\]"):
        await stop(house, "m")


async def test_local_row_005_what_an_endpoint_made_is_stopped_with_force_only(
    house,
) -> None:
    await house.put("e", local(), task_type=DENSE)

    with pytest.raises(Conflict) as caught:
        await stop(house, "e")
    assert str(caught.value) == (
        "Cannot stop deployment [e] as it was created by inference endpoint [e]"
    )
    await stop(house, "e", force=True)

    assert house.deployments.running == {}
    with pytest.raises(NotDeployed):
        await house.registry.start_deployment(StartDeployment("e"))


async def stopped(house: House, **settings: Any) -> House:
    """Stop the deployment of an endpoint `e`; give what starts with that store then."""
    await house.put("e", local(**settings), task_type=DENSE)
    await stop(house, "e", force=True)
    return await restarted(house, "e")


async def test_what_was_stopped_of_an_endpoint_stays_so_when_the_server_starts(house) -> None:
    again = await stopped(house)

    assert again.deployments.starts == []
    with pytest.raises(NotDeployed):
        await again.registry.start_deployment(StartDeployment("e"))


async def test_a_start_takes_the_stop_of_an_endpoint_back(house) -> None:
    again = await stopped(house, num_threads=2, num_allocations=3)

    record = await start(again, deployment_id="e", threads_per_allocation=1)

    assert (record.spec.num_allocations, record.spec.num_threads) == (3, 2)
    assert house.store.rows.keys() == {("endpoint", "e")}
    once_more = await restarted(house)
    assert set(once_more.deployments.running) == {"e"}


@pytest.mark.parametrize(
    "given",
    [{"number_of_allocations": 4}, {"adaptive_allocations": {"enabled": True}}],
)
async def test_such_a_start_may_change_the_allocations_of_the_endpoint(house, given) -> None:
    again = await stopped(house)

    await start(again, deployment_id="e", **given)

    settings = house.store.rows["endpoint", "e"].service_settings
    assert settings.get("num_allocations") == given.get("number_of_allocations")
    assert settings.get("adaptive_allocations") == given.get("adaptive_allocations")


async def test_such_a_start_is_of_the_endpoints_model(house) -> None:
    again = await stopped(house)

    with pytest.raises(BadRequest, match=r"uses the model \[m\] and not \[other\]"):
        await start(again, "other", deployment_id="e")

    assert again.deployments.starts == []


async def test_such_a_start_that_fails_is_told_and_leaves_the_endpoint(house) -> None:
    again = await stopped(house)
    again.deployments.fails = UnusableModel("broken")

    with pytest.raises(StartFailed, match="broken"):
        await start(again, deployment_id="e")

    assert not house.store.rows["endpoint", "e"].is_stopped


async def test_an_endpoint_that_is_stopped_can_be_deleted(house) -> None:
    again = await stopped(house)

    await again.delete("e")

    assert house.store.rows == {}


async def test_local_row_005_what_endpoints_use_is_stopped_with_force_only(
    house,
) -> None:
    await start(house, deployment_id="d")
    await house.put("guest", attached("d"), task_type=DENSE)

    with pytest.raises(Conflict, match=r"\[d\] as it is used by inference endpoints \[guest\]"):
        await stop(house, "d")
    await stop(house, "d", force=True)

    assert house.deployments.running == {}


async def test_local_row_005_nothing_is_stopped_when_one_of_them_is_in_use(house) -> None:
    await start(house)
    await house.put("e", local(), task_type=DENSE)

    with pytest.raises(Conflict):
        await stop(house, "*")

    assert set(house.deployments.running) == {"e", "m"}


async def test_local_row_004_attached_endpoints_use_it_and_leave_it(house) -> None:
    await start(house, deployment_id="d", number_of_allocations=2)

    for model_id in (None, "m"):
        body = attached("d")
        if model_id is not None:
            body["service_settings"]["model_id"] = model_id
        answer = await house.put("guest", body, task_type=DENSE)
        assert answer["service_settings"] == {
            "num_allocations": 2,
            "num_threads": 1,
            "model_id": "m",
            "deployment_id": "d",
            "dimensions": 3,
            "similarity": "dot_product",
            "element_type": "float",
        }
        await house.delete("guest")

    assert "d" in house.deployments.running


# --- update ------------------------------------------------------------------------------------


async def update(house: House, deployment_id: str, **more: Any):
    return await house.registry.update_model(UpdateModel(deployment_id, **more))


async def test_allocations_are_changed_and_stored(house) -> None:
    await start(house)

    record = await update(house, "m", number_of_allocations=4)

    assert record.spec.num_allocations == 4
    assignment = stored(house)
    assert assignment is not None
    assert assignment.spec.num_allocations == 4


async def test_allocations_of_an_endpoint_are_stored_with_it(house) -> None:
    await house.put("e", local(), task_type=DENSE)
    adaptive = {"enabled": True, "max_number_of_allocations": 4}

    await update(house, "e", adaptive_allocations=adaptive)

    settings = house.store.rows["endpoint", "e"].service_settings
    assert settings["adaptive_allocations"] == adaptive
    assert "num_allocations" not in settings


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, r"\[number_of_allocations\] or \[adaptive_allocations\] must be set"),
        ({"number_of_allocations": 0}, "must be a positive integer"),
        (
            {"number_of_allocations": 2, "adaptive_allocations": {"enabled": True}},
            "cannot be set if adaptive",
        ),
    ],
)
async def test_what_no_deployment_can_have_is_refused_of_updates(house, more, words) -> None:
    await start(house)

    with pytest.raises(InvalidRequest, match=words):
        await update(house, "m", **more)

    assert house.deployments.scaled == []


async def test_only_what_runs_can_be_changed(house) -> None:
    with pytest.raises(NotFound, match=r"^No known model deployment with id \[m\]$"):
        await update(house, "m", number_of_allocations=2)


# --- the start of the server, stats ------------------------------------------------------------


async def restarted(house: House, *preload: str) -> House:
    again = House(house.nursery, store=house.store)
    again.registry.load(list(house.store.rows.values()))
    again.registry.resume(preload)
    await let_others_come_in()
    return again


async def test_deployments_are_started_with_the_server(house) -> None:
    await start(house)

    again = await restarted(house)

    assert again.deployments.starts == [(DeploymentSpec("m", "m", 1, 1), True)]


async def test_a_start_that_a_crash_cut_off_is_resumed(house, callers) -> None:
    house.deployments.gate = asyncio.Event()
    callers.start(start(house))
    await let_others_come_in()

    again = await restarted(house)

    assert again.deployments.starts == [(DeploymentSpec("m", "m", 1, 1), False)]
    assignment = stored(again)
    assert assignment is not None
    assert not assignment.is_starting


async def test_stopped_while_it_starts_it_is_gone(house, callers) -> None:
    house.deployments.gate = asyncio.Event()
    starting = callers.start(start(house))
    await let_others_come_in()

    await stop(house, "m")

    with pytest.raises(Conflict, match=r"\[m\] was stopped while it started"):
        await starting
    assert house.store.rows == {}


async def test_stats_tell_of_every_deployment(house) -> None:
    await start(house, deployment_id="one")
    await house.put("e", local(), task_type=DENSE)

    stats = (await house.registry.handlers()[FetchStats](FetchStats())).deployments

    assert [one.deployment.spec.deployment_id for one in stats] == ["one", "e"]


# --- cache -------------------------------------------------------------------------------------


async def clear_cache(house: House, deployment_id: str) -> None:
    handle = house.registry.handlers()[ClearDeploymentCache]
    await handle(ClearDeploymentCache(deployment_id))


@pytest.mark.parametrize("name", ["d", "m"])
async def test_the_cache_of_a_deployment_is_cleared_by_its_id_or_its_only_models(house, name):
    await start(house, deployment_id="d")

    await clear_cache(house, name)

    assert house.deployments.running["d"].clearings == 1


async def test_there_is_no_cache_of_what_is_not_deployed(house) -> None:
    with pytest.raises(NotFound, match=r"No known model deployment with id \[m\]"):
        await clear_cache(house, "m")
