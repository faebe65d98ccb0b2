"""The core of a local runner: hand the texts to the engine.

Work that is lost with its worker is sent once more, and a model that does not run is started.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from inferry.concurrency import within
from inferry.core.deployment_settings import deployment_of
from inferry.core.runners.checks import check_result
from inferry.core.runners.runner import Run
from inferry.domain import (
    DenseEmbeddings,
    ElementType,
    Endpoint,
    InferenceRequest,
    LocalResult,
    Ranking,
    Result,
    SparseEmbeddings,
    TaskType,
)
from inferry.errors import BadRequest, InvalidRequest, NotDeployed, WorkerLost
from inferry.protocols import Engine
from inferry.vectors import FloatVector, JsonVector, bit_vector, byte_vector

Start: TypeAlias = Callable[[str], Awaitable[None]]
"""Starts the local model of an endpoint, or joins its start; returns when it runs."""

_MOST_LOSSES = 2
_RESULTS: Mapping[TaskType, type[Result]] = MappingProxyType(
    {
        TaskType.TEXT_EMBEDDING: DenseEmbeddings,
        TaskType.SPARSE_EMBEDDING: SparseEmbeddings,
        TaskType.RERANK: Ranking,
    }
)
_VECTORS: Mapping[ElementType, Callable[[FloatVector], JsonVector]] = MappingProxyType(
    {ElementType.BYTE: byte_vector, ElementType.BIT: bit_vector}
)


def run_local(endpoint: Endpoint, engine: Engine, start: Start) -> Run:
    """Give the runner of an endpoint whose model runs here."""
    inference_id = endpoint.inference_id
    deployment_id = deployment_of(inference_id, endpoint.service_settings)
    finish = _finishing(endpoint)

    async def run(request: InferenceRequest) -> Result:
        texts, query = _texts(request), _query(request)

        async def call() -> LocalResult:
            return await engine.infer(
                deployment_id,
                texts,
                query=query,
                input_type=request.input_type,
                deadline=request.deadline,
            )

        with within(request.deadline):
            result = await persistently(call, deployment_id, partial(start, inference_id))
        return check_result(finish(result), request, dimensions=None)

    return run


async def persistently(
    call: Callable[[], Awaitable[LocalResult]],
    deployment_id: str,
    start: Callable[[], Awaitable[None]],
) -> LocalResult:
    """Call the engine; start what does not run, and once send again what a worker lost."""
    losses = 0
    while True:
        try:
            return await call()
        except NotDeployed:
            await start()
        except WorkerLost as error:
            losses += 1
            if losses == _MOST_LOSSES:
                raise WorkerLost(
                    f"The worker of the deployment [{deployment_id}] ended while it ran the "
                    "request, and so did its successor"
                ) from error


def _finishing(endpoint: Endpoint) -> Callable[[LocalResult], Result]:
    """Give what makes the result of a model that of an endpoint: vectors of its element type."""
    expected = _RESULTS[endpoint.task_type]
    element_type = ElementType(str(endpoint.service_settings.get("element_type", "float")))
    encode = _VECTORS.get(element_type)

    def finish(result: LocalResult) -> Result:
        if not isinstance(result, expected):
            raise BadRequest(
                f"The model that runs the inference endpoint [{endpoint.inference_id}] does not"
                f" match its task type [{endpoint.task_type}]"
            )
        if encode is None or not isinstance(result, DenseEmbeddings):
            return result
        rows = [encode(one) for one in result.vectors if isinstance(one, FloatVector)]
        return replace(result, vectors=tuple(rows), element_type=element_type)

    return finish


def _query(request: InferenceRequest) -> str | None:
    """Give what documents are ranked by, which must be a text."""
    if request.query is None or isinstance(request.query, str):
        return request.query
    raise InvalidRequest("Local models take texts only, not content of other types")


def _texts(request: InferenceRequest) -> list[str]:
    """Give the inputs, which must all be texts."""
    texts = [one for one in request.inputs if isinstance(one, str)]
    if len(texts) != len(request.inputs):
        raise InvalidRequest("Local models take texts only, not content of other types")
    return texts
