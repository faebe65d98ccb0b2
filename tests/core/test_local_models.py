"""Endpoints of local models: stored, started, undone, resumed, scaled and stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from inferry.commands import PutEndpoint, StartDeployment
from inferry.concurrency import Nursery
from inferry.domain import TaskType
from inferry.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    DeadlineExceeded,
    IllegalArgument,
    InvalidRequest,
    InvalidSettings,
    NotDeployed,
    NotFound,
    StillStarting,
    UnusableModel,
)
from inferry.records import DeploymentSpec, EndpointRecord, TrainedModelRecord
from tests.core.registry_parts import WIDTH, House, let_others_come_in, local, open_house

DENSE = "text_embedding"


async def put(house: House, inference_id: str = "a", **more: Any) -> dict[str, Any]:
    body = more.pop("body", None) or local()
    return await house.put(inference_id, body, task_type=DENSE, **more)


def wanted(deployment_id: str) -> DeploymentSpec:
    return DeploymentSpec(deployment_id, "m", 1, 1, task_type=TaskType.TEXT_EMBEDDING)


def stored(house: House, inference_id: str = "a") -> EndpointRecord | None:
    found = house.store.rows.get(("endpoint", inference_id))
    assert found is None or isinstance(found, EndpointRecord)
    return found


def shown(house: House, inference_id: str = "a") -> dict[str, Any]:
    entry = house.snapshot.require(inference_id)
    item: dict[str, Any] = msgspec.json.decode(entry.fragment)["service_settings"]
    return item


@pytest.fixture
async def callers():
    async with Nursery() as nursery:
        yield nursery


# --- PUT ---------------------------------------------------------------------------------------


async def test_an_endpoint_is_stored_and_its_model_started(house) -> None:
    answer = await put(house)

    assert house.deployments.starts == [(wanted("a"), False)]
    assert list(answer["service_settings"].items()) == [
        ("num_allocations", 1),
        ("num_threads", 1),
        ("model_id", "m"),
        ("dimensions", 3),
        ("similarity", "dot_product"),
        ("element_type", "float"),
    ]
    record = stored(house)
    assert record is not None
    assert record.service_settings == answer["service_settings"]
    assert not record.is_starting
    assert house.probe.asked == []


async def test_a_width_below_the_models_own_is_asked_of_the_deployment(house) -> None:
    answer = await put(house, body=local(dimensions=2))

    assert house.deployments.starts[0][0].dimensions == 2
    assert answer["service_settings"]["dimensions"] == 2


async def test_a_model_that_is_not_here_is_refused_before_anything_is_stored(house) -> None:
    house.deployments.absent = {"m"}

    with pytest.raises(NotFound, match="not here"):
        await put(house)

    assert house.published == []
    assert house.store.rows == {}


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (local(num_threads=3), InvalidRequest, "power of 2"),
        (local(model_id=None), IllegalArgument, "model_id must be provided"),
        (local(element_type="hex"), InvalidSettings, r"must be one of \[bit, byte, float\]"),
    ],
)
async def test_settings_that_no_deployment_can_have_are_refused(house, body, error, words) -> None:
    with pytest.raises(error, match=words):
        await put(house, body=body)

    assert house.store.rows == {}


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"model_id": "absent"}, NotFound, "not here"),
        ({"deployment_id": "none"}, NotFound, r"^Cannot find deployment \[none\]$"),
        ({"model_id": "masks"}, BadRequest, r"\[masks\] has type \[fill_mask\] which does not map"),
    ],
)
async def test_what_is_wrong_with_a_model_is_told_where_nothing_says_its_task(
    house, settings, error, words
) -> None:
    house.deployments.absent = {"absent"}
    house.deployments.tasks = {"masks": None}
    config: dict[str, Any] = {"inference_config": {"fill_mask": {}}}
    house.registry.load([TrainedModelRecord("masks", config, 1)])

    with pytest.raises(error, match=words):
        await house.put("a", local(**settings), task_type=None)

    assert house.store.rows == {}


async def test_a_model_that_does_something_else_is_refused(house) -> None:
    house.deployments.tasks = {"m": TaskType.TEXT_EMBEDDING}

    with pytest.raises(UnusableModel, match=r"\[m\] is for \[text_embedding\]"):
        await house.put("a", local(), task_type="rerank")

    assert house.store.rows == {}


@pytest.mark.parametrize("task_type", ["sparse_embedding", "rerank"])
async def test_only_dense_endpoints_have_a_width(house, task_type) -> None:
    answer = await house.put("a", local(), task_type=task_type)

    assert house.deployments.starts[0][0].task_type == task_type
    assert answer["service_settings"] == local()["service_settings"]


async def test_a_start_that_fails_takes_the_endpoint_with_it(house) -> None:
    house.deployments.fails = UnusableModel("the model is broken")

    with pytest.raises(UnusableModel, match="broken"):
        await put(house)

    assert house.store.rows == {}
    assert house.snapshot.get("a") is None
    assert house.deployments.running == {}


async def test_a_start_that_takes_too_long_goes_on_and_the_endpoint_stays(house) -> None:
    house.deployments.gate = asyncio.Event()

    with pytest.raises(StillStarting) as caught:
        await put(house, timeout_s=0.02, timeout="20ms")

    assert str(caught.value) == (
        "The inference endpoint [a] is created, but its model [m] did not start within [20ms]: "
        "half way. It goes on starting"
    )
    assert shown(house) == {"num_allocations": 1, "num_threads": 1, "model_id": "m"}
    house.deployments.gate.set()
    await let_others_come_in()
    assert shown(house)["dimensions"] == 3


async def test_a_start_that_fails_after_its_client_was_answered_still_undoes_it(house) -> None:
    house.deployments.gate = asyncio.Event()
    with pytest.raises(StillStarting):
        await put(house, timeout_s=0.01)

    house.deployments.fails = UnusableModel("broken")
    house.deployments.gate.set()
    await let_others_come_in()

    assert house.store.rows == {}
    assert house.snapshot.get("a") is None


async def test_a_second_put_waits_for_the_first_start(house, callers) -> None:
    house.deployments.gate = asyncio.Event()
    first, second = callers.start(put(house)), callers.start(put(house))
    late = callers.start(put(house, timeout_s=0.01))
    await asyncio.wait([late])
    assert isinstance(late.exception(), DeadlineExceeded)
    assert not second.done()

    house.deployments.gate.set()

    assert (await first)["inference_id"] == "a"
    with pytest.raises(AlreadyExists):
        await second


async def test_a_second_put_runs_itself_when_the_first_start_fails(house, callers) -> None:
    house.deployments.gate = asyncio.Event()
    house.deployments.fails = UnusableModel("broken")
    first, second = callers.start(put(house)), callers.start(put(house))
    await let_others_come_in()
    house.deployments.gate.set()
    await asyncio.wait([first])
    house.deployments.fails = None

    assert (await second)["inference_id"] == "a"
    assert isinstance(first.exception(), UnusableModel)
    assert len(house.deployments.starts) == 2


async def test_a_dry_run_starts_nothing(house) -> None:
    answer = await put(house, dry_run=True)

    assert answer["dry_run"] is True
    assert answer["endpoint"]["service_settings"]["model_id"] == "m"
    assert "request" not in answer
    assert house.store.rows == {}
    assert house.deployments.starts == []


async def test_without_a_start_the_first_run_starts_the_model() -> None:
    async with open_house(skip_validation=True) as house:
        await put(house)
        assert house.deployments.starts == []

        await house.registry.start_deployment(StartDeployment("a"))

        assert house.deployments.starts == [(wanted("a"), True)]


async def test_row_065_the_id_of_a_deployment_is_taken(house) -> None:
    await house.deployments.start(DeploymentSpec("running", "m", 1, 1))

    with pytest.raises(BadRequest) as caught:
        await house.put("running")

    assert str(caught.value) == (
        "Inference endpoint IDs must be unique. Requested inference endpoint ID [running] matches "
        "existing trained model ID(s) but must not."
    )


# --- attached to a deployment ------------------------------------------------------------------


def attached(deployment_id: str, **settings: Any) -> dict[str, Any]:
    return local(
        None, num_allocations=None, num_threads=None, deployment_id=deployment_id, **settings
    )


async def test_an_endpoint_can_be_attached_to_a_deployment_that_runs(house) -> None:
    await put(house, "owner", body=local(num_allocations=2))

    answer = await put(house, "guest", body=attached("owner"))

    assert answer["service_settings"] == {
        "num_allocations": 2,
        "num_threads": 1,
        "model_id": "m",
        "deployment_id": "owner",
        "dimensions": WIDTH,
        "similarity": "dot_product",
        "element_type": "float",
    }
    assert len(house.deployments.starts) == 1


async def test_what_becomes_of_vectors_is_the_affair_of_each_attached_endpoint(house) -> None:
    await put(house, "owner")
    packed = attached("owner", element_type="byte", dimensions=WIDTH)

    answer = await put(house, "guest", body=packed)

    assert list(answer["service_settings"])[-3:] == ["dimensions", "similarity", "element_type"]
    assert answer["service_settings"]["element_type"] == "byte"
    with pytest.raises(InvalidSettings, match=r"must be \[l2_norm\] for"):
        await put(house, "other", body=attached("owner", element_type="bit", similarity="cosine"))
    with pytest.raises(UnusableModel, match="multiple of 8"):
        await put(house, "other", body=attached("owner", element_type="bit"))
    with pytest.raises(BadRequest, match=r"\[dimensions\] of an endpoint on the deployment"):
        await put(house, "other", body=attached("owner", dimensions=WIDTH - 1))


@pytest.mark.parametrize(
    ("body", "task_type", "error", "words"),
    [
        (attached("nowhere"), DENSE, NotFound, r"^Cannot find deployment \[nowhere\]$"),
        (
            attached("owner") | {"service_settings": {"deployment_id": "owner", "model_id": "x"}},
            DENSE,
            BadRequest,
            r"^Deployment \[owner\] uses model \[m\] which does not match the model \[x\]$",
        ),
        (
            attached("owner"),
            "rerank",
            BadRequest,
            r"^Deployed model \[m\] with type \[text_embedding\] does not match the requested "
            r"task type \[rerank\]$",
        ),
    ],
)
async def test_what_it_is_attached_to_must_fit(house, body, task_type, error, words) -> None:
    await put(house, "owner")

    with pytest.raises(error, match=words):
        await house.put("guest", body, task_type=task_type)


async def test_a_deployment_outlives_the_endpoints_attached_to_it(house) -> None:
    await put(house, "owner")
    await put(house, "guest", body=attached("owner"))

    await house.delete("guest")

    assert "owner" in house.deployments.running


async def test_a_deployment_is_changed_through_its_own_endpoint_only(house) -> None:
    await put(house, "owner")
    await put(house, "a", body=attached("owner"))

    with pytest.raises(
        Conflict, match=r"\[owner\] of the inference endpoint \[a\] was not created"
    ):
        await house.update({"service_settings": {"num_allocations": 2}})

    assert house.deployments.scaled == []


async def test_a_run_of_an_endpoint_whose_deployment_is_gone_starts_nothing(house) -> None:
    await put(house, "owner")
    await put(house, "guest", body=attached("owner"))
    await house.delete("owner")

    with pytest.raises(
        NotDeployed, match=r"^\[owner\], which runs the inference endpoint \[guest\]"
    ):
        await house.registry.start_deployment(StartDeployment("guest"))


# --- update and delete -------------------------------------------------------------------------


async def test_an_update_scales_the_deployment(house) -> None:
    await put(house)

    answer = await house.update({"service_settings": {"num_allocations": 4}})

    assert answer["service_settings"]["num_allocations"] == 4
    assert [spec.num_allocations for spec in house.deployments.scaled] == [4]
    assert shown(house)["num_allocations"] == 4


async def test_allocations_can_become_adaptive(house) -> None:
    await put(house)
    adaptive = {"enabled": True, "min_number_of_allocations": 2}

    answer = await house.update({"service_settings": {"adaptive_allocations": adaptive}})

    assert list(answer["service_settings"])[:3] == [
        "num_threads",
        "model_id",
        "adaptive_allocations",
    ]
    assert house.deployments.scaled[0].adaptive_allocations == adaptive
    assert shown(house)["num_allocations"] == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_threads": 2}, r"\[num_threads\] cannot be updated"),
        ({"num_allocations": 0}, "must be a positive integer"),
        ({"num_allocations": None}, "does not contain one of the required settings"),
    ],
)
async def test_nothing_else_of_a_deployment_can_be_updated(house, settings, words) -> None:
    await put(house)

    with pytest.raises(InvalidSettings, match=words):
        await house.update({"service_settings": settings})

    assert house.deployments.scaled == []


async def test_an_update_with_what_is_stored_changes_nothing(house) -> None:
    await put(house)
    before = stored(house)

    await house.update({"service_settings": {"num_allocations": 1}})

    assert stored(house) == before
    assert house.deployments.scaled == []


async def test_an_update_during_the_start_is_not_lost(house, callers) -> None:
    house.deployments.gate = asyncio.Event()
    created = callers.start(put(house))
    await let_others_come_in()

    await house.update({"service_settings": {"num_allocations": 4}})
    house.deployments.gate.set()
    await created

    assert shown(house)["num_allocations"] == 4
    assert shown(house)["dimensions"] == 3


async def test_delete_stops_the_deployment(house) -> None:
    await put(house)

    await house.delete()

    assert house.deployments.running == {}
    assert house.store.rows == {}


async def test_delete_during_the_start_ends_it(house, callers) -> None:
    house.deployments.gate = asyncio.Event()
    created = callers.start(put(house))
    await let_others_come_in()

    answer = await house.delete()

    assert answer["acknowledged"] is True
    with pytest.raises(NotFound, match=r"^Inference endpoint not found \[a\]$"):
        await created
    assert house.store.rows == {}
    assert house.deployments.running == {}


async def test_a_forced_delete_of_a_preconfigured_endpoint_stops_its_deployment(house) -> None:
    await house.registry.start_deployment(StartDeployment(".minilm-l6-v2"))

    await house.delete(".minilm-l6-v2", force=True)

    assert house.deployments.running == {}
    assert house.snapshot.get(".minilm-l6-v2") is not None


# --- runs --------------------------------------------------------------------------------------


async def test_a_preconfigured_model_is_started_when_it_is_run(house) -> None:
    await house.registry.start_deployment(StartDeployment(".multilingual-e5-small-elasticsearch"))

    ((spec, is_proven),) = house.deployments.starts
    assert spec.model_id == ".multilingual-e5-small_linux-x86_64"
    assert (spec.num_allocations, is_proven) == (1, False)
    assert shown(house, ".multilingual-e5-small-elasticsearch")["num_allocations"] == 1


async def test_a_preconfigured_model_that_is_not_here_is_named(house) -> None:
    house.deployments.absent = {".elser_model_2_linux-x86_64"}

    with pytest.raises(NotFound, match=r"elser_model_2.* is not here"):
        await house.registry.start_deployment(StartDeployment(".elser-2-elasticsearch"))


@pytest.mark.parametrize("inference_id", ["nowhere", "hosted"])
async def test_only_endpoints_of_local_models_are_started(house, inference_id) -> None:
    await house.put("hosted")

    with pytest.raises(NotFound, match=rf"^Inference endpoint not found \[{inference_id}\]$"):
        await house.registry.start_deployment(StartDeployment(inference_id))


# --- the start of the server -------------------------------------------------------------------


async def restarted(house: House) -> House:
    """Give a house that finds what the store of another has."""
    again = House(house.nursery, store=house.store)
    again.registry.load(list(house.store.rows.values()))
    return again


async def test_models_that_have_run_are_started_with_the_server(house) -> None:
    await put(house, "one")
    await put(house, "guest", body=attached("one"))
    await house.put("hosted")

    again = await restarted(house)
    again.registry.resume(())
    await let_others_come_in()

    assert again.deployments.starts == [(wanted("one"), True)]


@pytest.mark.parametrize("fails", [None, UnusableModel("broken")])
async def test_a_start_that_a_crash_cut_off_is_resumed_or_undone(house, callers, fails) -> None:
    house.deployments.gate = asyncio.Event()
    callers.start(put(house))
    await let_others_come_in()
    record = stored(house)
    assert record is not None
    assert record.is_starting

    again = await restarted(house)
    again.deployments.fails = fails
    again.registry.resume(())
    await let_others_come_in()

    assert again.deployments.starts == [(wanted("a"), False)]
    record = stored(house)
    assert (record is None) == (fails is not None)
    assert record is None or not record.is_starting


async def test_endpoints_are_preloaded_once_and_what_fails_stops_nobody(house) -> None:
    await put(house, "one")

    again = await restarted(house)
    again.deployments.absent = {".elser_model_2_linux-x86_64"}
    again.registry.resume([".minilm-l6-v2", "one", "nowhere", ".elser-2-elasticsearch"])
    await let_others_come_in()

    assert sorted(spec.deployment_id for spec, _ in again.deployments.starts) == [
        ".minilm-l6-v2",
        "one",
    ]


async def test_a_put_that_nobody_waits_for_any_more_ends_as_if_somebody_had(house) -> None:
    house.deployments.gate = asyncio.Event()
    command = PutEndpoint("a", DENSE, "/", local())
    async with Nursery() as clients:
        clients.start(house.registry.put_endpoint(command))
        await let_others_come_in()

    house.deployments.gate.set()
    await let_others_come_in()

    record = stored(house)
    assert record is not None
    assert not record.is_starting
