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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import msgspec

from inferry import __version__
from inferry.bootstrap import (
    Bootstrap,
    StartRefused,
    bind,
    config_of_children,
    locked,
    prepare_data_dir,
    read_private,
    write_private,
)
from inferry.commands import Command, NoteFailedLogin, NoteRefusals, TakeTokens
from inferry.concurrency import Nursery, first_of
from inferry.config import Config, Loaded
from inferry.core.dry_run import sample_request
from inferry.core.registry import Registry
from inferry.core.runners.compose import compose_probe
from inferry.crashes import leave_no_values
from inferry.domain import Deadline, Endpoint, Result
from inferry.engine.cores import Cores
from inferry.engine.pool import Pool
from inferry.engine.workshop import Workshop
from inferry.errors import InferenceError, InternalError, StoreFailure
from inferry.fleet import Fleet, Launch
from inferry.modeling import GRAPHS_DIRECTORY
from inferry.models.library import open_library
from inferry.outbound.client import open_client
from inferry.outbound.limiter import Buckets
from inferry.process_limits import allow_descriptors
from inferry.protocols import Outbound, Probe
from inferry.records import ApiKeyRecord, Record
from inferry.security.audit import AuditLog
from inferry.security.first_start import prepare
from inferry.security.key_usage import KeyUsages
from inferry.security.lockouts import FailedLogins
from inferry.security.users import Passwords
from inferry.security.vault import open_vault
from inferry.security.writer import SecurityWriter
from inferry.service import HttpTask, Service
from inferry.services.catalog import load_services
from inferry.store.blobs import incoming_of, uploads_of
from inferry.store.sql import SqlStore, open_store, sqlite_url
from inferry.telemetry import clear_metrics_directory, configure_logging, get_logger
from inferry.tls import certificate_of

LOCAL_KEY_FILE = "local-api-key"
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


@dataclass(frozen=True, slots=True)
class _Writers:
    """What decides about writes. security, logins, usages: None without authentication."""

    registry: Registry
    security: SecurityWriter | None
    logins: FailedLogins | None
    usages: KeyUsages | None

    def records(self) -> Iterator[Record]:
        """Give every record that is served, as of the first step."""
        if self.security is not None:
            yield from self.security.records()
        if self.logins is not None:
            yield from self.logins.records()
        yield from self.registry.records()


class _Supervisor:
    """One run of the server, from the first look at the store to the last answer."""

    def __init__(self, config: Config, sockets: Sequence[socket.socket]) -> None:
        self._config = config
        self._sockets = sockets
        self._uploads = uploads_of(config)
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
            writers = await self._writers(store, fleet, engine, jobs, stack)
            await first_of(self._start(fleet, writers, engine, audit), self._stop.wait())
            if not self._stop.is_set():
                _tell(greeting(self._config, self._address, demo=self._demo(engine)))
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
        self, fleet: Fleet, writers: _Writers, engine: _Engine, audit: AuditLog | None
    ) -> None:
        handlers: dict[type[Command], Callable[[Any], Awaitable[Any]]] = {
            TakeTokens: Buckets().take,
            **writers.registry.handlers(),
        }
        if writers.security is not None:
            handlers |= writers.security.handlers()
        if writers.usages is not None:
            handlers |= writers.usages.handlers()
        if writers.logins is not None:
            handlers[NoteFailedLogin] = writers.logins.note

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

    async def _writers(
        self,
        store: SqlStore,
        fleet: Fleet,
        engine: _Engine,
        jobs: Nursery,
        stack: AsyncExitStack,
    ) -> _Writers:
        """Make what carries out commands, with what the store holds."""
        records = await store.load()
        security, logins, usages = None, None, None
        if self._config.auth.enabled:
            passwords = Passwords()
            stack.callback(passwords.close)
            records = await self._first_start(store, records, passwords)
            security = SecurityWriter(store, fleet.publish, passwords, records=records)
            logins = FailedLogins(fleet.publish)
            usages = KeyUsages(store)
            await usages.load({one.id for one in records if isinstance(one, ApiKeyRecord)})
        registry = await self._registry(store, fleet, engine, jobs, stack)
        registry.load(records)
        await registry.end_rotation()
        await asyncio.to_thread(self._uploads.sweep, registry.trained_models())
        return _Writers(registry, security, logins, usages)

    async def _first_start(
        self, store: SqlStore, records: list[Record], passwords: Passwords
    ) -> list[Record]:
        """Make the superuser and the local key if they are missing; give all records."""
        auth = self._config.auth
        file = self._config.data_dir / LOCAL_KEY_FILE
        former_key = read_private(file)
        first = await prepare(
            store,
            records,
            passwords,
            admin_user=auth.admin_user,
            admin_password=auth.admin_password,
            local_key=former_key,
        )
        if first.local_key != former_key:
            write_private(file, first.local_key)
        if first.generated_password is not None:
            # At once: whatever fails later, it is stored and cannot be told again.
            _tell(f"password of [{auth.admin_user}], shown this once: {first.generated_password}\n")
        if first.ignores_password:
            get_logger().warning(
                "[auth.admin_password] differs from the stored password, which stays; "
                "change it with `inferry users password`",
                user=auth.admin_user,
            )
        return first.records

    async def _registry(
        self,
        store: SqlStore,
        fleet: Fleet,
        engine: _Engine,
        jobs: Nursery,
        stack: AsyncExitStack,
    ) -> Registry:
        config = self._config
        outbound = await stack.enter_async_context(
            open_client(config.outbound, allow_private_networks=config.allows_private_networks)
        )
        services = load_services()
        secrets_path = Path(config.secrets.path) if config.secrets.path else None
        return Registry(
            store,
            open_vault(config.data_dir, os.environ, secrets_path=secrets_path),
            services,
            _probe_through(outbound, services),
            fleet.publish,
            deployments=engine.pool,
            files=self._uploads,
            incoming=incoming_of(config),
            nursery=jobs,
            starts=engine.starts,
            skip_validation=config.inference.skip_validate_and_start,
            secret_reserve_s=config.secrets.reserve_s,
            timeout_s=config.inference.timeout_s,
            generative_timeout_s=config.inference.completion_timeout_s,
            node=socket.gethostname(),
        )


