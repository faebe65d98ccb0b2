"""Folders that sentence-transformers writes are run as it runs them: modules, prompts, width."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)

from inferry.domain import InputType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.models.built_in import BUILT_IN
from inferry.models.text_model import load_model
from tests.models.folders import write_json
from tests.texts import real_texts

TEXTS = real_texts(100)[::3]
WIDTH = 96
PROMPTS = {"query": "question: ", "document": "text: ", "classification": "", "other": "other: "}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Write a small encoder with the tokenizer of the demo model."""
    package = importlib.util.find_spec(str(BUILT_IN[".all-minilm-l6-v2"].package))
    assert package is not None
    demo = Path(str(package.origin)).parent / "model"
    folder = tmp_path_factory.mktemp("encoder")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(demo / name, folder)
    torch.manual_seed(5)
    config = transformers.BertConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192
    )
    model = transformers.BertModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2)
    model.save_pretrained(folder)
    return folder


def build(encoder, *modules, **settings):
    transformer = Transformer(str(encoder), max_seq_length=40)
    return SentenceTransformer(modules=[transformer, *modules], device="cpu", **settings)


def assert_equal(reference, folder, **source):
    """Save the reference, load it, and compare what both make of texts for every purpose."""
    reference.save_pretrained(str(folder))
    options = RuntimeOptions(precision="f32")
    model = load_model(ModelSource("saved", folder, **source), options, runtime=OpenVino())

    def ours(input_type):
        return np.concatenate([model.rows([one]) for one in model.encode(TEXTS, input_type)])

    quiet = {"show_progress_bar": False}
    pairs = [
        (InputType.SEARCH, reference.encode_query(TEXTS, **quiet)),
        (InputType.INGEST, reference.encode_document(TEXTS, **quiet)),
        (InputType.UNSPECIFIED, reference.encode(TEXTS, **quiet)),
    ]
    for input_type, expected in pairs:
        rows = ours(input_type)
        np.testing.assert_allclose(rows, expected, atol=2e-5 * max(1, np.abs(expected).max()))


MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.mark.parametrize("mode", [*MODES, ("mean", "max"), ("lasttoken", "cls")], ids=str)
def test_local_row_012_poolings(encoder, tmp_path, mode):
    assert_equal(build(encoder, Pooling(WIDTH, mode)), tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_local_row_012_poolings_without_the_prompt(encoder, tmp_path, mode):
    pooling = Pooling(WIDTH, mode, include_prompt=False)

    assert_equal(build(encoder, pooling, Normalize(), prompts=PROMPTS), tmp_path)


@pytest.mark.parametrize(
    "activation", [torch.nn.Tanh(), torch.nn.Identity(), torch.nn.GELU(), torch.nn.ReLU()], ids=str
)
def test_local_row_012_dense_layers(encoder, tmp_path, activation):
    dense = Dense(WIDTH, 32, activation_function=activation)

    assert_equal(build(encoder, Pooling(WIDTH), dense, Normalize()), tmp_path)


def test_layer_norms(encoder, tmp_path):
    assert_equal(build(encoder, Pooling(WIDTH), LayerNorm(WIDTH)), tmp_path)


def test_local_row_012_prompts(encoder, tmp_path):
    reference = build(encoder, Pooling(WIDTH), Normalize(), prompts=PROMPTS)

    assert_equal(reference, tmp_path)


def test_default_prompts(encoder, tmp_path):
    prompts = {"query": "question: ", "other": "other: "}
    reference = build(encoder, Pooling(WIDTH), prompts=prompts, default_prompt_name="other")
    reference.prompts.pop("document", None)

    assert_equal(reference, tmp_path)


def test_lower_case(encoder, tmp_path):
    transformer = Transformer(str(encoder), max_seq_length=40, do_lower_case=True)

    assert_equal(SentenceTransformer(modules=[transformer, Pooling(WIDTH)], device="cpu"), tmp_path)


def test_local_row_012_the_old_layout(encoder, tmp_path):
    reference = build(encoder, Pooling(WIDTH, "cls"), Normalize())
    reference.save_pretrained(str(tmp_path))
    old = {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": True}
    write_json(tmp_path / "1_Pooling/config.json", old | {"pooling_mode_mean_tokens": False})
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 40})
    rows = json.loads((tmp_path / "modules.json").read_text())
    for row in rows:
        row["type"] = f"sentence_transformers.models.{row['type'].rsplit('.', 1)[1]}"
    write_json(tmp_path / "modules.json", rows)
    model = load_model(
        ModelSource("old", tmp_path), RuntimeOptions(precision="f32"), runtime=OpenVino()
    )

    found = np.concatenate(
        [model.rows([one]) for one in model.encode(TEXTS, InputType.UNSPECIFIED)]
    )

    expected = reference.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("width", [1, 8, 64])
def test_local_row_012_shorter_vectors(encoder, tmp_path, width):
    reference = build(encoder, Pooling(WIDTH), Normalize())
    reference.save_pretrained(str(tmp_path))
    model = load_model(
        ModelSource("short", tmp_path, dimensions=width),
        RuntimeOptions(precision="f32"),
        runtime=OpenVino(),
    )

    rows = model.rows(model.encode(TEXTS[:5], InputType.UNSPECIFIED))

    expected = reference.encode(TEXTS[:5], truncate_dim=width, normalize_embeddings=True)
    np.testing.assert_allclose(rows, expected, atol=2e-5)
