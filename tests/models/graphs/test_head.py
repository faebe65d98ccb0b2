"""The head as a graph, against the same in NumPy after the formulas of sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from inferry.models.graphs.head import build_head
from inferry.models.heads import Cut, Dense, Head, LayerNorm, Normalize, Pooling, PoolingMode
from inferry.models.weights import Tensor

RANDOM = np.random.default_rng(7)
STATES = RANDOM.normal(size=(4, 6, 5)).astype(np.float32)
# A whole text, a padded one, one token, and one whose first two tokens are a prompt.
POOLED = np.array(
    [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]], np.int32
)


def run(*steps):
    states = op.parameter([-1, -1, 5], ov.Type.f32)
    pooled = op.parameter([-1, -1], ov.Type.i32)
    rows = build_head(Head(steps, 0), states.output(0), pooled)
    model = ov.Model([rows], [states, pooled], "head")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([STATES, POOLED])[0]


def pool(mode, states, pooled):
    """Pool one text."""
    kept = states[pooled == 1]
    match mode:
        case "cls":
            return kept[0]
        case "lasttoken":
            return kept[-1]
        case "max":
            return kept.max(axis=0)
        case "mean":
            return kept.mean(axis=0)
        case "mean_sqrt_len_tokens":
            return kept.sum(axis=0) / math.sqrt(len(kept))
        case "weightedmean":
            places = np.flatnonzero(pooled) + 1
            return (kept * places[:, None]).sum(axis=0) / places.sum()


MODES: tuple[PoolingMode, ...] = (
    "cls",
    "max",
    "mean",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken",
)


@pytest.mark.parametrize("mode", MODES)
def test_a_pooling_takes_the_tokens_that_count(mode):
    expected = [pool(mode, *text) for text in zip(STATES, POOLED, strict=True)]

    np.testing.assert_allclose(run(Pooling((mode,))), expected, atol=1e-6)


def test_several_poolings_stand_side_by_side():
    rows = run(Pooling(MODES))

    expected = [
        np.concatenate([pool(mode, *text) for mode in MODES])
        for text in zip(STATES, POOLED, strict=True)
    ]
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def tensor(*shape):
    return Tensor("F32", RANDOM.normal(size=shape).astype(np.float32))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_dense_layer_maps_the_vector(activation, has_bias):
    weight, bias = tensor(3, 5), tensor(3) if has_bias else None
    before = run(Pooling(("mean",)))

    rows = run(Pooling(("mean",)), Dense(weight, bias, activation))

    expected = ACTIVATIONS[activation](before @ weight.numbers.T + (bias.numbers if bias else 0))
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_a_layer_norm_centres_and_scales():
    weight, bias = tensor(5), tensor(5)
    before = run(Pooling(("mean",)))

    rows = run(Pooling(("mean",)), LayerNorm(weight, bias))

    centred = before - before.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt(before.var(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(rows, expected * weight.numbers + bias.numbers, atol=1e-5)


def test_vectors_get_unit_length_and_are_cut():
    before = run(Pooling(("mean",)))

    rows = run(Pooling(("mean",)), Normalize(), Cut(2), Normalize())

    np.testing.assert_allclose(
        rows, before[:, :2] / np.linalg.norm(before[:, :2], axis=1, keepdims=True), atol=1e-6
    )


def test_a_vector_of_zeros_stays_one():
    zero = Tensor("F32", np.zeros((3, 5), np.float32))

    rows = run(Pooling(("mean",)), Dense(zero, None, "identity"), Normalize())

    np.testing.assert_array_equal(rows, np.zeros((4, 3)))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_tensors_of_half_precision_are_computed_with_in_single(dtype):
    weight = RANDOM.normal(size=(3, 5)).astype(np.float32)
    bits = weight.view(np.uint32) >> 16
    stored = weight.astype(np.float16) if dtype == "F16" else bits.astype(np.uint16)
    exact = stored.astype(np.float32) if dtype == "F16" else (bits << 16).view(np.float32)
    before = run(Pooling(("mean",)))

    rows = run(Pooling(("mean",)), Dense(Tensor(dtype, stored), None, "identity"))

    np.testing.assert_allclose(rows, before @ exact.T, atol=1e-5)
