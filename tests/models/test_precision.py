"""Which arithmetic is tried, and which is taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from inferry.modeling import Arithmetic
from inferry.models.precision import F32, choose, kinds_of

BF16, EXACT_SUMS = Arithmetic("bf16"), Arithmetic("bf16", has_exact_sums=True)
ROWS = np.array([[1, 0], [0, 1]], np.float32)


@dataclass
class Compiled:
    arithmetic: Arithmetic
    cosine: float | None = None


def chosen(wanted, errors, fastest="bf16"):
    """Choose where each arithmetic is wrong by as much. Gives the model and what was compiled."""
    tried = []

    def compiled(arithmetic):
        tried.append(arithmetic)
        return Compiled(arithmetic), ROWS + np.float32(errors.get(arithmetic, 0))

    model, _ = choose(kinds_of(wanted, fastest), compiled, lambda: ROWS)
    return model, tried


def test_auto_takes_bf16_where_it_is_close():
    model, tried = chosen("auto", {})

    assert (model.arithmetic, model.cosine, tried) == (BF16, 1, [BF16])


def test_where_bf16_is_too_rough_its_sums_are_kept_at_f32():
    model, tried = chosen("auto", {BF16: 0.1, EXACT_SUMS: 0.01})

    assert model.arithmetic == EXACT_SUMS
    assert 0.999 < model.cosine < 1
    assert tried == [BF16, EXACT_SUMS]


@pytest.mark.parametrize("error", [0.1, float("nan")])
def test_where_that_is_too_rough_too_all_is_f32(error):
    model, tried = chosen("auto", {BF16: error, EXACT_SUMS: error})

    assert (model.arithmetic, model.cosine) == (F32, None)
    assert tried == [BF16, EXACT_SUMS, F32]


@pytest.mark.parametrize("wanted", ["bf16", "int8"])
def test_what_was_asked_for_is_taken_and_its_cosine_told(wanted):
    model, tried = chosen(wanted, {Arithmetic(wanted): 0.1})

    assert tried == [Arithmetic(wanted)]
    assert model.cosine < 0.999


@pytest.mark.parametrize(("wanted", "fastest"), [("f32", "bf16"), ("auto", "f32")])
def test_f32_is_held_against_nothing(wanted, fastest):
    model, tried = chosen(wanted, {}, fastest)

    assert (tried, model.cosine) == ([F32], None)


def test_scores_are_held_against_each_other_all_together():
    scores = np.array([[1], [-2]], np.float32)

    model, _ = choose(
        (BF16, F32), lambda one: (Compiled(one), scores + np.float32(1.5)), lambda: scores
    )

    assert model.arithmetic == F32
