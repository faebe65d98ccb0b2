"""Rows of a network as the answers of a model, one per text; see `modeling.Answer`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from inferry.modeling import Answer
from inferry.vectors import shortest

if TYPE_CHECKING:
    from inferry.modeling import Rows

_SCORE = struct.Struct("<d")
_encode = msgspec.msgpack.Encoder().encode


def pack_vectors(rows: Rows) -> list[Answer]:
    """Give each row of float32[texts, width]; the answers share its memory."""
    flat = rows.data.cast("B")
    stride = 4 * rows.shape[1]
    return [flat[start : start + stride] for start in range(0, len(flat), stride)]


def pack_scores(rows: Rows) -> list[Answer]:
    """Give the score of each text. rows: float32[texts, 1]. Raises `ValueError` for NaN."""
    return [_SCORE.pack(score) for score in shortest(rows[:, 0])]


def pack_weights(rows: Rows, tokens: Sequence[str]) -> list[Answer]:
    """Give the positive weights of each text by token, the largest first.

    rows: float32[texts, vocabulary]. tokens: by id. Raises `ValueError` for what is not finite.
    """
    import numpy as np

    answers: list[Answer] = []
    for row in rows[:, : len(tokens)]:
        ids = np.flatnonzero(~(row <= 0))  # with what is not a number, which is refused
        ids = ids[np.argsort(-row[ids], kind="stable")]
        weights: dict[str, float] = {}
        for number, weight in zip(ids.tolist(), shortest(row[ids]), strict=True):
            weights.setdefault(tokens[number], weight)
        answers.append(_encode(weights))
    return answers


def wire_tokens(tokens: Sequence[str]) -> list[str]:
    """Give tokens as the wire has them: without dots, which part the names of fields there."""
    return [token.replace(".", "__") for token in tokens]
