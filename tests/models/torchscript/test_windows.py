"""Windows over texts that are longer than what reaches a model at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.errors import BadRequest
from inferry.models.torchscript.windows import lay_windows


def places(words, room, span):
    return [(one.start, one.end) for one in lay_windows(words, room, span)]


def test_local_row_013_windows_overlap_by_the_span():
    words = list(range(10))  # each token a word of its own

    assert places(words, 4, 1) == [(0, 4), (3, 7), (6, 10)]
    assert places(words, 4, 0) == [(0, 4), (4, 8), (8, 10)]


def test_local_row_013_windows_end_and_begin_between_words():
    assert places([0, 0, 1, 1, 2, 2], 3, 0) == [(0, 2), (2, 4), (4, 6)]
    assert places([0, 1, 2, 2, 3, 4], 4, 1) == [(0, 4), (2, 6)]


def test_a_word_that_fills_a_window_is_cut():
    assert places([0, 0, 0, 0, 0, 1], 2, 0)[:2] == [(0, 1), (1, 2)]


def test_a_text_that_fits_is_one_window():
    assert places([0, 1, 2], 3, 1) == [(0, 3)]
    assert places([], 3, 1) == [(0, 0)]


@pytest.mark.parametrize("span", [3, 4])
def test_a_span_as_long_as_a_window_is_refused(span):
    with pytest.raises(BadRequest, match="would not begin behind"):
        places(list(range(10)), 3, span)


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=30),
    room=st.integers(4, 12),
    span=st.integers(0, 2),
)
def test_windows_cover_every_token_in_order(lengths, room, span):
    words = [word for word, length in enumerate(lengths) for _ in range(length)]
    try:
        found = places(words, room, span)
    except BadRequest:
        return

    assert found[0][0] == 0
    assert found[-1][1] == len(words)
    for (start, end), (following, after) in pairwise(found):
        assert start < following <= end <= after
    assert all(end - start <= room for start, end in found)
