"""The parent of a host's processes: it owns the store, and all that is one per host.

It writes, keeps the rate buckets and starts the API processes; these do everything else and reach
it over channels (`inferry.ipc`). When it ends, however it ends, they end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from inferry.bootstrap import (
    Bootstrap,
    StartRefused,
    bind,
    config_of_children,
    locked,
    prepare_data_dir,
)
from inferry.commands import Command, NoteRefusals
from inferry.concurrency import Nursery, first_of
from inferry.config import Config, Loaded
from inferry.crashes import leave_no_values
from inferry.engine.cores import Cores
from inferry.engine.footprint import usual_memory_limit
from inferry.engine.pool import Pool
from inferry.engine.workshop import Workshop
from inferry.errors import InferenceError, StoreFailure
from inferry.fleet import Fleet, Launch
from inferry.greeting import greeting, tell
from inferry.modeling import GRAPHS_DIRECTORY
from inferry.models.library import open_library
from inferry.models.supply import Supply
from inferry.process_limits import allow_descriptors
from inferry.records import Record
from inferry.security.audit import AuditLog
from inferry.store.sql import SqlStore, open_store, sqlite_url
from inferry.telemetry import clear_metrics_directory, configure_logging, get_logger
from inferry.tls import certificate_of
from inferry.writers import Desk, Writers, open_writers

_STORE_FILE = "inferry.db"
_AUDIT_FILE = "audit.log"
_METRICS_DIRECTORY = "metrics"
_WORKERS_DIRECTORY = "workers"
_CLUSTER_UUID = "cluster_uuid"
_WATCH_EVERY_S = 5.0


def serve(loaded: Loaded, *, no_auth: bool) -> int:
    """Run the server until SIGTERM or SIGINT; give the exit code of the command.

    no_auth: ask for no credentials, which is possible on loopback only.
    """
    import uvloop

    config = _without_auth(loaded.config) if no_auth else loaded.config
    leave_no_values()
    configure_logging(config.telemetry)
    allow_descriptors()
    try:
        with ExitStack() as stack:
            certificate_of(config)  # tell here, and not in every child, why it cannot be used
            prepare_data_dir(config.data_dir)
            stack.enter_context(locked(config.data_dir))
            sockets = [stack.enter_context(one) for one in _bind(config)]
            uvloop.run(_Supervisor(config, sockets).run())
    except InferenceError as error:
        sys.stderr.write(f"inferry: {error}\n")
        return 1
    return 0


def _without_auth(config: Config) -> Config:
    auth = msgspec.structs.replace(config.auth, enabled=False)
    return msgspec.structs.replace(config, auth=auth)


def _bind(config: Config) -> list[socket.socket]:
    """Bind where the configuration says; without authentication only loopback counts."""
    server = config.server
    if not (config.is_on_loopback or config.uses_tls or server.allow_plaintext):
        raise StartRefused(
            f"[server.host] is [{server.host}]: set [server.tls_cert] and [server.tls_key], "
            "or [server.allow_plaintext] if something in front speaks TLS"
        )
    return bind(server.host, server.port, only_loopback=not config.auth.enabled)


class _Supervisor:
    """One run of the server, from the first look at the store to the last answer."""

    def __init__(self, config: Config, sockets: Sequence[socket.socket]) -> None:
        self._config = config
        self._sockets = sockets
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Start everything, serve until a signal, drain."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        async with AsyncExitStack() as stack:
            store = await open_store(
                self._config.store.url or sqlite_url(self._config.data_dir / _STORE_FILE)
            )
            stack.push_async_callback(store.close)
            jobs = await stack.enter_async_context(Nursery())
            audit = self._audit(stack)
            fleet = await stack.enter_async_context(Fleet(await self._launch(store), jobs=jobs))
            engine = await stack.enter_async_context(_Engine(self._config, fleet, audit))
            writers = await open_writers(
                Desk(
                    self._config,
                    store,
                    fleet.publish,
                    pool=engine.pool,
                    supply=engine.supply,
                    starts=engine.starts,
                    jobs=jobs,
                ),
                stack,
            )
            await first_of(self._start(fleet, writers, engine, audit), self._stop.wait())
            if not self._stop.is_set():
                tell(greeting(self._config, self._address, demo=self._demo(engine)))
                watches = [_watch(store, fleet, engine), engine.pool.watch()]
                if writers.usages is not None:
                    watches.append(writers.usages.watch())
                await first_of(self._stop.wait(), *watches)
            await first_of(self._drain(fleet, engine, jobs), self._hurry.wait())
            if writers.usages is not None:
                await writers.usages.flush()

    @property
    def _address(self) -> tuple[str, int]:
        host, port, *_ = self._sockets[0].getsockname()
        return host, port

    def _demo(self, engine: _Engine) -> str | None:
        """Name an endpoint that answers without further ado: its model is loading at least."""
        preload = self._config.inference.preload
        return next((one for one in preload if engine.pool.find(one) is not None), None)

    def _on_signal(self) -> None:
        """Drain on the first signal, hurry on the second."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def _launch(self, store: SqlStore) -> Launch:
        metrics_directory = self._config.data_dir / _METRICS_DIRECTORY
        clear_metrics_directory(metrics_directory)
        return Launch(
            Bootstrap(
                config=config_of_children(self._config),
                cluster_uuid=await store.value(_CLUSTER_UUID, _new_cluster_uuid),
                node_name=socket.gethostname(),
            ),
            self._sockets,
            metrics_directory,
        )

    def _audit(self, stack: AsyncExitStack) -> AuditLog | None:
        """Open the audit log, None when there is to be none. Raises `StartRefused`."""
        section = self._config.audit
        if not section.enabled:
            return None
        path = Path(section.path) if section.path else self._config.data_dir / _AUDIT_FILE
        try:
            audit = AuditLog(path, max_bytes=section.max_bytes, files=section.max_files)
        except OSError as error:
            raise StartRefused(f"[audit.path] is [{path}]: {error.strerror or error}") from error
        stack.callback(audit.close)
        return audit

    async def _start(
        self, fleet: Fleet, writers: Writers, engine: _Engine, audit: AuditLog | None
    ) -> None:
        handlers = writers.handlers()
        if audit is not None:
            handlers[NoteRefusals] = audit.note_refusals

        async def run(command: Command) -> Any:
            return await handlers[type(command)](command)

        def records() -> Iterator[Record]:
            yield from writers.records()
            yield from engine.pool.records()

        writers.registry.resume(self._config.inference.preload)
        await fleet.start(
            self._config.server.workers, run=audit.audited(run) if audit else run, records=records
        )

    async def _drain(self, fleet: Fleet, engine: _Engine, jobs: Nursery) -> None:
        """Let requests end, then writes whose clients are gone, each within the drain timeout.

        Models that are still starting do not hold it up: they start again with the server.
        """
        timeout_s = self._config.server.drain_timeout_s
        get_logger().info("draining", timeout_s=timeout_s)
        await fleet.drain()
        await engine.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await jobs.drain()


