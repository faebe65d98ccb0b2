"""The validation call of an endpoint that is created or changed: run it, read what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from inferry.concurrency import within
from inferry.core.definition import in_order
from inferry.domain import (
    ChatChunk,
    Completion,
    Deadline,
    DenseEmbeddings,
    ElementType,
    Endpoint,
    Ranking,
    Result,
    SparseEmbeddings,
    TaskType,
)
from inferry.errors import BadRequest, InferenceError, ValidationCallFailed
from inferry.protocols import Probe
from inferry.service import Task

_EXPECTED: Mapping[TaskType, tuple[type[Result], ...]] = MappingProxyType(
    {
        TaskType.TEXT_EMBEDDING: (DenseEmbeddings,),
        TaskType.EMBEDDING: (DenseEmbeddings,),
        TaskType.SPARSE_EMBEDDING: (SparseEmbeddings,),
        TaskType.RERANK: (Ranking,),
        TaskType.COMPLETION: (Completion,),
        TaskType.CHAT_COMPLETION: (ChatChunk, Completion),
    }
)


async def probed(endpoint: Endpoint, task: Task, probe: Probe, deadline: Deadline) -> Endpoint:
    """Send one small request and give the endpoint with what its answer determines.

    Raises `ValidationCallFailed` with the failure as its cause, `BadRequest` when the answer does
    not fit the settings.
    """
    try:
        with within(deadline):
            result = await probe(endpoint, deadline)
    except InferenceError as error:
        raise ValidationCallFailed(
            "Could not complete inference endpoint creation as validation call to service threw "
            "an exception."
        ) from error
    _check_kind(endpoint.task_type, result)
    if not isinstance(result, DenseEmbeddings):
        return endpoint
    dimensions = _measured(result)
    wanted = endpoint.service_settings.get("dimensions")
    if wanted is not None and wanted != dimensions:
        raise BadRequest(
            f"The retrieved embeddings size [{dimensions}] does not match the size specified in "
            f"the settings [{wanted}]. Please recreate the [{endpoint.inference_id}] configuration "
            "with the correct dimensions"
        )
    settings = {**endpoint.service_settings, "dimensions": dimensions}
    return replace(endpoint, service_settings=in_order(settings, task))


def _check_kind(task_type: TaskType, result: Result) -> None:
    expected = _EXPECTED[task_type]
    if not isinstance(result, expected):
        # No blank after the full stop: callers compare the text.
        raise BadRequest(
            "Validation call did not return expected results type.Expected a result of type "
            f"[{expected[0].__name__}] got [{type(result).__name__}]"
        )


def _measured(embeddings: DenseEmbeddings) -> int:
    width = embeddings.vectors[0].width if embeddings.vectors else 0
    if width == 0:
        raise BadRequest("Could not determine embedding size")
    return width * 8 if embeddings.element_type is ElementType.BIT else width
