"""What decides about writes in the supervisor, made from the configuration and the store."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferry.bootstrap import LOCAL_KEY_FILE, read_private, write_private
from inferry.commands import Command, NoteFailedLogin, TakeTokens
from inferry.concurrency import Nursery
from inferry.config import Config
from inferry.core.dry_run import sample_request
from inferry.core.registry import Registry
from inferry.core.runners.compose import compose_probe
from inferry.domain import Deadline, Endpoint, Result
from inferry.engine.pool import Pool
from inferry.errors import InternalError
from inferry.greeting import tell
from inferry.models.supply import Supply
from inferry.outbound.client import open_client
from inferry.outbound.limiter import Buckets
from inferry.protocols import Outbound, Probe, Publish
from inferry.records import ApiKeyRecord, Record
from inferry.security.first_start import prepare
from inferry.security.key_usage import KeyUsages
from inferry.security.lockouts import FailedLogins
from inferry.security.users import Passwords
from inferry.security.vault import open_vault
from inferry.security.writer import SecurityWriter
from inferry.service import HttpTask, Service
from inferry.services.catalog import load_services
from inferry.store.blobs import incoming_of, uploads_of
from inferry.store.sql import SqlStore
from inferry.telemetry import get_logger


@dataclass(frozen=True, slots=True)
class Desk:
    """What writers work with. starts: of models; jobs: writes that outlive whoever asked."""

    config: Config
    store: SqlStore
    publish: Publish
    pool: Pool
    supply: Supply
    starts: Nursery
    jobs: Nursery


@dataclass(frozen=True, slots=True)
class Writers:
    """What decides about writes. security, logins, usages: None without authentication."""

    registry: Registry
    security: SecurityWriter | None = None
    logins: FailedLogins | None = None
    usages: KeyUsages | None = None

    def records(self) -> Iterator[Record]:
        """Give every record that is served, as of the first step."""
        if self.security is not None:
            yield from self.security.records()
        if self.logins is not None:
            yield from self.logins.records()
        yield from self.registry.records()

    def handlers(self) -> dict[type[Command], Callable[[Any], Awaitable[Any]]]:
        """Give what carries out each command."""
        handlers: dict[type[Command], Callable[[Any], Awaitable[Any]]] = {
            TakeTokens: Buckets().take,
            **self.registry.handlers(),
        }
        if self.security is not None:
            handlers |= self.security.handlers()
        if self.usages is not None:
            handlers |= self.usages.handlers()
        if self.logins is not None:
            handlers[NoteFailedLogin] = self.logins.note
        return handlers


async def open_writers(desk: Desk, stack: AsyncExitStack) -> Writers:
    """Make the writers, with what the store holds; `stack` closes what is open."""
    records = await desk.store.load()
    if not desk.config.auth.enabled:
        return Writers(await _open_registry(desk, records, stack))
    passwords = Passwords()
    stack.callback(passwords.close)
    records = await _first_start(desk, records, passwords)
    usages = KeyUsages(desk.store)
    await usages.load({one.id for one in records if isinstance(one, ApiKeyRecord)})
    return Writers(
        await _open_registry(desk, records, stack),
        security=SecurityWriter(desk.store, desk.publish, passwords, records=records),
        logins=FailedLogins(desk.publish),
        usages=usages,
    )


async def _first_start(desk: Desk, records: list[Record], passwords: Passwords) -> list[Record]:
    """Make the superuser and the local key if they are missing; give all records."""
    auth = desk.config.auth
    file = desk.config.data_dir / LOCAL_KEY_FILE
    former_key = read_private(file)
    first = await prepare(
        desk.store,
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
        tell(f"password of [{auth.admin_user}], shown this once: {first.generated_password}\n")
    if first.ignores_password:
        get_logger().warning(
            "[auth.admin_password] differs from the stored password, which stays; "
            "change it with `inferry users password`",
            user=auth.admin_user,
        )
    return first.records


async def _open_registry(desk: Desk, records: list[Record], stack: AsyncExitStack) -> Registry:
    config = desk.config
    outbound = await stack.enter_async_context(
        open_client(config.outbound, allow_private_networks=config.allows_private_networks)
    )
    services = load_services()
    secrets_path = Path(config.secrets.path) if config.secrets.path else None
    uploads = uploads_of(config)
    registry = Registry(
        desk.store,
        open_vault(config.data_dir, os.environ, secrets_path=secrets_path),
        services,
        _probe_through(outbound, services),
        desk.publish,
        deployments=desk.pool,
        files=uploads,
        incoming=incoming_of(config),
        supply=desk.supply,
        nursery=desk.jobs,
        starts=desk.starts,
        skip_validation=config.inference.skip_validate_and_start,
        secret_reserve_s=config.secrets.reserve_s,
        timeout_s=config.inference.timeout_s,
        generative_timeout_s=config.inference.completion_timeout_s,
        node=socket.gethostname(),
    )
    registry.load(records)
    await registry.end_rotation()
    await asyncio.to_thread(uploads.sweep, registry.trained_models())
    return registry


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
