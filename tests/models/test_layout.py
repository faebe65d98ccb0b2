"""Which modules a folder has, and what task they amount to."""

from __future__ import annotations

import json

import pytest

from inferry.domain import TaskType
from inferry.errors import UnusableModel
from inferry.modeling import ModelSource
from inferry.models.folder import ModelFolder
from inferry.models.layout import read_layout, task_of
from tests.models.folders import (
    write_classifier,
    write_json,
    write_masked_lm,
    write_model,
    write_router,
    write_splade,
)

DENSE, SPARSE, RERANK = TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING, TaskType.RERANK


def task(top, asked: TaskType | None = None) -> TaskType:
    folder = ModelFolder(ModelSource("demo", top))
    return task_of(folder, read_layout(folder), ModelSource("demo", top, task_type=asked))


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (write_model, DENSE),
        (write_splade, SPARSE),
        (write_router, SPARSE),
        (write_classifier, RERANK),
        (write_masked_lm, DENSE),
    ],
)
def test_a_folder_tells_what_it_is_for(tmp_path, write, expected):
    assert task(write(tmp_path)) is expected


def test_a_masked_language_model_is_sparse_where_that_is_asked(tmp_path):
    assert task(write_masked_lm(tmp_path), SPARSE) is SPARSE


@pytest.mark.parametrize(
    ("write", "kind", "asked"),
    [
        (write_model, "text_embedding", SPARSE),
        (write_model, "text_embedding", RERANK),
        (write_splade, "text_expansion", DENSE),
        (write_classifier, "text_similarity", DENSE),
    ],
)
def test_another_task_than_is_asked_is_refused(tmp_path, write, kind, asked):
    with pytest.raises(UnusableModel) as caught:
        task(write(tmp_path), asked)

    assert str(caught.value) == (
        f"Deployed model [demo] with type [{kind}] does not match the requested task type [{asked}]"
    )


def test_searches_of_a_router_are_looked_up(tmp_path):
    layout = read_layout(ModelFolder(ModelSource("demo", write_router(tmp_path))))

    assert [module.kind for module in layout.modules] == ["Transformer", "SpladePooling"]
    assert layout.table is not None
    assert layout.table.path == "query_0_SparseStaticEmbedding"


@pytest.mark.parametrize(
    "change",
    [
        {"query": ["document_0_Transformer", "document_1_SpladePooling"]},
        {"document": ["query_0_SparseStaticEmbedding"]},
        {"document": []},
    ],
)
def test_other_routes_are_refused(tmp_path, change):
    write_router(tmp_path)
    routes = json.loads((tmp_path / "router_config.json").read_text())
    routes["structure"] |= change
    write_json(tmp_path / "router_config.json", routes)

    with pytest.raises(UnusableModel, match=r"\[router_config.json\] has other routes"):
        read_layout(ModelFolder(ModelSource("demo", tmp_path)))


def test_a_route_names_modules_that_there_are(tmp_path):
    write_router(tmp_path)
    routes = json.loads((tmp_path / "router_config.json").read_text())
    del routes["types"]["query_0_SparseStaticEmbedding"]
    write_json(tmp_path / "router_config.json", routes)

    with pytest.raises(UnusableModel, match=r"does not tell the type of \[query_0_Sparse"):
        read_layout(ModelFolder(ModelSource("demo", tmp_path)))
