"""Maxima of logits, taken before the functions of them and in parts, against NumPy."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from inferry.models.graphs import largest
from inferry.models.graphs.blocks import integers
from inferry.models.graphs.largest import largest_logits, raise_maxima

RANDOM = np.random.default_rng(7)
STATES = RANDOM.normal(size=(3, 6, 4)).astype(np.float32)
WEIGHT = RANDOM.normal(size=(11, 4)).astype(np.float32)
BIAS = RANDOM.normal(size=11).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]], np.int32)
LOGITS = STATES @ WEIGHT.T + BIAS
EXPECTED = np.stack([LOGITS[row, MASK[row] == 1].max(axis=0) for row in range(3)])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(largest, "_PART", 4)


def places():
    return op.parameter([-1, -1, 4], ov.Type.f32), op.parameter([-1, -1], ov.Type.i32, "mask")


def run(rows, *given, results=(STATES, MASK)):
    model = ov.Model([rows], list(given), "largest")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(list(results))[0]


def logits_of(states, *, is_transposed=True, has_bias=True):
    weight = op.constant(WEIGHT if is_transposed else WEIGHT.T.copy())
    product = op.matmul(states, weight, transpose_a=False, transpose_b=is_transposed)
    return op.add(product, op.constant(BIAS)) if has_bias else product


def masked(numbers, mask):
    return op.multiply(numbers, op.convert(op.unsqueeze(mask, integers(-1)), "f32"))


def log1p(numbers):
    return op.log(op.add(op.constant(np.float32(1)), numbers))


def tops(model):
    """Name what the largest of is taken of."""
    return [
        one.input_value(0).get_node().get_type_name()
        for one in model.get_ordered_ops()
        if one.get_type_name() == "ReduceMax"
    ]


@pytest.mark.parametrize("is_transposed", [True, False])
def test_the_largest_logits_are_those_of_tokens_that_count(is_transposed):
    states, mask = places()

    rows = largest_logits(logits_of(states, is_transposed=is_transposed), mask)

    np.testing.assert_allclose(run(rows, states, mask), EXPECTED, atol=1e-5)


def test_logits_without_a_bias_are_taken_in_parts_too():
    states, mask = places()

    rows = largest_logits(logits_of(states, has_bias=False), mask)

    found = run(rows, states, mask)
    expected = np.stack([(STATES @ WEIGHT.T)[row, MASK[row] == 1].max(axis=0) for row in range(3)])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_logits_that_come_from_elsewhere_are_taken_whole():
    logits = op.parameter([-1, -1, 11], ov.Type.f32)
    mask = op.parameter([-1, -1], ov.Type.i32)

    rows = largest_logits(logits, mask)

    found = run(rows, logits, mask, results=(LOGITS.astype(np.float32), MASK))
    np.testing.assert_allclose(found, EXPECTED, atol=1e-6)


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize(
    "weights",
    [
        lambda logits, mask: masked(log1p(op.relu(logits)), mask),
        lambda logits, mask: log1p(masked(op.relu(logits), mask)),
        lambda logits, mask: log1p(op.relu(masked(logits, mask))),
        lambda logits, mask: log1p(log1p(masked(op.relu(logits), mask))),
    ],
)
def test_a_maximum_of_weights_is_taken_of_logits(weights, is_kept):
    states, mask = places()
    made = weights(logits_of(states), mask)
    rows = op.reduce_max(made, integers([1]), keep_dims=is_kept)
    expected = run(rows, states, mask)
    model = ov.Model([rows], [states, mask], "weights")

    raise_maxima(model, mask)

    assert tops(model) == ["Add"] * 3
    found = run(model.get_results()[0].input_value(0), states, mask)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("over", [integers(1), integers([-2]), op.concat([integers([1])], 0)])
def test_the_second_axis_is_that_of_tokens_however_it_is_written(over):
    states, mask = places()
    made = masked(log1p(op.relu(logits_of(states))), mask)
    model = ov.Model([op.reduce_max(made, over)], [states, mask], "weights")

    raise_maxima(model, mask)

    assert tops(model) == ["Add"] * 3


@pytest.mark.parametrize(
    "weights",
    [
        lambda logits, _: log1p(op.relu(logits)),  # of all tokens
        masked,  # below 0 for all
        lambda logits, mask: masked(op.relu(log1p(logits)), mask),  # not of all numbers
        lambda logits, mask: masked(op.exp(op.relu(logits)), mask),  # 1 where there is nothing
    ],
)
def test_a_maximum_that_would_be_another_stays_where_it_is(weights):
    states, mask = places()
    made = weights(logits_of(states), mask)
    model = ov.Model([op.reduce_max(made, integers([1]))], [states, mask], "weights")
    before = tops(model)

    raise_maxima(model, mask)

    assert tops(model) == before


@pytest.mark.parametrize(
    "over", [integers([2]), integers([1, 2]), op.concat([integers([1]), integers([2])], 0)]
)
def test_maxima_over_something_else_stay(over):
    states, mask = places()
    maximum = op.reduce_max(masked(op.relu(logits_of(states)), mask), over)
    model = ov.Model([maximum], [states, mask], "weights")

    raise_maxima(model, mask)

    assert tops(model) == ["Multiply"]
