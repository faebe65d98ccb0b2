"""An API process: `python -m inferry.app CHANNEL LISTEN...`, the numbers of inherited descriptors.

The supervisor starts it, tells it the configuration and all records over the channel, and has it
serve. It keeps nothing of its own: it ends when the channel closes.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import msgspec
import uvicorn

from inferry import __version__
from inferry.api.application import Application
from inferry.api.cluster import ClusterIdentity, cluster_routes
from inferry.api.docs_page import docs_routes
from inferry.api.door import Door
from inferry.api.elastic.errors import render_error
from inferry.api.elastic.routes import elastic_routes
from inferry.api.extensions import extension_routes
from inferry.api.health import health_routes
from inferry.api.http.crowd import HttpLimits
from inferry.api.http.protocol import protocol_factory
from inferry.api.http.reading import Reading
from inferry.api.http.request_body import BodyLimits
from inferry.api.http.server import HttpServer
from inferry.api.openai.routes import openai_routes
from inferry.api.openapi import openapi_routes
from inferry.api.security.routes import security_routes
from inferry.api.trained_models.aliases import alias_routes
from inferry.api.trained_models.deployments import deployment_routes
from inferry.api.trained_models.infer import infer_routes
from inferry.api.trained_models.models import trained_model_routes
from inferry.api.watch import Watch
from inferry.bootstrap import Bootstrap
from inferry.commands import FetchModels, StartDeployment, WakeDeployment
from inferry.concurrency import Nursery
from inferry.config import Config
from inferry.core.access import Access
from inferry.core.inference import Inference, Timeouts
from inferry.core.runners.cache import EmbeddingCache
from inferry.core.runners.compose import compose, compose_local
from inferry.core.runners.pending import PendingBytes
from inferry.core.snapshot import Snapshot
from inferry.core.task_inference import TaskInference
from inferry.core.trained_model_catalogue import TrainedModelCatalogue
from inferry.crashes import leave_no_values
from inferry.domain import Json
from inferry.engine.client import LocalEngine
from inferry.errors import InternalError
from inferry.fleet import BEGIN, DRAIN, LOAD, PUBLISH, SERVE, WARN
from inferry.ipc import Handler, Peer, RemoteWriter, decode_changes, open_peer
from inferry.modeling import listed_id
from inferry.outbound.client import open_client
from inferry.outbound.limiter import LeasingLimiter
from inferry.protocols import Writer
from inferry.records import Change
from inferry.request_log import RequestLog
from inferry.security.audit import Refusals
from inferry.security.gate import CredentialGate, Gate
from inferry.security.lockouts import Lockouts
from inferry.security.open_gate import OpenGate
from inferry.security.users import Passwords
from inferry.service import Service
from inferry.services.catalog import load_services
from inferry.store.blobs import incoming_of
from inferry.telemetry import Metrics, configure_logging
from inferry.tls import Certificate, certificate_of

_FLUSH_METRICS_S = 1.0
_GC_THRESHOLD = (20_000, 20, 50)
"""The default looks for cycles at every third request, and each time through all that are open."""
_LOOK_AT_CERTIFICATE_S = 5.0
_SWITCH_S = 0.0001  # a thread that reads a body hands Python's lock back no later
_CUT_OFF_S = 1
"""What requests get to end that are still running when the drain timeout is over."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an API process is made of."""

    config: Config
    application: Application
    snapshot: Snapshot
    access: Access
    lockouts: Lockouts
    trained_models: TrainedModelCatalogue
    engine: LocalEngine
    cache: EmbeddingCache | None
    door: Door
    metrics: Metrics
    requests: RequestLog
    refusals: Refusals

    def apply(self, changes: Sequence[Change]) -> None:
        """Serve `changes` from now on: one step without an await, so that no request sees half."""
        self.snapshot.apply(changes)
        self.access.apply(changes)
        self.lockouts.apply(changes)
        self.trained_models.apply(changes)
        self.engine.apply(changes)
        if self.cache is not None:
            self.cache.apply(changes)


