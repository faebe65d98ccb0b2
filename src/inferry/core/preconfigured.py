"""The endpoints that exist without anybody having made them.

They stand in every list from the first start and have no row in the store. Nobody can create an
endpoint under their ids.
"""

from __future__ import annotations

import os
from typing import Any

from inferry.core.chunking import DEFAULT_CHUNKING
from inferry.domain import Origin, TaskType
from inferry.records import EndpointRecord

RESERVED_IDS = frozenset(
    {
        ".elser-2-elasticsearch",
        ".multilingual-e5-small-elasticsearch",
        ".rerank-v1-elasticsearch",
        ".minilm-l6-v2",
    }
)

_SERVICE = "elasticsearch"
_MAX_THREADS = 32
_PLATFORM = "_linux-x86_64"

ELSER_MODEL_ID = f".elser_model_2{_PLATFORM}"


def preconfigured_endpoints(cores: int | None = None) -> list[EndpointRecord]:
    """Give the endpoints of `RESERVED_IDS`. cores: of this machine, counted when None."""
    return [
        _adaptive(".elser-2-elasticsearch", TaskType.SPARSE_EMBEDDING, ELSER_MODEL_ID),
        _demo(cores or os.cpu_count() or 1),
        _adaptive(
            ".multilingual-e5-small-elasticsearch",
            TaskType.TEXT_EMBEDDING,
            f".multilingual-e5-small{_PLATFORM}",
        ),
        _adaptive(
            ".rerank-v1-elasticsearch",
            TaskType.RERANK,
            ".rerank-v1",
            task_settings={"return_documents": True},
        ),
    ]


def _adaptive(
    inference_id: str,
    task_type: TaskType,
    model_id: str,
    task_settings: dict[str, Any] | None = None,
) -> EndpointRecord:
    allocations = {
        "enabled": True,
        "min_number_of_allocations": 0,
        "max_number_of_allocations": 32,
    }
    return _record(
        inference_id,
        task_type,
        {"num_threads": 1, "model_id": model_id, "adaptive_allocations": allocations},
        task_settings or {},
    )


def _demo(cores: int) -> EndpointRecord:
    threads = min(1 << (cores.bit_length() - 1), _MAX_THREADS)
    settings = {"num_allocations": 1, "num_threads": threads, "model_id": ".all-minilm-l6-v2"}
    return _record(".minilm-l6-v2", TaskType.TEXT_EMBEDDING, settings, {})


def _record(
    inference_id: str,
    task_type: TaskType,
    service_settings: dict[str, Any],
    task_settings: dict[str, Any],
) -> EndpointRecord:
    return EndpointRecord(
        inference_id=inference_id,
        task_type=task_type,
        service=_SERVICE,
        service_settings=service_settings,
        task_settings=task_settings,
        chunking_settings=dict(DEFAULT_CHUNKING) if task_type.is_chunkable else None,
        origin=Origin.PRECONFIGURED,
    )
