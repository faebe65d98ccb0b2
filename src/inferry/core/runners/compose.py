"""Puts the runner of an endpoint together, once per revision of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from inferry.core.deployment_settings import deployment_of
from inferry.core.reserve import reserve_ends_at, split_reserve
from inferry.core.runners.cache import EmbeddingCache, cached
from inferry.core.runners.limit import Limit
from inferry.core.runners.local import Start, run_local
from inferry.core.runners.pending import PendingBytes
from inferry.core.runners.reserve import Reserve
from inferry.core.runners.runner import Run, Runners, Stream
from inferry.core.runners.send import Sender
from inferry.core.runners.split import split
from inferry.core.runners.truncate import cut_to_tokens, mark_truncated
from inferry.domain import Endpoint, InferenceRequest, Result
from inferry.protocols import Engine, Limiter, Outbound
from inferry.service import HttpTask, LocalTask, Service

Compose: TypeAlias = Callable[[Endpoint, Service, HttpTask], Runners]
"""`compose` with what a process has."""

ComposeLocal: TypeAlias = Callable[[Endpoint, Service, LocalTask], Runners]
"""`compose_local` with what a process has."""


def compose(
    endpoint: Endpoint,
    service: Service,
    task: HttpTask,
    *,
    outbound: Outbound,
    limiter: Limiter,
    count: Callable[[str, int | None], None],
    cache: EmbeddingCache | None = None,
    pending: PendingBytes | None = None,
) -> Runners:
    """Give `cache(pending(truncate(split(limit(send)))))` and `pending(limit(stream))`.

    endpoint: with its secrets. count: told the service and the status of every answer, None when
    there was none. cache: for embeddings; None keeps none. pending: bounds what waits, None for no
    bound.
    """
    group = group_of(endpoint, service)
    dimensions = endpoint.service_settings.get("dimensions")
    current, former = split_reserve(endpoint.secrets)
    reserve = Reserve(endpoint.inference_id, reserve_ends_at(endpoint.secrets))
    endpoint = replace(endpoint, secrets=current)
    send = partial(
        Sender,
        service=service,
        task=task,
        outbound=outbound,
        group=group,
        count=partial(count, service.name),
        dimensions=dimensions if isinstance(dimensions, int) else None,
    )
    sender = send(endpoint)
    run: Run = sender.run
    stream: Stream | None = sender.stream if task.decode is not None else None
    if former:
        spare = send(replace(endpoint, secrets=former))
        run = reserve.run(run, spare.run)
        stream = reserve.stream(stream, spare.stream) if stream is not None else None
    rate = requests_per_minute(endpoint, service, task)
    if rate is not None:
        limit = Limit(limiter, group, rate)
        run = limit.run(run)
        stream = limit.stream(stream) if stream is not None else None
    run = split(run, max_batch=task.batch_size(endpoint), max_tokens=task.max_tokens)
    run = _truncated(run, endpoint)
    if pending is not None:
        run = pending.run(run)
        stream = pending.stream(stream) if stream is not None else None
    if cache is not None and endpoint.task_type.is_chunkable:
        run = cached(run, endpoint, cache)
    return Runners(endpoint, service, task, run, stream)


def compose_local(
    endpoint: Endpoint,
    service: Service,
    task: LocalTask,
    *,
    engine: Engine,
    start: Start,
    cache: EmbeddingCache | None = None,
) -> Runners:
    """Give `cache(local)` of an endpoint whose model runs here. start: of models that do not."""
    run = run_local(endpoint, engine, start)
    if cache is not None and endpoint.task_type.is_chunkable:
        deployment_id = deployment_of(endpoint.inference_id, endpoint.service_settings)
        run = cached(run, endpoint, cache, deployment_id=deployment_id)
    return Runners(endpoint, service, task, run, None)


def compose_probe(
    endpoint: Endpoint, service: Service, task: HttpTask, *, outbound: Outbound
) -> Run:
    """Give a runner for one small call of an endpoint that is not stored yet.

    It neither waits for a permit nor checks the width, which is what it finds out.
    """
    return Sender(
        endpoint,
        service,
        task,
        outbound=outbound,
        group=group_of(endpoint, service),
        count=lambda _: None,
        dimensions=None,
    ).run


def group_of(endpoint: Endpoint, service: Service) -> str:
    """Give the rate-limit group of an endpoint: that of its account, else its own."""
    if service.group is not None:
        return service.group(endpoint)
    return f"{service.name}:{endpoint.inference_id}"


def requests_per_minute(endpoint: Endpoint, service: Service, task: HttpTask) -> float | None:
    """Give the limit of an endpoint, stored or by default; None where there is none."""
    stored = endpoint.service_settings.get("rate_limit")
    if isinstance(stored, dict):
        limit = stored.get("requests_per_minute")
        if isinstance(limit, int | float):
            return float(limit)
    return task.requests_per_minute or service.requests_per_minute


def _truncated(run: Run, endpoint: Endpoint) -> Run:
    max_tokens = endpoint.service_settings.get("max_input_tokens")
    if not isinstance(max_tokens, int) or not endpoint.task_type.is_chunkable:
        return run

    async def run_truncated(request: InferenceRequest) -> Result:
        request, cut = cut_to_tokens(request, max_tokens)
        result = await run(request)
        return mark_truncated(result, cut) if cut else result

    return run_truncated
