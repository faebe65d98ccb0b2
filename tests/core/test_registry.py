"""The registry as the supervisor sees it."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

import inferry.commands
from inferry.commands import Command, TakeTokens
from inferry.core.snapshot import Snapshot
from inferry.errors import AlreadyExists, BadRequest
from inferry.records import EndpointRecord, Put, RegionPolicyRecord, RoleDescriptor, RoleRecord
from tests.core.registry_parts import open_house


async def test_what_was_stored_is_known_after_a_restart(house) -> None:
    await house.put("a")
    await house.put("b", task_type="text_embedding")

    async with open_house() as other:
        other.registry.load(await house.store.load())

        with pytest.raises(AlreadyExists):
            await other.put("a")
        assert other.probe.asked == []


async def test_its_records_make_a_snapshot_equal_to_one_that_followed_the_changes(house) -> None:
    house.registry.load([RoleRecord("r", RoleDescriptor())])
    await house.put("b", task_type="text_embedding")
    await house.put("a")
    late = Snapshot()

    records = list(house.registry.records())
    late.apply([Put(record) for record in records])

    assert [one.fragment for one in late.entries()] == [
        one.fragment for one in house.snapshot.entries()
    ]
    assert b"marker-key" not in repr(records).encode()


async def test_an_endpoint_of_an_unknown_service_is_kept_and_told(house) -> None:
    record = EndpointRecord("a", "rerank", "gone", {"model_id": "m"}, {}, None)

    with capture_logs() as lines:
        house.registry.load([record])

    assert list(house.registry.records()) == [record]
    assert lines == [
        {
            "event": "endpoints of an unknown service",
            "service": "gone",
            "endpoints": 1,
            "log_level": "warning",
        }
    ]
    with pytest.raises(BadRequest, match=r"^Unknown service \[gone\]$"):
        await house.update({"task_settings": {}})


async def test_a_policy_of_the_store_is_served(house) -> None:
    policy = RegionPolicyRecord({"allowed_geos": ["eu"]}, 5)

    house.registry.load([policy])

    assert list(house.registry.records()) == [policy]


def test_every_command_of_the_registry_has_a_handler(house) -> None:
    ours = {
        one
        for one in vars(inferry.commands).values()
        if isinstance(one, type)
        and issubclass(one, Command)
        and one not in (Command, TakeTokens)
        and any(
            word in one.__name__
            for word in (
                *("Endpoint", "Region", "Reference", "FetchSecrets", "Deployment"),
                *("TrainedModel", "DefinitionPart", "Vocabulary", "Model", "FetchStats"),
                "MasterKey",
            )
        )
    }

    assert set(house.registry.handlers()) == ours