class ApiProcess:
    """What the supervisor calls, see `inferry.fleet`."""

    def __init__(
        self, sockets: Sequence[socket.socket], *, nursery: Nursery, stack: AsyncExitStack
    ) -> None:
        self._sockets = sockets
        self._nursery = nursery
        self._stack = stack
        self._peer: Peer | None = None
        self._parts: Parts | None = None
        self._server: HttpServer | None = None

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What answers calls, by name."""
        return {
            BEGIN: self._begin,
            LOAD: self._apply,
            PUBLISH: self._apply,
            WARN: self._warn,
            SERVE: self._serve,
            DRAIN: self._drain,
        }

    async def run(self, channel: socket.socket) -> None:
        """Serve until the channel closes."""
        self._peer = await open_peer(channel, self.handlers, nursery=self._nursery)
        await self._peer.closed()
        if self._server is not None:
            self._server.stop()

    async def _begin(self, body: bytes) -> bytes:
        bootstrap = msgspec.msgpack.decode(body, type=Bootstrap)
        configure_logging(bootstrap.config.telemetry)
        gc.disable()  # until everything is there: to look through what only grows is in vain
        if self._peer is None:
            raise InternalError("the channel is not open yet")
        self._parts = await build(bootstrap, self._peer, nursery=self._nursery, stack=self._stack)
        return b""

    async def _apply(self, body: bytes) -> bytes:
        self._begun.apply(decode_changes(body))
        return b""

    async def _warn(self, body: bytes) -> bytes:
        self._begun.door.warning = body.decode()
        return b""

    async def _serve(self, _: bytes) -> bytes:
        parts = self._begun
        gc.collect()
        gc.freeze()  # what stands now stays: later collections need not look at it
        gc.enable()
        gc.set_threshold(*_GC_THRESHOLD)
        certificate = certificate_of(parts.config)
        self._server = HttpServer(_server_config(parts, certificate), self._sockets)
        await self._server.listen()
        if certificate is not None:
            self._nursery.start(_follow(certificate))
        self._nursery.start(self._server.main_loop())
        self._nursery.start(_flush_metrics(parts))
        return b""

    async def _drain(self, _: bytes) -> bytes:
        parts = self._begun
        parts.door.shut()
        if self._server is not None:
            await self._server.finish(parts.config.server.drain_timeout_s)
        parts.requests.flush()
        await parts.refusals.flush()
        return b""

    @property
    def _begun(self) -> Parts:
        if self._parts is None:
            raise InternalError("the process was not told to begin")
        return self._parts


async def build(
    bootstrap: Bootstrap, peer: Peer, *, nursery: Nursery, stack: AsyncExitStack
) -> Parts:
    """Make the parts, empty of records, and tie them together; `stack` closes what is open."""
    config, version = bootstrap.config, bootstrap.config.server.version
    snapshot, access, lockouts, metrics = Snapshot(), Access(), Lockouts(), Metrics()
    services = load_services()
    writer = RemoteWriter(peer)
    engine, trained_models = LocalEngine(nursery), TrainedModelCatalogue()
    max_bytes = config.cache.max_bytes
    cache = EmbeddingCache(max_bytes) if max_bytes else None
    runs = _Runs(config, services, writer, engine, cache, metrics, nursery)
    inference = await _inference(snapshot, runs, stack)
    routes = [
        *elastic_routes(
            snapshot, inference, writer, services, diagnostics=_numbers, version=version
        ),
        *openai_routes(snapshot, inference),
        *alias_routes(writer),
        *trained_model_routes(trained_models, writer, incoming_of(config)),
        *deployment_routes(trained_models, writer, node=bootstrap.node_name),
        *extension_routes(snapshot, writer),
        *cluster_routes(_identity(bootstrap)),
    ]
    gate: Gate = OpenGate()
    if config.auth.enabled:
        passwords = Passwords()
        stack.callback(passwords.close)
        gate = CredentialGate(access, passwords, lockouts, writer.submit)
        routes += security_routes(access, writer, gate, render_error)
    routes += infer_routes(_task_inference(trained_models, snapshot, engine, writer), gate)
    door = Door(gate)
    routes += health_routes(metrics, door.why_not_ready)
    routes += docs_routes()
    routes += openapi_routes(routes, version=__version__)
    reading = Reading()
    stack.callback(reading.close)
    requests = RequestLog(config.telemetry)
    refusals = Refusals(writer.submit, nursery=nursery)
    watch = Watch(requests, refusals.note if config.audit.enabled else None)
    return Parts(
        config=config,
        application=Application(
            routes, door, bodies=_body_limits(config), watch=watch, reading=reading
        ),
        snapshot=snapshot,
        access=access,
        lockouts=lockouts,
        trained_models=trained_models,
        engine=engine,
        cache=cache,
        door=door,
        metrics=metrics,
        requests=requests,
        refusals=refusals,
    )


def _identity(bootstrap: Bootstrap) -> ClusterIdentity:
    """Give what this server is called."""
    version = bootstrap.config.server.version
    return ClusterIdentity(bootstrap.node_name, bootstrap.cluster_uuid, version)


def _task_inference(
    trained_models: TrainedModelCatalogue, snapshot: Snapshot, engine: LocalEngine, writer: Writer
) -> TaskInference:
    """Make what answers `_infer`."""
    return TaskInference(
        trained_models,
        snapshot,
        engine,
        wake=partial(_wake_deployment, writer),
        start=partial(_start_deployment, writer),
        is_listed=partial(_is_listed, writer),
    )


@dataclass(frozen=True, slots=True)
class _Runs:
    """What running endpoints needs beside the endpoints."""

    config: Config
    services: Mapping[str, Service]
    writer: Writer
    engine: LocalEngine
    cache: EmbeddingCache | None
    metrics: Metrics
    nursery: Nursery


async def _inference(snapshot: Snapshot, runs: _Runs, stack: AsyncExitStack) -> Inference:
    """Make what runs endpoints; `stack` closes its connections."""
    config, writer, nursery = runs.config, runs.writer, runs.nursery
    limiter = LeasingLimiter(
        writer.submit, nursery=nursery, queue_capacity=config.outbound.queue_capacity
    )
    outbound = await stack.enter_async_context(
        open_client(config.outbound, allow_private_networks=config.allows_private_networks)
    )
    start = partial(_start_deployment, writer)
    return Inference(
        snapshot,
        runs.services,
        compose=partial(
            compose,
            outbound=outbound,
            limiter=limiter,
            count=runs.metrics.count_upstream,
            cache=runs.cache,
            pending=PendingBytes(config.outbound.max_pending_bytes),
        ),
        compose_local=partial(compose_local, engine=runs.engine, start=start, cache=runs.cache),
        writer=writer,
        metrics=runs.metrics,
        timeouts=Timeouts(config.inference.timeout_s, config.inference.completion_timeout_s),
        nursery=nursery,
    )


async def _start_deployment(writer: Writer, inference_id: str) -> None:
    await writer.submit(StartDeployment(inference_id))


async def _wake_deployment(writer: Writer, deployment_id: str) -> None:
    await writer.submit(WakeDeployment(deployment_id))


async def _is_listed(writer: Writer, model_id: str) -> bool:
    its_id = listed_id(model_id)
    return any(one.model_id == its_id for one in await writer.submit(FetchModels([its_id])))


def _numbers() -> dict[str, Json]:
    """Give what tells whether this process keeps anything that it should have let go."""
    return {"tasks": len(asyncio.all_tasks())}


async def _flush_metrics(parts: Parts) -> None:
    while True:
        await asyncio.sleep(_FLUSH_METRICS_S)
        parts.metrics.flush()


async def _follow(certificate: Certificate) -> None:
    while True:
        await asyncio.sleep(_LOOK_AT_CERTIFICATE_S)
        certificate.refresh()


def _body_limits(config: Config) -> BodyLimits:
    return BodyLimits(
        max_bytes=config.server.max_body_bytes,
        timeout_s=config.limits.body_timeout_s,
        max_held_bytes=config.limits.max_pending_body_bytes,
    )


def _server_config(parts: Parts, certificate: Certificate | None) -> uvicorn.Config:
    config, limits = parts.config, parts.config.limits
    protocol = protocol_factory(
        HttpLimits(
            max_head_bytes=limits.max_header_bytes,
            head_timeout_s=limits.header_timeout_s,
            max_connections=limits.max_connections,
            max_connections_per_address=limits.max_connections_per_address,
        ),
        parts.application.answer_at_once,
    )
    return uvicorn.Config(
        parts.application,
        http=protocol,  # type: ignore[arg-type]  # a factory does as well as a class
        ws="none",
        loop="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # its warnings tell of clients, who could fill the log with them
        access_log=False,
        server_header=False,
        proxy_headers=bool(config.server.trusted_proxies),
        forwarded_allow_ips=list(config.server.trusted_proxies),
        timeout_keep_alive=int(limits.idle_timeout_s),
        timeout_graceful_shutdown=_CUT_OFF_S,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
    )


async def _main(channel: int, listening: Sequence[int]) -> None:
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(Nursery())
        sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
        process = ApiProcess(sockets, nursery=nursery, stack=stack)
        await process.run(socket.socket(fileno=channel))


def main() -> None:
    """Run an API process. Signals are the supervisor's business: a terminal sends Ctrl-C to all."""
    import uvloop

    leave_no_values()
    sys.setswitchinterval(_SWITCH_S)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel, *listening = map(int, sys.argv[1:])
    uvloop.run(_main(channel, listening))


if __name__ == "__main__":
    main()
