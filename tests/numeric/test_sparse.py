"""Sparse encoders against sentence-transformers' `SparseEncoder`, on random weights.

The tolerance is 1e-4 on weights of size 1.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

from inferry.domain import InputType, TaskType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.models.text_model import FolderModel, load_model
from tests.numeric.random_models import COUNTED, randomized, with_tokenizer
from tests.texts import real_texts

TEXTS = real_texts(60)[::3]
TOLERANCE = 1e-4
_WIDE = {"hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 192}
FAMILIES = {
    "bert": (transformers.BertConfig, {**_WIDE, "num_hidden_layers": 2}),
    "roberta": (transformers.RobertaConfig, {**_WIDE, **COUNTED, "num_hidden_layers": 2}),
    "xlm-roberta": (transformers.XLMRobertaConfig, {**_WIDE, **COUNTED, "num_hidden_layers": 1}),
    "mpnet": (transformers.MPNetConfig, {**_WIDE, **COUNTED, "num_hidden_layers": 2}),
    "distilbert": (
        transformers.DistilBertConfig,
        {"dim": 96, "n_heads": 4, "hidden_dim": 192, "n_layers": 2},
    ),
    "deberta": (
        transformers.DebertaV2Config,
        {
            **_WIDE,
            "num_hidden_layers": 2,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
        },
    ),
}


def write_masked_lm(folder: Path, family: str = "bert") -> Path:
    """Write a masked language model with the tokenizer of the demo model."""
    config_class, settings = FAMILIES[family]
    model = randomized(transformers.AutoModelForMaskedLM, config_class, settings, std=0.1)
    model.save_pretrained(with_tokenizer(folder))
    return folder


def encoder_of(folder: Path) -> Transformer:
    return Transformer(str(folder), transformer_task="fill-mask", max_seq_length=40)


def load(folder: Path, task_type: TaskType | None = None) -> FolderModel:
    source = ModelSource("random", folder, task_type=task_type)
    return load_model(source, RuntimeOptions(precision="f32"), runtime=OpenVino())


def rows(model: FolderModel, input_type: InputType = InputType.UNSPECIFIED):
    """Run the texts, a few at a time."""
    encoded = model.encode(TEXTS, input_type)
    return np.concatenate([model.rows(encoded[at : at + 3]) for at in range(0, len(encoded), 3)])


def assert_equal(found, expected) -> None:
    expected = expected.to_dense().numpy()
    assert (expected > 0).any()
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_local_row_012_splade_of_every_family(tmp_path, family):
    folder = write_masked_lm(tmp_path / "mlm", family)
    reference = SparseEncoder(modules=[encoder_of(folder), SpladePooling("max")], device="cpu")
    reference.save_pretrained(str(tmp_path / "saved"))

    model = load(tmp_path / "saved")

    assert model.task_type is TaskType.SPARSE_EMBEDDING
    assert_equal(rows(model), reference.encode(TEXTS, show_progress_bar=False))


@pytest.mark.parametrize(
    ("strategy", "activation"), [("sum", "relu"), ("max", "log1p_relu"), ("sum", "log1p_relu")]
)
def test_ways_of_pooling(tmp_path, strategy, activation):
    folder = write_masked_lm(tmp_path / "mlm")
    pooling = SpladePooling(strategy, activation_function=activation)
    reference = SparseEncoder(modules=[encoder_of(folder), pooling], device="cpu")
    reference.save_pretrained(str(tmp_path / "saved"))

    assert_equal(rows(load(tmp_path / "saved")), reference.encode(TEXTS, show_progress_bar=False))


def test_a_masked_language_model_without_modules(tmp_path):
    folder = write_masked_lm(tmp_path / "mlm")
    transformer = Transformer(str(folder), transformer_task="fill-mask")
    reference = SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu")

    model = load(folder, TaskType.SPARSE_EMBEDDING)

    assert_equal(rows(model), reference.encode(TEXTS, show_progress_bar=False))


def test_local_row_012_searches_that_are_looked_up(tmp_path):
    folder = write_masked_lm(tmp_path / "mlm")
    encoder = encoder_of(folder)
    torch.manual_seed(3)
    weights = torch.rand(len(encoder.tokenizer.get_vocab())) * 5
    router = Router.for_query_document(
        query_modules=[SparseStaticEmbedding(tokenizer=encoder.tokenizer, weight=weights)],
        document_modules=[encoder, SpladePooling("max")],
    )
    reference = SparseEncoder(modules=[router], device="cpu", similarity_fn_name="dot")
    reference.save_pretrained(str(tmp_path / "saved"))

    model = load(tmp_path / "saved")

    quiet = {"show_progress_bar": False, "batch_size": 1}  # else padding hides a literal [PAD]
    assert_equal(rows(model, InputType.SEARCH), reference.encode_query(TEXTS, **quiet))
    assert_equal(rows(model, InputType.INGEST), reference.encode_document(TEXTS, **quiet))


def test_answers_are_the_tokens_of_sentence_transformers_by_weight(tmp_path):
    folder = write_masked_lm(tmp_path / "mlm")
    reference = SparseEncoder(modules=[encoder_of(folder), SpladePooling("max")], device="cpu")
    reference.save_pretrained(str(tmp_path / "saved"))
    text = "The quick brown fox"

    model = load(tmp_path / "saved")
    (answer,) = model.run(model.encode([text], InputType.INGEST))

    found = msgspec.msgpack.decode(answer, type=dict[str, float])
    expected = dict(reference.decode(reference.encode(text, show_progress_bar=False)))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found == pytest.approx(
        {token.replace(".", "__"): weight for token, weight in expected.items()}, abs=TOLERANCE * 3
    )
