"""How close one arithmetic is to another."""

from __future__ import annotations

import numpy as np
import pytest

from inferry.models.closeness import ScoreCloseness, VectorCloseness, closeness_of


def test_vectors_are_compared_by_their_cosines():
    rows, reference = np.eye(2, dtype=np.float32), np.array([[5, 0], [1, 1]], np.float32)

    found = closeness_of(rows, reference, 0.5)

    assert isinstance(found, VectorCloseness)
    assert (found.texts, found.probes) == (2, 0.5)
    assert found.least == pytest.approx(0.5**0.5)
    assert found.mean == pytest.approx((1 + 0.5**0.5) / 2)


def test_scores_are_compared_by_their_order_and_their_difference():
    reference = np.array([[1], [2], [3], [4]], np.float32)
    rows = np.array([[1], [3], [2], [9]], np.float32)

    found = closeness_of(rows, reference, 0.5)

    assert isinstance(found, ScoreCloseness)
    assert (found.texts, found.difference, found.spread) == (4, 5, 3)
    assert found.rank_correlation == pytest.approx(0.8)
