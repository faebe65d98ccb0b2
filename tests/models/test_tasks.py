"""Models that give weights of tokens, or scores of pairs, loaded and run."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np
import pytest

from inferry.domain import InputType, TaskType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.errors import BadRequest, IllegalArgument, UnusableModel
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.models.text_model import FolderModel, load_model
from tests.models.folders import (
    write_classifier,
    write_json,
    write_masked_lm,
    write_model,
    write_router,
    write_splade,
)

TEXTS = ("a", "", "hello world", "one two 3 four 5 six seven", "z" * 10)


def load(top, *, precision: Any = "f32", **more) -> FolderModel:
    options = RuntimeOptions(precision=precision)
    return load_model(ModelSource("demo", top, **more), options, runtime=OpenVino())


def weights(model, *texts, input_type=InputType.INGEST) -> list[dict[str, float]]:
    answers = model.run(model.encode(texts, input_type))
    return [msgspec.msgpack.decode(answer, type=dict[str, float]) for answer in answers]


def scores(model, query, *documents) -> list[float]:
    answers = model.run(model.encode(documents, InputType.UNSPECIFIED, query))
    return [struct.unpack("<d", answer)[0] for answer in answers]


# --- sparse ------------------------------------------------------------------------------------


def test_a_text_becomes_weights_of_tokens(tmp_path):
    model = load(write_splade(tmp_path))

    (found,) = weights(model, "hello world")

    assert model.task_type is TaskType.SPARSE_EMBEDDING
    assert model.dimensions is None
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert min(found.values()) > 0


def test_weights_do_not_depend_on_what_else_is_in_the_batch(tmp_path):
    model = load(write_splade(tmp_path))

    together = weights(model, *TEXTS)

    for text, found in zip(TEXTS, together, strict=True):
        assert found == pytest.approx(weights(model, text)[0], abs=1e-5)


def test_the_first_and_the_best_logit_are_the_same_for_the_maximum(tmp_path):
    highest = load(write_splade(tmp_path / "max"))
    summed = load(write_splade(tmp_path / "sum", pooling_strategy="sum"))

    (most,), (all_of_them,) = weights(highest, "hello"), weights(summed, "hello")

    assert set(most) == set(all_of_them)
    assert all(all_of_them[token] >= most[token] - 1e-6 for token in most)


def test_searches_are_looked_up_and_documents_run(tmp_path):
    model = load(write_router(tmp_path))

    search, document = (
        weights(model, "ba b", input_type=input_type)[0]
        for input_type in (InputType.SEARCH, InputType.INGEST)
    )

    assert search == {"##a": 41.0, "b": 6.0}  # a token weighs its id
    assert document != search


def test_a_batch_may_have_both(tmp_path):
    model = load(write_router(tmp_path))
    search = model.encode(["ba"], InputType.SEARCH)
    document = model.encode(["ba"], InputType.INGEST)

    rows = model.rows([*search, *document, *search])

    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_allclose(rows[1], model.rows(document)[0], atol=1e-6)


def test_a_table_has_a_weight_for_every_token(tmp_path):
    write_router(tmp_path)
    write_json(
        tmp_path / "document_0_Transformer/config.json",
        {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 70},
    )

    with pytest.raises(UnusableModel, match=r"has \[77\] tokens, the encoder \[70\]"):
        load(tmp_path)


def test_a_plain_encoder_has_no_weights_of_tokens(tmp_path):
    write_model(tmp_path)
    (tmp_path / "modules.json").unlink()
    write_json(
        tmp_path / "config.json",
        {"architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": 80}
        | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"intermediate_size": 24, "max_position_embeddings": 24},
    )

    with pytest.raises(UnusableModel, match=r"lacks the tensor \[cls.predictions"):
        load(tmp_path, task_type=TaskType.SPARSE_EMBEDDING)


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_reduced_precision_is_compared_for_every_task(tmp_path, precision):
    sparse = load(write_splade(tmp_path / "sparse"), precision=precision)
    scoring = load(write_classifier(tmp_path / "scoring"), precision=precision)

    for model in (sparse, scoring):
        assert model.cosine is None or model.cosine > 0.9


# --- pairs -------------------------------------------------------------------------------------


def test_a_pair_becomes_a_score(tmp_path):
    model = load(write_classifier(tmp_path))

    found = scores(model, "hello", *TEXTS)

    assert model.task_type is TaskType.RERANK
    assert len(set(found)) == len(TEXTS)
    assert found == pytest.approx([scores(model, "hello", text)[0] for text in TEXTS], abs=1e-5)


def test_the_two_texts_of_a_pair_are_told_apart(tmp_path):
    model = load(write_classifier(tmp_path))

    (encoded,) = model.encode(["b"], InputType.UNSPECIFIED, "a")

    assert encoded.types == [0, 0, 0, 1, 1]
    assert scores(model, "a", "b") != scores(model, "b", "a")


def test_the_document_is_cut_and_noted(tmp_path):
    model = load(write_classifier(tmp_path))

    short, long = model.encode(["b", "b " * 50], InputType.UNSPECIFIED, "a")

    assert not short.is_truncated
    assert long.is_truncated
    assert len(long.ids) == model.max_tokens


def test_a_query_that_leaves_no_room_is_refused(tmp_path):
    model = load(write_classifier(tmp_path))

    with pytest.raises(IllegalArgument, match="too large for the first sequence"):
        model.encode(["b"], InputType.UNSPECIFIED, "a " * 50)


def test_both_texts_are_cut_where_the_model_is_built_in(tmp_path):
    model = load(write_classifier(tmp_path), truncation="balanced")

    (encoded,) = model.encode(["b " * 50], InputType.UNSPECIFIED, "a " * 50)

    assert len(encoded.ids) == model.max_tokens
    assert abs(sum(encoded.types) - model.max_tokens / 2) <= 1


@pytest.mark.parametrize(
    ("write", "query", "words"),
    [(write_classifier, None, "needs a query"), (write_splade, "q", "takes no query")],
)
def test_a_query_is_for_pairs_only(tmp_path, write, query, words):
    model = load(write(tmp_path))

    with pytest.raises(BadRequest, match=words):
        model.encode(["a"], InputType.UNSPECIFIED, query)


def test_two_labels_are_no_and_yes_and_three_are_refused(tmp_path):
    assert len(scores(load(write_classifier(tmp_path / "two", labels=2)), "a", "b")) == 1

    with pytest.raises(UnusableModel, match=r"has \[3\] labels"):
        load(write_classifier(tmp_path / "three", labels=3))


def test_a_classifier_is_needed(tmp_path):
    write_masked_lm(tmp_path, architectures=["BertForSequenceClassification"])

    with pytest.raises(UnusableModel, match=r"lacks the tensor \[bert.pooler|\[pooler"):
        load(tmp_path)
