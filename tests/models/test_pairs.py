"""Pairs of texts: what stands around them, and how they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.errors import IllegalArgument
from inferry.models.pairs import Frame, cut_pair

LENGTHS = st.integers(0, 40)


def test_a_frame_holds_both_texts_and_tells_them_apart() -> None:
    frame = Frame((101, 0, 102, 0, 102), (0, 0, 0, 1, 1), first=1, second=3)

    ids, types = frame.put([7, 8], [9])

    assert ids == [101, 7, 8, 102, 9, 102]
    assert types == [0, 0, 0, 0, 1, 1]
    assert frame.specials == 3


@pytest.mark.parametrize(
    ("first", "second", "truncation", "kept"),
    [
        (3, 4, "second", (3, 4)),
        (3, 40, "second", (3, 7)),
        (10, 40, "second", (10, 0)),
        (40, 3, "first", (7, 3)),
        (40, 40, "balanced", (5, 5)),
        (3, 40, "balanced", (3, 7)),
        (40, 3, "balanced", (7, 3)),
    ],
)
def test_a_pair_is_cut_to_its_room(first, second, truncation, kept) -> None:
    assert cut_pair(first, second, 10, truncation) == kept


@pytest.mark.parametrize(("first", "second", "truncation"), [(11, 1, "second"), (1, 11, "first")])
def test_what_is_not_cut_must_fit(first, second, truncation) -> None:
    which = {"second": "first", "first": "second"}[truncation]

    with pytest.raises(IllegalArgument, match=rf"too large for the {which} sequence.*\[11\].*\[10"):
        cut_pair(first, second, 10, truncation)


@given(LENGTHS, LENGTHS, st.integers(2, 30))
def test_balanced_cuts_fill_the_room_and_never_more(first, second, room) -> None:
    kept, beside = cut_pair(first, second, room, "balanced")

    assert kept <= first
    assert beside <= second
    assert kept + beside == min(first + second, room)
