"""A new master key: whatever happens on the way, every secret can be opened."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from inferry.commands import FetchSecrets, RotateMasterKey
from inferry.concurrency import run_all
from inferry.errors import StoreFailure, VersionConflict
from inferry.records import EndpointRecord
from tests.core.registry_parts import House, OpenVault, hosted, let_others_come_in, open_house


def keys_used(house: House) -> set[str]:
    """Give the keys that seal what the store holds."""
    sealed = [one.secrets for one in house.store.rows.values() if isinstance(one, EndpointRecord)]
    return {msgspec.json.decode(one)[0] for one in sealed if one is not None}


async def secrets_of(house: House, inference_id: str) -> dict[str, str]:
    record = house.store.rows["endpoint", inference_id]
    return await house.registry.fetch_secrets(FetchSecrets(inference_id, record.revision))


async def restarted(house: House) -> House:
    """Give a registry that finds what the former one left."""
    vault = OpenVault()
    vault.key, vault.former = house.vault.key, list(house.vault.former)
    later = House(house.nursery, store=house.store, vault=vault)
    later.registry.load(await house.store.load())
    await later.registry.end_rotation()
    return later


async def test_everything_is_sealed_anew_and_nobody_sees_a_difference(house):
    await house.put("a")
    await house.put("b")
    before = dict(house.store.rows)
    published = len(house.published)

    rotated = await house.registry.rotate_master_key(RotateMasterKey())

    assert (rotated.resealed, rotated.unreadable) == (2, [])
    assert keys_used(house) == {"first'"}
    assert house.vault.former == []
    assert (await secrets_of(house, "a"))["api_key"] == "marker-key"
    assert {key: record.revision for key, record in before.items()} == {
        key: record.revision for key, record in house.store.rows.items()
    }
    assert len(house.published) == published


async def test_what_no_key_opens_is_left_and_named(house):
    await house.put("a")
    house.vault.key = "another"
    await house.put("b")

    rotated = await house.registry.rotate_master_key(RotateMasterKey())

    assert (rotated.resealed, rotated.unreadable) == (1, ["a"])


async def test_a_failing_store_leaves_both_keys_and_the_next_start_ends_it(house):
    await house.put("a")
    house.store.fails = StoreFailure("disk full")

    with pytest.raises(StoreFailure):
        await house.registry.rotate_master_key(RotateMasterKey())

    assert house.vault.former == ["first"]
    assert (await secrets_of(house, "a"))["api_key"] == "marker-key"
    house.store.fails = None
    later = await restarted(house)
    assert keys_used(later) == {"first'"}
    assert later.vault.former == []
    assert (await secrets_of(later, "a"))["api_key"] == "marker-key"


@pytest.mark.parametrize("step", ["renew", "reseal", "write", "retire"])
async def test_a_crash_at_any_step_loses_nothing(house, monkeypatch, step):
    await house.put("a")

    class CrashError(Exception):
        """The process ends here."""

    def crash(*_: object, **__: object) -> None:
        raise CrashError

    async def crash_later(*_: object) -> None:
        raise CrashError

    if step == "write":
        monkeypatch.setattr(house.store, "write", crash_later)
    else:
        monkeypatch.setattr(house.vault, step, crash)

    with pytest.raises(CrashError):
        await house.registry.rotate_master_key(RotateMasterKey())
    monkeypatch.undo()

    later = await restarted(house)
    assert (await secrets_of(later, "a"))["api_key"] == "marker-key"
    assert keys_used(later) == {later.vault.key}
    assert later.vault.former == []


async def test_an_update_that_began_before_is_waited_for_and_sealed_anew(house):
    await house.put("a")
    house.probe.gate = asyncio.Event()
    update = house.nursery.start(house.update({"service_settings": {"api_key": "newer-key"}}))
    await house.probe.arrived.wait()

    rotation = house.nursery.start(house.registry.rotate_master_key(RotateMasterKey()))
    await let_others_come_in()
    house.probe.gate.set()
    await update
    await rotation

    assert keys_used(house) == {"first'"}
    assert house.vault.former == []
    assert (await secrets_of(house, "a"))["api_key"] == "newer-key"


async def test_an_update_that_names_no_secret_writes_no_old_seal_back(house):
    await house.put("a")
    house.vault.renew()

    await house.update({"service_settings": {"rate_limit": {"requests_per_minute": 7}}})

    assert keys_used(house) == {"first'"}


async def test_an_endpoint_that_changes_meanwhile_is_taken_again(house, monkeypatch):
    await house.put("a")
    real, calls = house.store.write, 0

    async def overtaken(changes):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise VersionConflict("somebody was faster")
        await real(changes)

    monkeypatch.setattr(house.store, "write", overtaken)

    assert (await house.registry.rotate_master_key(RotateMasterKey())).resealed == 1
    assert calls == 2


async def test_rotations_writes_and_reads_at_once_end_with_one_key(house):
    names = [f"e{number}" for number in range(30)]

    async def live(name: str) -> None:
        await house.put(name)
        for _ in range(3):
            assert (await secrets_of(house, name))["api_key"] == "marker-key"

    async def rotate() -> None:
        for _ in range(3):
            await house.registry.rotate_master_key(RotateMasterKey())

    await run_all([*(live(name) for name in names), rotate()])

    await house.registry.rotate_master_key(RotateMasterKey())
    assert keys_used(house) == {house.vault.key}


async def test_without_a_cut_off_rotation_a_start_changes_nothing():
    async with open_house() as house:
        await house.put("a", hosted())

        later = await restarted(house)

        assert keys_used(later) == {"first"}
