"""Local models over the wire: what their endpoints answer, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.models.folders import (
    write_classifier,
    write_masked_lm,
    write_model,
    write_router,
    write_splade,
)
from tests.server import Reply, run_server
from tests.wire.conftest import Wire, new_id

ONE = {"num_allocations": 1, "num_threads": 1}


@pytest.fixture(scope="module")
def house(tmp_path_factory, provider) -> Iterator[Wire]:
    """Run a server that has a model of every kind."""
    top = tmp_path_factory.mktemp("local")
    models = top / "models"
    write_model(models / "dense")
    write_splade(models / "sparse")
    write_router(models / "routed")
    write_masked_lm(models / "masked")
    write_classifier(models / "ranker")
    environment = {
        "INFERRY_MODELS__ALIASES__.elser_model_2": str(models / "sparse"),
        "INFERRY_MODELS__PATH": str(models),
        "INFERRY_MODELS__ALLOW_DOWNLOAD": "never",
    }
    with run_server(top / "data", auth=True, environment=environment) as server:
        yield Wire(server, provider)


def put(house: Wire, task_type: str, model_id: str, **more: Any) -> Reply:
    inference_id = more.pop("inference_id", None) or new_id("local")
    body = {"service": "elasticsearch"} | more.pop("body", {})
    body["service_settings"] = {"model_id": model_id, **ONE, **more}
    return house.put(f"/_inference/{task_type}/{inference_id}", body)


def created(house: Wire, task_type: str, model_id: str, **more: Any) -> str:
    reply = put(house, task_type, model_id, **more)
    assert reply.status == 200, reply.content
    return str(reply.json["inference_id"])


@pytest.fixture(scope="module")
def dense(house) -> str:
    return created(house, "text_embedding", "dense")


@pytest.fixture(scope="module")
def sparse(house) -> str:
    return created(house, "sparse_embedding", "sparse")


@pytest.fixture(scope="module")
def ranker(house) -> str:
    return created(house, "rerank", "ranker")


# --- sparse ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_id", ["sparse", "masked"])
def test_sparse_weights_are_sorted_and_tell_what_was_cut(house, model_id):
    inference_id = created(house, "sparse_embedding", model_id)

    reply = house.post(f"/_inference/{inference_id}", {"input": ["hello", "a " * 100]})

    items = reply.json["sparse_embedding"]
    assert [item["is_truncated"] for item in items] == [False, True]
    assert reply.headers["x-inferry-truncated"] == "1"
    for item in items:
        weights = list(item["embedding"].values())
        assert weights == sorted(weights, reverse=True)
        assert min(weights) > 0
        assert not any("." in token for token in item["embedding"])


def test_local_row_012_queries_of_a_router_are_looked_up(house):
    inference_id = created(house, "sparse_embedding", "routed")
    path = f"/_inference/{inference_id}"

    search = house.post(path, {"input": "ba b", "input_type": "search"})
    document = house.post(path, {"input": "ba b", "input_type": "ingest"})

    assert search.json["sparse_embedding"][0]["embedding"] == {"##a": 41.0, "b": 6.0}
    assert document.json["sparse_embedding"][0]["embedding"] != {"##a": 41.0, "b": 6.0}


def test_the_settings_of_a_sparse_endpoint_are_what_was_given(house, sparse):
    answer = house.get(f"/_inference/{sparse}").json

    assert answer["service_settings"] == {**ONE, "model_id": "sparse"}
    assert answer["task_settings"] == {}


def test_the_older_service_is_stored_under_its_name(house):
    inference_id = new_id("elser")
    body = {"service": "elser", "service_settings": {**ONE, "model_id": "sparse"}}

    reply = house.put(f"/_inference/sparse_embedding/{inference_id}", body)

    assert reply.json["service"] == "elser"
    run = house.post(f"/_inference/sparse_embedding/{inference_id}", {"input": "hello"})
    assert run.json["sparse_embedding"][0]["embedding"]


@pytest.mark.parametrize(("model_id", "warns"), [("sparse", False), (None, True)])
def test_the_older_service_warns_where_it_has_to_choose_the_model(house, model_id, warns):
    settings = {**ONE} if model_id is None else {**ONE, "model_id": model_id}
    body = {"service": "elser", "service_settings": settings}

    reply = house.put(f"/_inference/sparse_embedding/{new_id('elser')}", body)

    assert reply.status == 200
    assert reply.json["service_settings"] == settings
    assert ("warning" in reply.headers) is warns
    if warns:
        assert reply.headers["warning"].startswith("299 Elasticsearch-9.5")
        assert "[model_id] set to [.elser_model_2" in reply.headers["warning"]


def test_the_model_tells_the_task_where_the_path_does_not(house):
    body = {"service": "elasticsearch", "service_settings": {**ONE, "model_id": "ranker"}}

    reply = house.put(f"/_inference/{new_id('untyped')}", body)

    assert reply.json["task_type"] == "rerank"


# --- rerank ------------------------------------------------------------------------------------


def test_documents_are_ranked(house, ranker):
    body = {"query": "hello", "input": ["one", "two", "three"]}

    ranked = house.post(f"/_inference/rerank/{ranker}", body).json["rerank"]

    scores = [one["relevance_score"] for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert sorted(one["index"] for one in ranked) == [0, 1, 2]
    assert {one["index"]: one["text"] for one in ranked} == {0: "one", 1: "two", 2: "three"}


@pytest.mark.parametrize(
    ("stored", "asked", "root", "has_text"),
    [
        (None, None, None, True),
        (False, None, None, False),
        (False, True, None, True),
        (True, False, None, False),
        (False, False, True, True),
        (True, True, False, False),
    ],
)
def test_documents_are_returned_by_root_then_request_then_stored(
    house, stored, asked, root, has_text
):
    settings = {} if stored is None else {"task_settings": {"return_documents": stored}}
    inference_id = created(house, "rerank", "ranker", body=settings)
    body: dict[str, Any] = {"query": "q", "input": ["one", "two"], "top_n": 1}
    if asked is not None:
        body["task_settings"] = {"return_documents": asked}
    if root is not None:
        body["return_documents"] = root

    ranked = house.post(f"/_inference/rerank/{inference_id}", body).json["rerank"]

    assert len(ranked) == 1
    assert ("text" in ranked[0]) is has_text


def test_documents_are_cut_and_not_split(house):
    reply = put(house, "rerank", "ranker", long_document_strategy="chunk", inference_id="never")

    text = "[long_document_strategy] cannot be [chunk] in this version of the server"
    house.refused(400, "validation_exception", text, reply)


def test_a_query_that_leaves_no_room_is_a_bad_request(house, ranker):
    body = {"query": "a " * 100, "input": ["one"]}

    reply = house.post(f"/_inference/rerank/{ranker}", body)

    house.refused(400, "illegal_argument_exception", "too large for the first sequence", reply)


# --- dense -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("element_type", "root", "width", "similarity"),
    [("byte", "text_embedding_bytes", 16, "cosine"), ("bit", "text_embedding_bits", 2, "l2_norm")],
)
def test_vectors_of_bytes_and_bits(house, element_type, root, width, similarity):
    inference_id = created(house, "text_embedding", "dense", element_type=element_type)

    (item,) = house.post(f"/_inference/{inference_id}", {"input": "hello"}).json[root]

    settings = house.get(f"/_inference/{inference_id}").json["service_settings"]
    assert settings["dimensions"] == 16
    assert (settings["element_type"], settings["similarity"]) == (element_type, similarity)
    assert len(item["embedding"]) == width
    assert all(isinstance(one, int) and -128 <= one <= 127 for one in item["embedding"])


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_type", "model_id", "kind"),
    [
        ("rerank", "dense", "text_embedding"),
        ("sparse_embedding", "ranker", "text_similarity"),
        ("text_embedding", "sparse", "text_expansion"),
    ],
)
def test_a_model_of_another_task_is_refused(house, task_type, model_id, kind):
    reply = put(house, task_type, model_id, inference_id="never")

    text = (
        f"Deployed model [{model_id}] with type [{kind}] does not match the requested task type "
        f"[{task_type}]"
    )
    house.refused(400, "status_exception", text, reply)
    assert house.get("/_inference/never").status == 404


@pytest.mark.parametrize("task_type", ["sparse_embedding", "rerank"])
def test_the_openai_dialect_embeds_with_dense_models_only(house, request, task_type):
    inference_id = request.getfixturevalue({"rerank": "ranker"}.get(task_type, "sparse"))

    reply = house.post("/v1/embeddings", {"model": inference_id, "input": "hello"})

    assert reply.status in (400, 404)
    assert task_type in reply.json["error"]["message"]
