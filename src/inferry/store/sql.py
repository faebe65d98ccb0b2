"""The store in an SQL database: SQLite in one file, through SQLAlchemy Core.

Every statement runs in one thread on one connection, so that the event loop never waits and writes
have an order. SQLite runs in WAL mode with `synchronous=FULL`: what was acknowledged survives
`kill -9` and a power cut (https://sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from inferry.errors import StoreFailure, VersionConflict
from inferry.records import Change, Drop, EndpointRecord, Put, Record
from inferry.store.schema import migrate
from inferry.store.tables import META, TABLES, RecordType

T = TypeVar("T")

_ROWS_AT_ONCE = 5000


class SqlStore:
    """Implements `protocols.Store`. Made by `open_store`."""

    def __init__(self, engine: Engine, thread: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._thread = thread
        self._connection: Connection | None = None

    async def load(self) -> list[Record]:
        """Give every record, kind by kind, each kind in the order of its keys."""
        return await self._run(_load)

    async def write(self, changes: Sequence[Change]) -> None:
        """Apply `changes` in one transaction, durable on return.

        Raises `VersionConflict` when a revision is not the expected one, `StoreFailure` otherwise.
        """
        await self._run(lambda connection: _write(connection, changes))

    async def value(self, name: str, make: Callable[[], str]) -> str:
        """Give the stored value of `name`, made and stored on first use."""
        return await self._run(lambda connection: _value(connection, name, make))

    async def keep(self, name: str, value: str) -> None:
        """Store `value` as the value of `name`."""
        await self._run(lambda connection: _keep(connection, name, value))

    async def close(self) -> None:
        """Finish what is under way and let go of the database."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    async def connect(self) -> None:
        """Open the database and bring its tables to this version."""
        await self._run(migrate)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with self._translated():
                if self._connection is None:
                    self._connection = self._engine.connect()
                with self._connection.begin():
                    return work(self._connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, transaction)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            self._disconnect()  # the next call finds the database as it is by then
            raise StoreFailure(_explain(error)) from error.orig
        except msgspec.MsgspecError as error:
            raise StoreFailure(
                f"the store holds a record that this version cannot read: {error}"
            ) from error

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()


async def open_store(url: str) -> SqlStore:
    """Open the database at `url` (`sqlite:////path/file.db`), made and upgraded as needed.

    A SQLite file gets mode 0600. Raises `StoreFailure` naming the place and the reason.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreFailure("[store.url] is not an SQLAlchemy URL") from error
    where = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() != "sqlite":
        raise StoreFailure(f"[store.url] names [{where}]; this version keeps its store in SQLite")
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
    store = SqlStore(_sqlite_engine(parsed), thread)
    try:
        await asyncio.get_running_loop().run_in_executor(thread, _make_private, parsed)
        await store.connect()
    except BaseException as error:
        await store.close()
        if isinstance(error, StoreFailure):
            raise StoreFailure(f"cannot open [{where}]: {error.message}") from error.__cause__
        raise
    return store


def sqlite_url(path: Path) -> str:
    """Give the URL of the SQLite file at `path`."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def _make_private(url: URL) -> None:
    if not url.database or url.database == ":memory:":
        return
    try:
        # The files beside it (-wal, -shm) take over its mode.
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(url.database, 0o600)  # noqa: PTH101 - beside `os.open`
    except OSError as error:
        raise StoreFailure(error.strerror or str(error)) from error


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"timeout": 10}
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _load(connection: Connection) -> list[Record]:
    records: list[Record] = []
    for kind, (table, record_type) in TABLES.items():
        decode = msgspec.json.Decoder(record_type).decode
        columns = (table.c.document, table.c.secrets) if kind == "endpoint" else (table.c.document,)
        rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(
            select(*columns).order_by(table.c.key)
        )
        records += [_with_secrets(decode(document), *secrets) for document, *secrets in rows]
    return records


def _with_secrets(record: Record, secrets: bytes | None = None) -> Record:
    return record if secrets is None else msgspec.structs.replace(record, secrets=secrets)


def _write(connection: Connection, changes: Sequence[Change]) -> None:
    for change in changes:
        if isinstance(change, Put):
            _put(connection, change)
        else:
            _drop(connection, change)


def _put(connection: Connection, put: Put) -> None:
    record = put.record
    table, _ = TABLES[kind_of(type(record))]
    row = _row(record)
    if put.expects != 0:
        statement = update(table).where(table.c.key == record.key)
        if put.expects is not None:
            statement = statement.where(table.c.revision == put.expects)
        if connection.execute(statement, row).rowcount:
            return
        if put.expects is not None:
            raise _conflict(record.key, put.expects)
    try:
        connection.execute(insert(table), row)
    except IntegrityError as error:
        raise _conflict(record.key, 0) from error


def _row(record: Record) -> dict[str, object]:
    row: dict[str, object] = {"key": record.key, "revision": record.revision}
    if isinstance(record, EndpointRecord):
        row["secrets"] = record.secrets
        record = msgspec.structs.replace(record, secrets=None)
    row["document"] = msgspec.json.encode(record).decode()
    return row


def _drop(connection: Connection, drop: Drop) -> None:
    table, _ = TABLES[drop.kind]
    statement = delete(table).where(table.c.key == drop.key)
    if drop.expects is not None:
        statement = statement.where(table.c.revision == drop.expects)
    if not connection.execute(statement).rowcount and drop.expects is not None:
        raise _conflict(drop.key, drop.expects)


def _value(connection: Connection, name: str, make: Callable[[], str]) -> str:
    found = connection.execute(select(META.c.value).where(META.c.name == name)).scalar()
    if found is not None:
        return str(found)
    value = make()
    connection.execute(insert(META), {"name": name, "value": value})
    return value


def _keep(connection: Connection, name: str, value: str) -> None:
    changed = connection.execute(update(META).where(META.c.name == name), {"value": value})
    if not changed.rowcount:
        connection.execute(insert(META), {"name": name, "value": value})


def kind_of(record_type: RecordType) -> str:
    """Give the tag of a record type."""
    return str(record_type.__struct_config__.tag)


def _conflict(key: str, expected: int) -> VersionConflict:
    wanted = f"revision [{expected}]" if expected else "no document"
    return VersionConflict(f"[{key}]: version conflict, required {wanted}, found another")


def _explain(error: DBAPIError) -> str:
    reason = str(error.orig)
    if "not a database" in reason or "malformed" in reason:
        return (
            f"the store is damaged or is not a database ({reason}); "
            "restore it from a backup, or move it away to start with an empty one"
        )
    return f"the store failed: {reason}"
