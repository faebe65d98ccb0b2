"""Uploaded modules behind endpoints of a real server, from the upload to the answer."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
import transformers

from tests.numeric.modules import random_model, saved, trace
from tests.numeric.test_modules import BERT, TEXTS
from tests.server import run_server

PART_BYTES = 40_000
CLOSE = 1e-5


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("uploaded")
    with run_server(root / "data", environment={"INFERRY_ENGINE__PRECISION": "f32"}) as running:
        yield running


def upload(
    server,
    model_id,
    module,
    task,
    *,
    config=None,
    prefixes=None,
    part_bytes=PART_BYTES,
    vocabulary=BERT,
    vocabulary_first=False,
    **tokenization,
):
    """Send a model as `eland` does: configuration, parts, vocabulary."""
    path = f"/_ml/trained_models/{model_id}"
    settings = {"tokenization": {"bert": tokenization}, **(config or {})}
    body = {"model_type": "pytorch", "inference_config": {task: settings}}
    if prefixes:
        body["prefix_strings"] = prefixes
    assert server.call("PUT", path, body).status == 200
    if vocabulary_first:
        assert server.call("PUT", f"{path}/vocabulary", vocabulary).status == 200
    parts = [module[at : at + part_bytes] for at in range(0, len(module), part_bytes)]
    for number, part in enumerate(parts):
        sent = {
            "definition": base64.b64encode(part).decode(),
            "total_definition_length": len(module),
            "total_parts": len(parts),
        }
        assert server.call("PUT", f"{path}/definition/{number}", sent).status == 200
    if not vocabulary_first:
        assert server.call("PUT", f"{path}/vocabulary", vocabulary).status == 200


def put_endpoint(server, inference_id, model_id, task_type):
    settings = {"model_id": model_id, "num_allocations": 1, "num_threads": 1}
    return server.call(
        "PUT",
        f"/_inference/{task_type}/{inference_id}?timeout=120s",
        {"service": "elasticsearch", "service_settings": settings},
    )


def reference(model, text, **given):
    """Ask the model in Python, with our ids and positions as an upload has them."""
    ids = transformers.BertTokenizer(
        vocab={word: number for number, word in enumerate(BERT["vocabulary"])}, do_lower_case=True
    )(text, **given)["input_ids"]
    with torch.inference_mode():
        tensor = torch.tensor([ids])
        types = torch.zeros_like(tensor)
        return model(input_ids=tensor, token_type_ids=types)


def test_local_row_001_an_uploaded_encoder_embeds_as_the_python_model(server):
    model = random_model(transformers.BertModel, transformers.BertConfig, len(BERT["vocabulary"]))
    module = trace(model, inputs=4, pick=lambda found: found[0][:, 0])
    prefixes = {"search": "who ", "ingest": ""}
    limits = {"do_lower_case": True, "max_sequence_length": 128}
    upload(server, "encoder", module, "text_embedding", prefixes=prefixes, **limits)

    created = put_endpoint(server, "embed", "encoder", "text_embedding")
    embedded = server.call("POST", "/_inference/text_embedding/embed", {"input": TEXTS[:3]})
    searched = server.call(
        "POST", "/_inference/text_embedding/embed", {"input": "is he", "input_type": "search"}
    )

    assert created.status == 200, created.content
    assert created.json["service_settings"]["dimensions"] == 32
    for text, found in zip(TEXTS, embedded.json["text_embedding"], strict=False):
        expected = reference(model, text).last_hidden_state[0, 0].numpy()
        np.testing.assert_allclose(found["embedding"], expected, atol=CLOSE)
    expected = reference(model, "who is he").last_hidden_state[0, 0].numpy()
    found = searched.json["text_embedding"][0]["embedding"]
    np.testing.assert_allclose(found, expected, atol=CLOSE)


def test_local_row_001_an_uploaded_language_model_gives_weights_as_the_python_model(server):
    model = random_model(
        transformers.BertForMaskedLM, transformers.BertConfig, len(BERT["vocabulary"])
    )
    limits = {"do_lower_case": True, "max_sequence_length": 128}
    upload(server, "expander", trace(model, inputs=4), "text_expansion", **limits)

    created = put_endpoint(server, "expand", "expander", "sparse_embedding")
    found = server.call("POST", "/_inference/sparse_embedding/expand", {"input": TEXTS[0]})

    assert created.status == 200, created.content
    weights = found.json["sparse_embedding"][0]["embedding"]
    logits = reference(model, TEXTS[0]).logits[0].numpy()
    row = np.log1p(np.maximum(logits.max(axis=0), 0))
    expected = {BERT["vocabulary"][n].replace(".", "__"): row[n] for n in np.nonzero(row)[0]}
    assert weights == pytest.approx(expected, abs=CLOSE)


def test_local_row_001_an_uploaded_cross_encoder_ranks_as_the_python_model(server):
    model = random_model(
        transformers.BertForSequenceClassification,
        transformers.BertConfig,
        len(BERT["vocabulary"]),
        num_labels=1,
    )
    limits = {"do_lower_case": True, "max_sequence_length": 128, "truncate": "second"}
    upload(server, "ranker", trace(model, inputs=4), "text_similarity", **limits)

    created = put_endpoint(server, "rank", "ranker", "rerank")
    documents = list(TEXTS[:3])
    body = {"query": "who is he", "input": documents}
    found = server.call("POST", "/_inference/rerank/rank", body)

    assert created.status == 200, created.content
    scores = {one["index"]: one["relevance_score"] for one in found.json["rerank"]}
    for number, text in enumerate(documents):
        expected = float(reference(model, "who is he", text_pair=text).logits[0, 0])
        assert scores[number] == pytest.approx(expected, abs=CLOSE)


class Drawn(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """A vector that is drawn at random, by ids that seed the draw: no graph can do that."""

    def forward(
        self,
        input_ids: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        torch.manual_seed(hash(str(input_ids)))
        return torch.rand(1, 100)


class Present(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """A weight for each token that is there, in a row that ends with the highest id."""

    def forward(
        self,
        input_ids: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        weights = torch.zeros(1, int(input_ids.max()) + 1)
        for place in input_ids:
            weights[0][place] = 1.0
        return weights


FEW = {"vocabulary": ["[PAD]", "[UNK]", *BERT["vocabulary"][5:17]]}


def seen_by(module, text):
    """Ask a hand-made module itself."""
    ids = torch.tensor([[FEW["vocabulary"].index(word) for word in text.split()]])
    return module(ids)[0]


@pytest.mark.parametrize("vocabulary_first", [True, False])
def test_local_row_002_a_hand_made_dense_module_embeds_as_it_does_itself(server, vocabulary_first):
    model_id = f"drawn-{vocabulary_first}".lower()
    module = torch.jit.script(Drawn())
    whole = saved(module)
    how = {"vocabulary": FEW, "vocabulary_first": vocabulary_first, "with_special_tokens": False}
    upload(server, model_id, whole, "text_embedding", part_bytes=len(whole), **how)

    created = put_endpoint(server, f"on-{model_id}", model_id, "text_embedding")
    texts = ["the of and to", "in", "the of"]
    body = {"input": texts}
    reply = server.call("POST", f"/_inference/text_embedding/on-{model_id}", body)

    assert created.status == 200, created.content
    assert created.json["service_settings"]["dimensions"] == 100
    for text, found in zip(texts, reply.json["text_embedding"], strict=True):
        expected = seen_by(module, text).numpy()
        np.testing.assert_allclose(found["embedding"], expected, atol=CLOSE)


@pytest.mark.parametrize("vocabulary_first", [True, False])
def test_local_row_002_a_hand_made_sparse_module_weighs_as_it_does_itself(server, vocabulary_first):
    model_id = f"present-{vocabulary_first}".lower()
    module = torch.jit.script(Present())
    whole = saved(module)
    how = {"vocabulary": FEW, "vocabulary_first": vocabulary_first, "with_special_tokens": False}
    upload(server, model_id, whole, "text_expansion", part_bytes=len(whole), **how)

    created = put_endpoint(server, f"on-{model_id}", model_id, "sparse_embedding")
    texts = ["the of and to", "in", "the of"]
    reply = server.call("POST", f"/_inference/sparse_embedding/on-{model_id}", {"input": texts})

    assert created.status == 200, created.content
    for text, found in zip(texts, reply.json["sparse_embedding"], strict=True):
        row = seen_by(module, text)
        expected = {FEW["vocabulary"][n]: float(row[n]) for n in range(len(row)) if row[n] > 0}
        assert found["embedding"] == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize(
    ("task_type", "fragment"),
    [
        ("rerank", "with type [text_embedding] does not match the requested task type [rerank]"),
        ("sparse_embedding", "does not match the requested task type [sparse_embedding]"),
    ],
)
def test_a_module_for_another_task_is_refused_before_it_starts(server, task_type, fragment):
    refused = put_endpoint(server, "mismatch", "encoder", task_type)

    assert refused.status == 400
    assert fragment in refused.json["error"]["reason"]


def test_a_definition_that_is_no_module_is_refused_and_leaves_no_endpoint(server):
    upload(server, "broken", b"no archive" * 10, "text_embedding")

    refused = put_endpoint(server, "broken-endpoint", "broken", "text_embedding")

    assert refused.status == 400
    assert "is no TorchScript archive" in refused.json["error"]["reason"]
    assert server.call("GET", "/_inference/broken-endpoint").status == 404
    assert server.call("DELETE", "/_ml/trained_models/broken").status == 200


def test_a_model_in_use_is_not_deleted_and_goes_with_all_it_left(server):
    refused = server.call("DELETE", "/_ml/trained_models/encoder")
    server.call("DELETE", "/_inference/embed")
    deleted = server.call("DELETE", "/_ml/trained_models/encoder")

    assert refused.status == 409
    assert "currently deployed" in refused.json["error"]["reason"]
    assert deleted.status == 200
    assert not (server.data_dir / "models" / "uploads" / "encoder").exists()
