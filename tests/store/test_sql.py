"""The store: one suite over every database it can be kept in."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from inferry.errors import StoreFailure, VersionConflict
from inferry.records import (
    ApiKeyRecord,
    Drop,
    EndpointRecord,
    Put,
    Record,
    ReferenceRecord,
    RegionPolicyRecord,
    RoleDescriptor,
    RoleRecord,
    UserRecord,
)
from inferry.store import schema
from inferry.store.sql import open_store, sqlite_url

WRITER = """
import asyncio, sys
from inferry.records import EndpointRecord, Put
from inferry.store.sql import open_store

async def main():
    store = await open_store(sys.argv[1])
    for number in range(100_000):
        record = EndpointRecord(
            f"e-{number:06}", "completion", "openai", {"number": number, "filler": "x" * 3000},
            {}, None, secrets=bytes([number % 256]) * 1000,
        )
        await store.write([Put(record, expects=0)])
        print(number, flush=True)

asyncio.run(main())
"""


def endpoint(inference_id: str, *, revision: int = 1, secrets: bytes | None = None):
    return EndpointRecord(
        inference_id,
        "text_embedding",
        "openai",
        {"model_id": "m", "dimensions": 3, "rate_limit": {"requests_per_minute": 10}},
        {"user": "ü"},
        {"strategy": "none"},
        revision=revision,
        secrets=secrets,
        dimensions_set_by_user=True,
        created_at_ms=1_700_000_000_000,
        updated_at_ms=1_700_000_000_001,
    )


async def records_of(url: str) -> list[Record]:
    store = await open_store(url)
    try:
        return await store.load()
    finally:
        await store.close()


def modes_in(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()}


@pytest.fixture(params=["sqlite"])
def url(request, tmp_path: Path) -> str:
    assert request.param == "sqlite"
    return sqlite_url(tmp_path / "inferry.db")


@pytest.fixture
async def store(url: str):
    store = await open_store(url)
    yield store
    await store.close()


async def test_every_kind_of_record_comes_back_as_it_was_written(store) -> None:
    descriptor = RoleDescriptor(cluster=["monitor"], metadata={"a": [1, None]})
    records: list[Record] = [
        endpoint("a", secrets=b"\x00\xffsealed"),
        endpoint("b"),
        RoleRecord("r", descriptor),
        UserRecord("u", "hash", ["r"], metadata={"team": "search"}),
        ApiKeyRecord("k", "key", b"\x01\x02", "u", {"r": descriptor}, {}, 5),
        RegionPolicyRecord({"allowed_geos": ["eu"]}, 1, "elastic"),
        ReferenceRecord("p", "pipeline", ["a"]),
    ]

    await store.write([Put(record, expects=0) for record in records])

    assert sorted(await store.load(), key=repr) == sorted(records, key=repr)


async def test_records_are_there_after_the_store_was_closed_and_opened_again(url: str) -> None:
    first = await open_store(url)
    await first.write([Put(endpoint("a"))])
    await first.close()

    assert await records_of(url) == [endpoint("a")]


async def test_endpoints_are_loaded_in_the_order_of_their_ids(store) -> None:
    await store.write([Put(endpoint(name)) for name in ("b", "a-1", "a.0", "0")])

    assert [record.key for record in await store.load()] == ["0", "a-1", "a.0", "b"]


async def test_a_put_without_expectation_inserts_and_replaces(store) -> None:
    await store.write([Put(endpoint("a"))])
    await store.write([Put(endpoint("a", revision=7))])

    assert await store.load() == [endpoint("a", revision=7)]


async def test_a_put_that_expects_nothing_is_refused_when_the_key_is_taken(store) -> None:
    await store.write([Put(endpoint("a"), expects=0)])

    with pytest.raises(VersionConflict):
        await store.write([Put(endpoint("a", revision=2), expects=0)])

    assert await store.load() == [endpoint("a")]


@pytest.mark.parametrize("stored", [[], [2], [1, 2]])
async def test_a_put_that_expects_another_revision_is_refused(store, stored) -> None:
    for revision in stored:
        await store.write([Put(endpoint("a", revision=revision))])

    with pytest.raises(VersionConflict, match="required revision \\[1\\]"):
        await store.write([Put(endpoint("a", revision=3), expects=1)])


async def test_a_put_that_expects_the_stored_revision_replaces_it(store) -> None:
    await store.write([Put(endpoint("a", secrets=b"old"))])

    await store.write([Put(endpoint("a", revision=2, secrets=None), expects=1)])

    assert await store.load() == [endpoint("a", revision=2)]


async def test_a_drop_that_expects_another_revision_is_refused(store) -> None:
    await store.write([Put(endpoint("a", revision=2))])

    with pytest.raises(VersionConflict):
        await store.write([Drop("endpoint", "a", expects=1)])

    await store.write([Drop("endpoint", "a", expects=2)])
    assert await store.load() == []


async def test_a_drop_without_expectation_does_not_mind_that_nothing_is_there(store) -> None:
    await store.write([Drop("endpoint", "a")])

    assert await store.load() == []


async def test_changes_that_are_written_together_are_kept_together_or_not_at_all(store) -> None:
    await store.write([Put(endpoint("b"))])

    with pytest.raises(VersionConflict):
        await store.write([Put(endpoint("a")), Put(endpoint("b"), expects=0)])

    assert await store.load() == [endpoint("b")]


async def test_a_value_is_made_once(store, url: str) -> None:
    first = await store.value("cluster_uuid", lambda: "one")
    again = await store.value("cluster_uuid", lambda: "two")

    assert (first, again) == ("one", "one")


async def test_nothing_of_the_database_runs_on_the_event_loop_thread(store) -> None:
    made_in: list[str] = []

    def make() -> str:
        made_in.append(threading.current_thread().name)
        return "y"

    await store.value("x", make)

    assert made_in[0].startswith("store")


async def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "inferry.db"
    path.touch(mode=0o666)
    path.chmod(0o666)

    store = await open_store(sqlite_url(path))
    await store.write([Put(endpoint("a"))])

    assert modes_in(tmp_path) == {
        "inferry.db": 0o600,
        "inferry.db-wal": 0o600,
        "inferry.db-shm": 0o600,
    }
    await store.close()


async def test_every_commit_waits_for_the_disk(store) -> None:
    pragmas = await store._run(
        lambda connection: [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")
        ]
    )

    assert pragmas == ["wal", 2]


async def test_sealed_secrets_stand_beside_the_document_not_in_it(tmp_path: Path) -> None:
    store = await open_store(sqlite_url(tmp_path / "inferry.db"))
    await store.write([Put(endpoint("a", secrets=b"sealed"))])
    await store.close()

    with sqlite3.connect(tmp_path / "inferry.db") as connection:
        row = connection.execute("SELECT document, secrets FROM endpoints").fetchone()
    connection.close()

    assert msgspec.json.decode(row[0])["secrets"] is None
    assert row[1] == b"sealed"


async def test_a_damaged_file_is_a_named_failure(tmp_path: Path) -> None:
    path = tmp_path / "inferry.db"
    path.write_bytes(b"this is no database at all" * 100)

    with pytest.raises(StoreFailure, match="is damaged or is not a database"):
        await open_store(sqlite_url(path))


async def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "inferry.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE orders (id)")
    connection.close()

    with pytest.raises(StoreFailure, match=r"database of something else.*orders"):
        await open_store(sqlite_url(path))

    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("orders",)]


async def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inferry.db"
    await (await open_store(sqlite_url(path))).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()

    with pytest.raises(StoreFailure, match="newer than"):
        await open_store(sqlite_url(path))


async def test_a_directory_that_is_not_there_is_a_named_failure(tmp_path: Path) -> None:
    with pytest.raises(StoreFailure, match=r"cannot open \[sqlite:.*nowhere.*No such file"):
        await open_store(sqlite_url(tmp_path / "nowhere" / "inferry.db"))


@pytest.mark.parametrize("url", ["no url", "postgresql://u:marker@host/db"])
async def test_a_url_that_cannot_be_served_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreFailure, match=r"\[store\.url\]") as refused:
        await open_store(url)

    assert "marker" not in refused.value.message


async def test_a_failed_write_leaves_the_store_usable(tmp_path: Path) -> None:
    path = tmp_path / "inferry.db"
    store = await open_store(sqlite_url(path))
    await store._run(lambda connection: connection.exec_driver_sql("ALTER TABLE roles RENAME TO x"))

    with pytest.raises(StoreFailure, match="no such table"):
        await store.write([Put(RoleRecord("r", RoleDescriptor()))])

    await store.write([Put(endpoint("a"))])
    assert path.exists()
    await store.close()


def test_the_newest_script_is_the_version_that_this_program_knows() -> None:
    names = sorted(path.name for path in (schema._scripts() / "versions").glob("[0-9]*.py"))

    assert names[-1].startswith(f"{schema.HEAD}_")


async def test_the_scripts_make_the_tables_that_the_program_uses(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, inspect

    from inferry.store.tables import METADATA

    await (await open_store(sqlite_url(tmp_path / "migrated.db"))).close()
    migrated = create_engine(sqlite_url(tmp_path / "migrated.db"))
    declared = create_engine(sqlite_url(tmp_path / "declared.db"))
    METADATA.create_all(declared)

    def columns(engine):
        look = inspect(engine)
        return {
            table: [
                (one["name"], repr(one["type"]), one["nullable"], one["primary_key"])
                for one in look.get_columns(table)
            ]
            for table in METADATA.tables
        }

    assert columns(migrated) == columns(declared)
    migrated.dispose()
    declared.dispose()


def test_a_start_without_migration_does_not_import_alembic(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "inferry.db")
    asyncio.run(records_of(url))
    program = (
        "import asyncio, sys\n"
        "from inferry.store.sql import open_store\n"
        "async def main(): await (await open_store(sys.argv[1])).close()\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules)\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "False"


@pytest.mark.faults
@pytest.mark.parametrize("acknowledged", [1, 2, 7, 23, 61])
def test_a_killed_writer_leaves_every_acknowledged_record_and_no_half_one(
    tmp_path: Path, acknowledged: int
) -> None:
    url = sqlite_url(tmp_path / "inferry.db")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for _ in range(acknowledged):
        line = writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    told = [line, *writer.stdout.read().splitlines()]
    writer.wait()
    writer.stdout.close()
    last = int(told[-1])

    records = asyncio.run(records_of(url))

    numbers = [record.service_settings["number"] for record in records]  # type: ignore[union-attr]
    assert numbers == list(range(len(records)))
    assert last + 1 <= len(records) <= last + 2
    for number, record in enumerate(records):
        assert isinstance(record, EndpointRecord)
        assert len(record.service_settings["filler"]) == 3000
        assert record.secrets == bytes([number % 256]) * 1000
