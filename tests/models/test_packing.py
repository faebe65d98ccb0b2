"""Rows of a network as answers: vectors, weights by token, scores."""

from __future__ import annotations

import struct

import msgspec
import numpy as np
import pytest

from inferry.models.packing import pack_scores, pack_vectors, pack_weights, wire_tokens


def rows(*numbers: list[float]) -> np.ndarray:
    return np.array(numbers, np.float32)


def test_a_vector_is_its_row() -> None:
    answers = pack_vectors(rows([1, 2], [3, 4]))

    assert [bytes(answer) for answer in answers] == [
        struct.pack("<2f", 1, 2),
        struct.pack("<2f", 3, 4),
    ]


def test_a_score_is_the_shortest_number_that_means_the_same() -> None:
    answers = pack_scores(rows([0.1], [-11.25]))

    assert [struct.unpack("<d", answer) for answer in answers] == [(0.1,), (-11.25,)]


def test_weights_are_positive_and_the_largest_comes_first() -> None:
    (answer,) = pack_weights(rows([0.5, -1, 0, 2.3, 0.1, 9]), ["a", "b", "c", "d", "e"])

    weights = msgspec.msgpack.decode(answer, type=dict[str, float])
    assert list(weights.items()) == [("d", 2.3), ("a", 0.5), ("e", 0.1)]


def test_of_tokens_with_the_same_name_the_heaviest_counts() -> None:
    (answer,) = pack_weights(rows([0.5, 2]), wire_tokens([".", "__"]))

    assert msgspec.msgpack.decode(answer) == {"__": 2.0}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(number) -> None:
    with pytest.raises(ValueError, match="not finite"):
        pack_weights(rows([1, number]), ["a", "b"])
    with pytest.raises(ValueError, match="not finite"):
        pack_scores(rows([number]))


def test_tokens_have_no_dots_on_the_wire() -> None:
    assert wire_tokens(["a", ".", "3.5", "##."]) == ["a", "__", "3__5", "##__"]
