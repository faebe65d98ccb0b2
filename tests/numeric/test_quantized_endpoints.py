"""Endpoints on models of 8-bit integers beside those that they were made of, over HTTP.

The tolerance is that of `test_quantization`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from inferry.config import load_config
from inferry.domain import TaskType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.models.collection import open_collection
from inferry.models.graphs.quantized import Nncf
from inferry.models.quantization import Recipe
from tests.numeric.random_models import randomized, with_tokenizer
from tests.numeric.test_quantization import ARCHITECTURES, LEAST_COSINE, SAMPLE, SETTINGS
from tests.server import Server, run_server
from tests.texts import real_texts

TEXTS = [" ".join(text.split())[:300] for text in real_texts(200)[150:]]
MODELS = {"dense": TaskType.TEXT_EMBEDDING, "ranker": TaskType.RERANK}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Any:
    """Quantize a model of each kind, and run a server with endpoints on all four, called alike."""
    torch.set_num_threads(1)
    top = tmp_path_factory.mktemp("quantized")
    config = load_config({"server.data_dir": "data"}, environment={}, working_directory=top).config
    collection = open_collection(config, {})
    for name, task_type in MODELS.items():
        more = {"num_labels": 1} if task_type is TaskType.RERANK else {}
        model = randomized(ARCHITECTURES[task_type], transformers.BertConfig, SETTINGS, **more)
        model.save_pretrained(with_tokenizer(top / name))
        collection.add(name, top / name)
        recipe = Recipe(Nncf(name), OpenVino())
        collection.quantize(name, f"{name}-int8", SAMPLE, recipe)
    environment = {"INFERRY_ENGINE__PRECISION": "f32"}
    with run_server(top / "data", environment=environment) as running:
        for name, task_type in MODELS.items():
            for model_id in (name, f"{name}-int8"):
                put(running, task_type, model_id)
        yield running


def put(server: Server, task_type: TaskType, model_id: str) -> None:
    settings = {"model_id": model_id, "num_allocations": 1, "num_threads": 1}
    body = {"service": "elasticsearch", "service_settings": settings}
    reply = server.call("PUT", f"/_inference/{task_type}/{model_id}-endpoint", body)
    assert reply.status == 200, reply.content


def run(server: Server, name: str, body: Any) -> Any:
    reply = server.call("POST", f"/_inference/{name}-endpoint", body)
    assert reply.status == 200, reply.content
    return reply.json


def embed(server: Server, name: str) -> Any:
    rows = run(server, name, {"input": TEXTS, "input_type": "ingest"})["text_embedding"]
    return np.array([row["embedding"] for row in rows])


def score(server: Server, name: str) -> Any:
    found = run(server, name, {"input": TEXTS, "query": "How are returned goods refunded?"})
    rows = sorted(found["rerank"], key=lambda row: int(row["index"]))
    return np.array([row["relevance_score"] for row in rows])


def test_embeddings_are_those_of_the_model_at_f32_but_for_rounding(server):
    exact, quantized = embed(server, "dense"), embed(server, "dense-int8")

    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(quantized, axis=1)
    cosines = np.sum(exact * quantized, axis=1) / lengths
    assert LEAST_COSINE <= cosines.min() < cosines.max() < 1


def test_documents_are_ranked_as_at_f32_but_for_rounding(server):
    exact, quantized = score(server, "ranker"), score(server, "ranker-int8")

    assert not np.array_equal(exact, quantized)
    assert np.abs(exact - quantized).max() < np.ptp(exact) / 2
    assert np.corrcoef(exact, quantized)[0, 1] > 0.9


@pytest.mark.parametrize("name", MODELS)
def test_stats_tell_the_two_apart(server, name):
    def arithmetic(model_id: str) -> Any:
        reply = server.call("GET", f"/_ml/trained_models/{model_id}/_stats")
        (row,) = reply.json["trained_model_stats"]
        return row["deployment_stats"]["inferry_arithmetic"]

    quantized = arithmetic(f"{name}-int8")
    assert quantized["precision"] == "int8"
    assert LEAST_COSINE <= quantized["cosine"] < 1
    assert arithmetic(name) == {"precision": "f32"}