class _Engine:
    """The local models of this host; use as an async context manager. starts: of models."""

    def __init__(self, config: Config, fleet: Fleet, audit: AuditLog | None) -> None:
        keepers, self.starts = Nursery(), Nursery()
        directory = config.data_dir
        self.pool = Pool(
            Workshop(
                library=open_library(config, os.environ),
                publish=fleet.publish,
                nursery=keepers,
                cores=Cores(config.engine.threads or len(os.sched_getaffinity(0))),
                module="inferry.model_worker",
                sockets=directory / _WORKERS_DIRECTORY,
                graphs=directory / GRAPHS_DIRECTORY,
                telemetry=config.telemetry,
                precision=config.engine.precision,
                memory_limit=config.engine.memory_limit,
                private=directory,
                allow_unsandboxed=config.engine.allow_unsandboxed,
                note_violation=audit.note_violation if audit else None,
            )
        )
        # Starts end first: what is cut off is no failure, and goes on with the next server.
        self._parts = (keepers, self.pool, self.starts)
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


def _probe_through(outbound: Outbound, services: Mapping[str, Service]) -> Probe:
    """Give the call that proves a new endpoint."""

    async def probe(endpoint: Endpoint, deadline: Deadline) -> Result:
        service = services[endpoint.service]
        task = service.tasks[endpoint.task_type]
        if not isinstance(task, HttpTask):
            raise InternalError(f"[{service.name}] has no call to prove an endpoint with")
        run = compose_probe(endpoint, service, task, outbound=outbound)
        return await run(sample_request(endpoint, deadline))

    return probe


def _new_cluster_uuid() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _tell(text: str) -> None:
    """Say something to whoever started the server."""
    sys.stdout.write(text)
    sys.stdout.flush()


def greeting(config: Config, address: tuple[str, int], *, demo: str | None = None) -> str:
    """Say where the server is, and give a command that works when it is pasted.

    demo: an endpoint that can be run.
    """
    host, port = address
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  what is bound
    shown = f"[{shown}]" if ":" in shown else shown
    url = f"{'https' if config.uses_tls else 'http'}://{shown}:{port}"
    curl = ["curl"]
    if config.server.tls_cert is not None:
        curl += ["--cacert", quote(config.server.tls_cert)]
    lines = [f"inferry {__version__} serves on {url}"]
    if config.auth.enabled:
        key_file = quote(str(config.data_dir / LOCAL_KEY_FILE))
        curl += ["-H", f'"Authorization: ApiKey $(cat {key_file})"']
    else:
        lines[0] += ", without authentication"
    if demo is None:
        curl.append(f"{url}/_inference/_services")
    else:
        curl += [f"{url}/_inference/{quote(demo)}", "-H", "'Content-Type: application/json'"]
        curl += ["-d", """'{"input": "The quick brown fox"}'"""]
    return "\n".join([*lines, "try:", f"  {' '.join(curl)}"]) + "\n"
