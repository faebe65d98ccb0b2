"""A model worker: loads one model, then answers API processes over the socket it listens on.

It keeps nothing: it ends when the supervisor's channel closes. The event loop moves messages; the
threads of `inferry.engine.slots` do the work.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping

import msgspec

from inferry.concurrency import Nursery
from inferry.domain import InputType, TaskType
from inferry.engine.batching import Limits
from inferry.engine.jobs import Job, Lane
from inferry.engine.messages import (
    CHECK,
    GIVE_BACK,
    HURRY,
    INFER,
    LEASE,
    LOAD,
    PREPARE,
    RECALL,
    SCALE,
    STATS,
    Infer,
    Inferred,
    Load,
    ModelFacts,
    decode_load,
)
from inferry.engine.sandbox import confine, harden
from inferry.engine.slots import Slots
from inferry.errors import InferenceError, InternalError, UnusableModel
from inferry.ipc import ChannelClosed, Handler, Peer, listen_for_peers, open_peer
from inferry.modeling import LoadModel, PrepareModel, Protection
from inferry.telemetry import configure_logging, get_logger

_CHECK_EVERY_S = 10.0
_SWITCH_S = 0.0005  # a thread with a batch that has run waits no longer for Python's lock


def confine_for(order: Load) -> Protection:
    """Give up whatever the model of `order` does not need, for good.

    Raises as `check_protection`.
    """
    private = order.private
    protection = confine(order.source, cache=order.options.cache_dir, private=private)
    check_protection(order, protection)
    return protection


def check_protection(order: Load, protection: Protection) -> None:
    """Warn where less than the whole was had; raises `UnusableModel` for a program, then."""
    source = order.source
    if protection.is_whole:
        return
    if source.is_program and not order.allow_unsandboxed:
        raise UnusableModel(
            f"The model [{source.name}] is a program, and such run in a sandbox only, which is "
            f"{protection}. To run it without one, set [engine.allow_unsandboxed]"
        )
    get_logger().warning(
        "a model runs without all of its sandbox",
        model=source.name,
        is_program=source.is_program,
        missing=protection.missing,
    )


def run_worker(
    control: int,
    listening: int,
    load: LoadModel,
    *,
    prepare: PrepareModel,
    run: Callable[..., object],
    confine: Callable[[Load], Protection] = confine_for,
) -> None:
    """Be a worker until the supervisor is gone; never returns.

    control, listening: inherited descriptors. run: runs a coroutine, as `asyncio.run` does.
    confine: called before a model is loaded.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; not our business
    harden()
    sys.setswitchinterval(_SWITCH_S)
    worker = Worker(socket.socket(fileno=listening), load, prepare, confine)
    run(worker.serve(socket.socket(fileno=control)))


