"""The endpoints that exist without anybody having made them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferry.core.endpoint_json import encode_item
from inferry.core.preconfigured import RESERVED_IDS, preconfigured_endpoints
from inferry.domain import Origin

CHUNKING = {"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1}
ALLOCATIONS = {
    "enabled": True,
    "min_number_of_allocations": 0,
    "max_number_of_allocations": 32,
}


def items(cores: int = 2) -> dict[str, dict[str, Any]]:
    encoded = [msgspec.json.decode(encode_item(one)) for one in preconfigured_endpoints(cores)]
    return {item["inference_id"]: item for item in encoded}


def test_row_24_their_settings_are_those_of_the_wire() -> None:
    assert items()[".elser-2-elasticsearch"] == {
        "inference_id": ".elser-2-elasticsearch",
        "task_type": "sparse_embedding",
        "service": "elasticsearch",
        "service_settings": {
            "num_threads": 1,
            "model_id": ".elser_model_2_linux-x86_64",
            "adaptive_allocations": ALLOCATIONS,
        },
        "chunking_settings": CHUNKING,
    }
    assert items()[".rerank-v1-elasticsearch"] == {
        "inference_id": ".rerank-v1-elasticsearch",
        "task_type": "rerank",
        "service": "elasticsearch",
        "service_settings": {
            "num_threads": 1,
            "model_id": ".rerank-v1",
            "adaptive_allocations": ALLOCATIONS,
        },
        "task_settings": {"return_documents": True},
    }
    e5 = items()[".multilingual-e5-small-elasticsearch"]
    assert e5["service_settings"]["model_id"] == ".multilingual-e5-small_linux-x86_64"


@pytest.mark.parametrize(
    ("cores", "threads"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (48, 32), (192, 32)]
)
def test_the_demo_model_uses_a_power_of_two_of_the_cores(cores: int, threads: int) -> None:
    assert items(cores)[".minilm-l6-v2"] == {
        "inference_id": ".minilm-l6-v2",
        "task_type": "text_embedding",
        "service": "elasticsearch",
        "service_settings": {
            "num_allocations": 1,
            "num_threads": threads,
            "model_id": ".all-minilm-l6-v2",
        },
        "chunking_settings": CHUNKING,
    }


def test_they_are_exactly_the_reserved_ids() -> None:
    assert set(items()) == RESERVED_IDS
    assert {one.origin for one in preconfigured_endpoints()} == {Origin.PRECONFIGURED}
