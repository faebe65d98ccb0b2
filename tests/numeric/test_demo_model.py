"""The demo model against sentence-transformers, on the same weights and texts of every kind."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from inferry.domain import InputType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.models.built_in import BUILT_IN
from inferry.models.text_model import load_model
from tests.texts import real_texts

DEMO = BUILT_IN[".all-minilm-l6-v2"]
TEXTS = real_texts(320)


@pytest.fixture(scope="module")
def folder():
    assert DEMO.package is not None
    package = importlib.util.find_spec(DEMO.package)
    assert package is not None, "`make test` installs the demo model"
    return Path(str(package.origin)).parent / "model"


@pytest.fixture(scope="module")
def expected(folder):
    reference = SentenceTransformer(str(folder), device="cpu")
    return reference.encode(TEXTS, batch_size=16, show_progress_bar=False)


def load(folder, precision):
    source = ModelSource("demo", folder, checksums=DEMO.checksums)
    options = RuntimeOptions(threads=2, precision=precision)
    return load_model(source, options, runtime=OpenVino())


@pytest.fixture(scope="module")
def f32(folder):
    return load(folder, "f32")


@pytest.fixture(scope="module")
def encoded(f32):
    return f32.encode(TEXTS, InputType.UNSPECIFIED)


@pytest.fixture(scope="module")
def alone(f32, encoded):
    """Run each text by itself."""
    return np.concatenate([f32.rows([one]) for one in encoded])


def cosines(rows, expected):
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1)
    return np.sum(rows * expected, axis=1, dtype=np.float64) / lengths


def test_the_texts_are_of_every_length(encoded):
    tokens = [one.tokens for one in encoded]

    assert len(TEXTS) >= 300
    assert min(tokens) == 2  # the special tokens of an empty text
    assert sum(one > 256 for one in tokens) > 30
    assert max(tokens) > 500


def test_tokens_are_those_of_sentence_transformers(folder, f32, encoded):
    reference = SentenceTransformer(str(folder), device="cpu")

    for text, one in zip(TEXTS, encoded, strict=True):
        assert one.ids == reference.preprocess([text])["input_ids"][0].tolist(), text[:50]


def test_f32_gives_what_sentence_transformers_gives(alone, expected):
    assert cosines(alone, expected).min() >= 0.99999
    np.testing.assert_allclose(alone, expected, atol=1e-5)


@pytest.mark.parametrize("size", [3, 40])
def test_a_vector_does_not_depend_on_what_else_is_in_its_batch(f32, encoded, alone, size):
    order = list(range(len(TEXTS)))
    random.Random(size).shuffle(order)

    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        rows = f32.rows([encoded[place] for place in chosen])
        np.testing.assert_allclose(rows, alone[chosen], atol=1e-5)


def test_bf16_means_the_same(folder, encoded, expected):
    model = load(folder, "bf16")

    rows = np.concatenate([model.rows(encoded[start : start + 8]) for start in range(0, 320, 8)])

    found = cosines(rows, expected)
    assert model.cosine is not None
    assert model.cosine >= 0.9999
    assert found.min() >= 0.9999