class Worker:
    """What the supervisor and the API processes call, see `inferry.engine.messages`."""

    def __init__(
        self,
        listening: socket.socket,
        load: LoadModel,
        prepare: PrepareModel,
        confine: Callable[[Load], Protection],
    ) -> None:
        self._listening = listening
        self._load_model = load
        self._prepare_model = prepare
        self._confine = confine
        self._nursery = Nursery()
        self._supervisor: Peer | None = None
        self._slots: Slots | None = None
        self._server: asyncio.Server | None = None
        self._probe: tuple[str, str | None] = ("", None)

    async def serve(self, control: socket.socket) -> None:
        """Serve until the supervisor's channel closes; then the process ends."""
        handlers: Mapping[str, Handler] = {
            LOAD: self._load,
            PREPARE: self._prepare,
            SCALE: self._scale,
            CHECK: self._check,
            RECALL: self._recall,
            STATS: self._stats,
        }
        self._supervisor = await open_peer(
            control, handlers, nursery=self._nursery, drops_orphans=True
        )
        await self._supervisor.closed()
        os._exit(0)  # a batch that runs is of no use to anybody any more

    async def _prepare(self, body: bytes) -> bytes:
        order = decode_load(body)
        configure_logging(order.telemetry)
        self._confine(order)  # before there is a second thread
        await asyncio.to_thread(self._prepare_model, order.source, order.options)
        return b""

    async def _load(self, body: bytes) -> bytes:
        order = decode_load(body)
        configure_logging(order.telemetry)
        protection = self._confine(order)  # before there is a second thread
        model = await asyncio.to_thread(self._load_model, order.source, order.options)
        if self._supervisor is None:
            raise InternalError("the channel is not open yet")
        lender = _RemoteLender(self._supervisor, self._nursery, self._granted)
        slots = Slots(
            model,
            lender,
            streams=order.options.streams,
            threads=order.options.threads,
            allocations=order.allocations,
            limits=Limits(texts=order.queue_capacity),
        )
        self._slots = slots
        self._probe = model.probe
        slots.start()
        gc.collect()
        gc.freeze()  # what stands now stays
        handlers = {INFER: _Inference(slots, model.task_type).run}
        # Kept, since uvloop does not: the next garbage collection would close the socket else.
        self._server = await listen_for_peers(self._listening, handlers, nursery=self._nursery)
        facts = ModelFacts(
            model.task_type,
            model.dimensions,
            model.max_tokens,
            model.similarity,
            model.arithmetic,
            model.cosine,
            protection,
        )
        return msgspec.msgpack.encode(facts)

    async def _scale(self, body: bytes) -> bytes:
        self._running.scale(msgspec.msgpack.decode(body, type=int))
        return b""

    async def _recall(self, body: bytes) -> bytes:
        self._running.recall(msgspec.msgpack.decode(body, type=Lane))
        return b""

    async def _check(self, _: bytes) -> bytes:
        """Run a text, unless one has run lately."""
        slots = self._running
        if not slots.has_run_since(time.monotonic() - _CHECK_EVERY_S):
            text, query = self._probe
            await _finished(
                slots, Infer(Lane.CHECK, math.inf, InputType.UNSPECIFIED, [text], query)
            )
        return b""

    async def _stats(self, _: bytes) -> bytes:
        return msgspec.msgpack.encode(self._running.stats())

    def _granted(self) -> None:
        self._running.granted()

    @property
    def _running(self) -> Slots:
        if self._slots is None:
            raise InternalError("the model is not loaded yet")
        return self._slots


class _Inference:
    """Answers the calls of API processes."""

    def __init__(self, slots: Slots, task_type: TaskType | None) -> None:
        self._slots = slots
        self._task_type = task_type
        self._decode = msgspec.msgpack.Decoder(Infer).decode
        self._encode = msgspec.msgpack.Encoder().encode

    async def run(self, body: bytes) -> bytes:
        """Run texts; what the caller gives up is dropped."""
        call = self._decode(body)
        job = await _finished(self._slots, call)
        answers = [memoryview(answer) for answer in job.answers]
        return self._encode(Inferred(self._task_type, answers, job.tokens, job.cut))


async def _finished(slots: Slots, call: Infer) -> Job:
    """Run texts and give their job when it is whole. Raises what ended it before."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def end(error: InferenceError | None) -> None:
        """Wake the caller; called by other threads."""
        loop.call_soon_threadsafe(_wake, waiter, error)

    job = Job(
        call.texts, call.input_type, Lane(call.lane), call.deadline, end, call.query, call.config
    )
    slots.submit(job)
    try:
        await waiter
    finally:
        slots.abandon(job)
    return job


def _wake(waiter: asyncio.Future[None], error: InferenceError | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)


class _RemoteLender:
    """The supervisor's cores, asked for by any thread. granted: called when a lease is granted."""

    def __init__(self, supervisor: Peer, nursery: Nursery, granted: Callable[[], None]) -> None:
        self._supervisor = supervisor
        self._nursery = nursery
        self._loop = asyncio.get_running_loop()
        self._granted = granted

    def ask(self, lane: Lane) -> None:
        """Ask for one lease more."""
        self._post(LEASE, lane)

    def hurry(self, lane: Lane) -> None:
        """Make what was asked for more urgent."""
        self._post(HURRY, lane)

    def give_back(self) -> None:
        """Give one lease back."""
        self._post(GIVE_BACK, Lane.INGEST)

    def _post(self, name: str, lane: Lane) -> None:
        self._loop.call_soon_threadsafe(self._start, name, lane)

    def _start(self, name: str, lane: Lane) -> None:
        self._nursery.start(self._call(name, lane))

    async def _call(self, name: str, lane: Lane) -> None:
        try:
            await self._supervisor.call(name, msgspec.msgpack.encode(lane))
        except ChannelClosed:
            return  # and so are we, in a moment
        except InferenceError as error:
            get_logger().error("the supervisor lends no cores", call=name, reason=str(error))
            return
        if name == LEASE:
            self._granted()
