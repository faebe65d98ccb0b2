"""Region policy (rows 176 to 181 of the checklist) and references (rows 101 to 104)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferry.commands import DeleteReference, DeleteRegionPolicy, PutReference, PutRegionPolicy
from inferry.errors import Conflict, IllegalArgument, NotFound, VersionConflict
from tests.core.registry_parts import hosted

EU = {"region_policy": {"allowed_geos": ["eu"]}}


async def put_policy(house, body, **more) -> dict[str, Any]:
    command = PutRegionPolicy(body, **more)
    answer: dict[str, Any] = msgspec.json.decode(await house.registry.put_region_policy(command))
    return answer


async def test_rows_177_178_a_policy_tells_who_made_and_who_changed_it(house) -> None:
    made = await put_policy(house, EU, actor="elastic")
    house.now += 60.5
    changed = await put_policy(house, EU, actor="other")

    assert made == {
        **EU,
        "created_at": "1970-01-01T00:16:40.000Z",
        "created_by": "elastic",
    }
    assert changed == {
        **made,
        "updated_at": "1970-01-01T00:17:40.500Z",
        "updated_by": "other",
    }
    assert msgspec.json.decode(house.snapshot.region_policy_answer()) == changed


async def test_without_authentication_nobody_is_named(house) -> None:
    await put_policy(house, EU)
    changed = await put_policy(house, EU)

    assert set(changed) == {"region_policy", "created_at", "updated_at"}


async def test_rows_176_181_a_policy_that_is_not_there_cannot_be_removed(house) -> None:
    await put_policy(house, EU)
    await house.registry.delete_region_policy(DeleteRegionPolicy())

    with pytest.raises(NotFound) as refused:
        await house.registry.delete_region_policy(DeleteRegionPolicy())

    assert refused.value.message == "No region policy is configured for this deployment"
    assert house.snapshot.region_policy is None
    assert house.store.rows == {}


async def test_a_policy_that_denies_endpoints_in_use_needs_force(house) -> None:
    body = {**hosted(region="us-east-1"), "service": "amazonbedrock"}
    await house.put("b", body)
    await house.put("a", body)
    await house.put("c", {**hosted(region="eu-west-1"), "service": "amazonbedrock"})
    await house.put("d")

    with pytest.raises(Conflict, match=r"\[2\] inference endpoints in use: \[a, b\]"):
        await put_policy(house, EU)

    assert await put_policy(house, EU, force=True)


async def test_a_policy_that_another_host_changed_meanwhile_is_a_conflict(house) -> None:
    house.store.fails = VersionConflict("overtaken")

    with pytest.raises(Conflict) as refused:
        await put_policy(house, EU)

    assert refused.value.message == (
        "Failed to put region policy due to a concurrent update conflict. Please retry."
    )


async def put_reference(house, name: str, kind: str, *inference_ids: str) -> None:
    await house.registry.put_reference(PutReference(name, kind, list(inference_ids)))


async def test_row_102_an_endpoint_in_use_is_not_deleted(house) -> None:
    await house.put("a")
    await put_reference(house, "p-2", "pipeline", "a")
    await put_reference(house, "p-1", "pipeline", "a", "b")
    await put_reference(house, "i-1", "index", "a")
    await put_reference(house, "other", "index", "b")

    with pytest.raises(Conflict) as refused:
        await house.delete("a")

    assert refused.value.message == (
        "Inference endpoint a is referenced by pipelines: [p-1, p-2]. Ensure that no pipelines are "
        "using this inference endpoint, or use force to ignore this warning and delete the "
        "inference endpoint. Inference endpoint a is being used in the mapping for indexes: [i-1]. "
        "Ensure that no index mappings are using this inference endpoint, or use force to ignore "
        "this warning and delete the inference endpoint."
    )
    assert house.snapshot.get("a") is not None


@pytest.mark.parametrize("force", [False, True])
async def test_rows_101_104_a_dry_run_tells_the_users_even_with_force(house, force) -> None:
    await house.put("docs-e5")
    await put_reference(house, "enrich-docs", "pipeline", "docs-e5")

    answer = await house.delete("docs-e5", dry_run=True, force=force)

    assert answer == {
        "acknowledged": False,
        "pipelines": ["enrich-docs"],
        "indexes": [],
        "error_message": "Inference endpoint docs-e5 is referenced by pipelines: [enrich-docs]. "
        "Ensure that no pipelines are using this inference endpoint, or use force to ignore this "
        "warning and delete the inference endpoint.",
    }
    assert house.snapshot.get("docs-e5") is not None


async def test_row_103_force_deletes_an_endpoint_in_use(house) -> None:
    await house.put("a")
    await put_reference(house, "i", "index", "a")

    assert (await house.delete("a", force=True))["acknowledged"] is True
    assert house.snapshot.get("a") is None


async def test_a_reference_can_be_replaced_and_forgotten(house) -> None:
    await house.put("a")
    await put_reference(house, "p", "pipeline", "a")
    await put_reference(house, "p", "index", "b")
    assert (await house.delete("a", dry_run=True))["error_message"] == ""

    await house.registry.delete_reference(DeleteReference("p"))

    assert (house.snapshot.references, len(house.store.rows)) == ({}, 1)
    with pytest.raises(NotFound, match=r"\[p\]"):
        await house.registry.delete_reference(DeleteReference("p"))


@pytest.mark.parametrize(
    ("name", "kind", "inference_ids"),
    [("", "index", ["a"]), ("x" * 257, "index", ["a"]), ("p", "view", ["a"]), ("p", "index", [])],
)
async def test_a_reference_that_says_nothing_is_refused(house, name, kind, inference_ids) -> None:
    with pytest.raises(IllegalArgument):
        await put_reference(house, name, kind, *inference_ids)
