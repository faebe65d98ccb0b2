"""The shapes in which batches run."""

from __future__ import annotations

import pytest

from inferry.modeling import Encoded, ShapeLadder

LADDER = ShapeLadder((1, 2, 4, 8), (4, 8, 16))


@pytest.mark.parametrize(
    ("rows", "longest", "shape"),
    [(1, 1, (1, 4)), (1, 4, (1, 4)), (2, 5, (2, 8)), (3, 16, (4, 16)), (8, 9, (8, 16))],
)
def test_a_batch_is_padded_to_the_next_step(rows, longest, shape):
    assert LADDER.pad(rows, longest) == shape
    assert LADDER.tokens(rows, longest) == shape[0] * shape[1]


def test_a_batch_above_the_last_step_is_not_padded():
    assert LADDER.pad(9, 17) == (9, 17)


def test_a_text_is_cut_when_it_had_more_tokens_than_are_left():
    assert Encoded([1, 2], 3).is_truncated
    assert not Encoded([1, 2], 2).is_truncated