class _Engine:
    """The local models of this host; use as an async context manager. starts: of models."""

    def __init__(self, config: Config, fleet: Fleet, audit: AuditLog | None) -> None:
        keepers, self.starts = Nursery(), Nursery()
        directory = config.data_dir
        library, limit = open_library(config, os.environ), config.engine.memory_limit
        self.supply = Supply(library)
        self.pool = Pool(
            Workshop(
                library=library,
                publish=fleet.publish,
                nursery=keepers,
                cores=Cores(config.engine.threads or len(os.sched_getaffinity(0))),
                module="inferry.model_worker",
                sockets=directory / _WORKERS_DIRECTORY,
                graphs=directory / GRAPHS_DIRECTORY,
                telemetry=config.telemetry,
                precision=config.engine.precision,
                memory_limit=usual_memory_limit() if limit is None else limit,
                start_timeout_s=config.engine.start_timeout_s,
                idle_s=config.engine.idle_time_s,
                private=directory,
                allow_unsandboxed=config.engine.allow_unsandboxed,
                note_violation=audit.note_violation if audit else None,
            )
        )
        # Starts end first: what is cut off is no failure, and goes on with the next server.
        self._parts = (keepers, self.pool, self.starts, self.supply)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> _Engine:
        for part in self._parts:
            await self._stack.enter_async_context(part)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the workers, once."""
        await self._stack.aclose()


async def _watch(store: SqlStore, fleet: Fleet, engine: _Engine) -> None:
    """Have the API processes say why they are not ready: no store, or a model that is silent."""
    told: str | None = None
    while True:
        await asyncio.sleep(_WATCH_EVERY_S)
        reason = engine.pool.why_not_ready()
        try:
            await store.value(_CLUSTER_UUID, _new_cluster_uuid)
        except StoreFailure as error:
            reason = "the store cannot be read"
            if told != reason:
                get_logger().error(reason, reason=str(error))
        if reason != told:
            told = reason
            await fleet.warn(reason)


def _new_cluster_uuid() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
