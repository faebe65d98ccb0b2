"""The middle that knows no protocol: finds an endpoint, settles the request, runs it.

Dialects call only this; what they get is a result, chunks, or an `InferenceError`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from inferry.commands import FetchSecrets
from inferry.concurrency import Nursery, SingleFlight, within
from inferry.core.asking import Ask, settle
from inferry.core.governor import Governor, StreamTally
from inferry.core.lookup import endpoint_not_found
from inferry.core.regions import check_region
from inferry.core.runners.compose import Compose, ComposeLocal
from inferry.core.runners.runner import Chunks, Runners
from inferry.core.snapshot import Entry, Snapshot
from inferry.domain import Deadline, InferenceRequest, Result, TaskType, Usage
from inferry.errors import BadRequest, StreamingNotAllowed
from inferry.key_limits import current_key_holder
from inferry.protocols import Writer
from inferry.service import HttpTask, LocalTask, Service, Task
from inferry.telemetry import Metrics, Outcome, Stage, outcome_of

__all__ = ["Ask", "Inference", "Timeouts"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits of requests that name none, in seconds."""

    default_s: float = 30.0
    completion_s: float = 120.0

    def of(self, task_type: TaskType) -> tuple[float, str]:
        """Give the limit of a task type, and as the wire writes it."""
        seconds = self.completion_s if task_type.is_generative else self.default_s
        return seconds, _duration_text(seconds)


