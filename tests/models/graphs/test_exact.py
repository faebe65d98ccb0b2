"""Sums that stay at float32 in a graph that runs in bfloat16."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from inferry.engine.runtimes.openvino import OpenVino
from inferry.models.graphs.blocks import normalized
from inferry.models.graphs.exact import keep_sums_exact

WIDTH, LAYERS = 32, 12
RANDOM = np.random.default_rng(7)
WEIGHTS = RANDOM.normal(size=(LAYERS, WIDTH, WIDTH), scale=0.03).astype(np.float32)
SCALE = RANDOM.uniform(0.5, 1.5, WIDTH).astype(np.float32)
SHIFT = RANDOM.normal(size=WIDTH).astype(np.float32)
STATES = RANDOM.normal(size=(2, 5, WIDTH)).astype(np.float32)


def encoder():
    """Give a graph in which states are added to, and normalized, again and again."""
    given = op.parameter([-1, -1, WIDTH], ov.Type.f32)
    states = given
    for weight in WEIGHTS:
        product = op.matmul(states, op.constant(weight), transpose_a=False, transpose_b=True)
        total = op.add(product, states)
        states = normalized(total, op.constant(SCALE), op.constant(SHIFT), 1e-5)
    last = op.matmul(states, op.constant(np.eye(WIDTH, dtype=np.float32)), False, True)
    return ov.Model([last], [given], "encoder")


def run(model, precision):
    options = {"INFERENCE_PRECISION_HINT": precision}
    return ov.Core().compile_model(model, "CPU", options)([STATES])[0]


def test_marks_change_nothing_at_f32():
    plain, marked = encoder(), encoder()

    keep_sums_exact(marked)

    np.testing.assert_array_equal(run(marked, "f32"), run(plain, "f32"))


@pytest.mark.skipif(OpenVino().fastest() != "bf16", reason="this processor has no bf16")
def test_sums_at_f32_make_bf16_more_exact():
    plain, marked, exact = encoder(), encoder(), run(encoder(), "f32")

    keep_sums_exact(marked)

    lost, kept = (np.abs(run(one, "bf16") - exact).mean() for one in (plain, marked))
    assert kept < 0.8 * lost