class Inference:
    """Runs inference for every dialect of an API process.

    Runners are composed on an endpoint's first use and kept in its entry, so that a new revision
    starts afresh; only then are its secrets fetched.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        services: Mapping[str, Service],
        *,
        compose: Compose,
        compose_local: ComposeLocal,
        writer: Writer,
        metrics: Metrics,
        timeouts: Timeouts,
        nursery: Nursery,
    ) -> None:
        self._snapshot = snapshot
        self._services = services
        self._compose = compose
        self._compose_local = compose_local
        self._writer = writer
        self._metrics = metrics
        self._timeouts = {task_type: timeouts.of(task_type) for task_type in TaskType}
        self._governor = Governor(writer, metrics=metrics, nursery=nursery)
        self._composing = SingleFlight(nursery)

    def find(self, inference_id: str, asked: TaskType | None) -> Entry:
        """Give the entry of an endpoint that is to run as `asked`, None for whatever it is.

        Raises `NotFound`, or `BadRequest` when its task type is another one.
        """
        entry = self._snapshot.get(inference_id)
        if entry is None:
            raise endpoint_not_found(inference_id)
        if asked is None or asked is entry.task_type:
            return entry
        if asked is TaskType.CHAT_COMPLETION:
            raise BadRequest(
                "Incompatible task_type for unified API, the requested type "
                f"[{entry.task_type}] must be one of [{TaskType.CHAT_COMPLETION}]"
            )
        raise BadRequest(
            f"Incompatible task_type, the requested type [{asked}] does not match the model type "
            f"[{entry.task_type}]"
        )

    async def run(self, inference_id: str, asked: TaskType | None, ask: Ask) -> Result:
        """Run one request and give its whole result.

        Raises `LimitExceeded` and `NotAuthorized` where the caller's API key has limits.
        """
        holder = current_key_holder()
        if holder is not None:
            await self._governor.admit(holder, inference_id)
        entry = self.find(inference_id, asked)
        started = time.monotonic()
        try:
            result = await self._run(entry, ask)
        except BaseException as error:
            self._count(entry, ask, outcome_of(error), started)
            raise
        self._count(entry, ask, Outcome.SUCCESS, started)
        usage = result.usage
        self._count_tokens(entry, usage)
        if holder is not None and usage is not None:
            await self._governor.spend(holder, usage.input_tokens + usage.output_tokens)
        return result

    async def stream(self, inference_id: str, asked: TaskType | None, ask: Ask) -> Chunks:
        """Give the chunks of a streamed answer; close it to hang up on the provider.

        Errors before the first ones are raised by the first `__anext__`, as those of `run`.
        """
        holder = current_key_holder()
        tally = None
        if holder is not None:
            await self._governor.admit(holder, inference_id)
            tally = StreamTally(ask)
        entry = self.find(inference_id, asked)
        started = time.monotonic()
        outcome = Outcome.CANCELLED  # when it is closed before its end
        usage: Usage | None = None
        try:
            self._check_streams(entry)
            runners, request = await self._prepare(entry, ask)
            if runners.stream is None:
                raise _not_streaming(entry, self._service(entry))
            async with aclosing(runners.stream(request)) as parts:
                async for chunks in parts:
                    for chunk in chunks:
                        usage = chunk.usage or usage
                    if tally is not None:
                        tally.add(chunks)
                    yield chunks
            outcome = Outcome.SUCCESS
        except Exception as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._count(entry, ask, outcome, started)
            self._count_tokens(entry, usage)
            if holder is not None and tally is not None:
                await self._governor.spend(holder, tally.tokens)

    async def _run(self, entry: Entry, ask: Ask) -> Result:
        runners, request = await self._prepare(entry, ask)
        return await runners.run(request)

    async def _prepare(self, entry: Entry, ask: Ask) -> tuple[Runners, InferenceRequest]:
        timeout_s, timeout = ask.timeout or self._timeouts[entry.task_type]
        deadline = Deadline.after(timeout_s, timeout, entry.inference_id)
        policy = self._snapshot.region_policy
        if policy is not None:
            check_region(
                policy,
                inference_id=entry.inference_id,
                service=entry.service,
                service_settings=entry.endpoint().service_settings,
            )
        runners: Runners | None = entry.runners
        if runners is None:
            runners = await self._composed(entry, deadline)
        return runners, settle(ask, runners, deadline)

    async def _composed(self, entry: Entry, deadline: Deadline) -> Runners:
        """Compose the runners of an entry; all who ask meanwhile wait for the same."""
        service = self._service(entry)
        task = service.tasks.get(entry.task_type)
        if task is None:
            raise BadRequest(
                f"The [{entry.service}] service does not support task type [{entry.task_type}]"
            )
        with within(deadline):
            return await self._composing.run(
                f"{entry.inference_id}/{entry.revision}",
                partial(self._compose_entry, entry, service, task),
            )

    async def _compose_entry(self, entry: Entry, service: Service, task: Task) -> Runners:
        endpoint = entry.endpoint()
        if isinstance(task, LocalTask):
            runners = self._compose_local(endpoint, service, task)
        else:
            secrets = await self._writer.submit(FetchSecrets(entry.inference_id, entry.revision))
            runners = self._compose(replace(endpoint, secrets=secrets), service, task)
        entry.runners = runners
        return runners

    def _service(self, entry: Entry) -> Service:
        service = self._services.get(entry.service)
        if service is None:
            raise BadRequest(f"Unknown service [{entry.service}]")
        return service

    def _check_streams(self, entry: Entry) -> None:
        service = self._service(entry)
        if entry.task_type not in _streaming_tasks(service):
            raise _not_streaming(entry, service)

    def _count(self, entry: Entry, ask: Ask, outcome: Outcome, started: float) -> None:
        metrics, inference_id, task_type = self._metrics, entry.inference_id, entry.task_type
        total_s, queued_s = time.monotonic() - started, ask.receipt.queued_s
        metrics.count_request(inference_id, task_type, dialect=ask.dialect, outcome=outcome)
        metrics.observe(inference_id, task_type, Stage.TOTAL, total_s)
        if queued_s > 0:
            metrics.observe(inference_id, task_type, Stage.QUEUE, queued_s)
        if outcome is Outcome.SUCCESS:
            metrics.observe(inference_id, task_type, Stage.UPSTREAM, max(total_s - queued_s, 0.0))

    def _count_tokens(self, entry: Entry, usage: Usage | None) -> None:
        if usage is not None:
            self._metrics.count_tokens(
                entry.inference_id,
                entry.task_type,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
            )


def _streaming_tasks(service: Service) -> list[TaskType]:
    return [
        task_type
        for task_type in TaskType
        if isinstance(task := service.tasks.get(task_type), HttpTask) and task.decode is not None
    ]


def _not_streaming(entry: Entry, service: Service) -> StreamingNotAllowed:
    supported = ",".join(_streaming_tasks(service))
    if not supported:
        return StreamingNotAllowed(f"Streaming is not allowed for service [{entry.service}].")
    return StreamingNotAllowed(
        f"Streaming is not allowed for service [{entry.service}] and task [{entry.task_type}]. "
        f"Supported tasks: [{supported}]"
    )


def _duration_text(seconds: float) -> str:
    """Write a duration as the wire does: in the largest unit that divides it."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
