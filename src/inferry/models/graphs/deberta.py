"""DeBERTa v2 and v3: attention that sees how far apart two tokens are, in both directions.

To the score of a query i and a key j is added q(i)·K(i-j) and k(j)·Q(i-j), where K and Q are the
key and query maps of an embedding per distance. Both are computed per distance and then skewed, so
that distances become pairs: a copy, instead of a look-up of every pair of every head.
Source: transformers, `DebertaV2Model`; https://arxiv.org/abs/2006.03654
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from openvino import Node
from openvino import opset15 as op

from inferry.models.encoders import Distances
from inferry.models.graphs.blocks import (
    Bias,
    Blocks,
    LayerNames,
    as_float,
    integers,
    visible_tokens,
)


def build_deberta(blocks: Blocks, ids: Node, mask: Node) -> Node:
    """Give the states behind the last layer."""
    encoder = blocks.encoder
    distances = encoder.distances
    assert distances is not None
    embedded = blocks.words(ids)
    if encoder.has_positions:
        embedded = op.add(embedded, blocks.first_positions(ids))
    if encoder.token_types:
        embedded = op.add(embedded, blocks.token_types())
    states = blocks.layer_norm(embedded, "embeddings.LayerNorm")
    states = op.multiply(states, as_float(op.unsqueeze(mask, integers(-1))))
    kinds = 1 + distances.content_to_position + distances.position_to_content
    scale = 1 / math.sqrt(encoder.width // encoder.heads * kinds)
    bias = _distance_bias(blocks, distances, ids, mask, scale)
    return blocks.layers(states, bias, _layer_names(encoder.layers), scale=scale)


def _distance_bias(
    blocks: Blocks, distances: Distances, ids: Node, mask: Node, scale: float
) -> Bias:
    """Give what computes the part of the scores that depends on distances."""
    tokens = op.gather(op.shape_of(ids), integers(1), integers(0))
    visible = visible_tokens(mask)
    farthest = blocks.encoder.max_tokens
    table = _embeddings(blocks, distances)[_rows(distances, np.arange(farthest, -farthest - 1, -1))]

    def bias(queries: Node, keys: Node, layer: LayerNames) -> Node:
        parts = [visible]
        if distances.content_to_position:
            falling = _near(_mapped(blocks, table, layer.key), farthest, tokens)
            parts.append(_skewed(_products(queries, falling), tokens))
        if distances.position_to_content:
            rising = _near(_mapped(blocks, table[::-1], layer.query, scale), farthest, tokens)
            skewed = _skewed(_products(keys, rising), tokens)
            parts.append(op.transpose(skewed, integers([0, 1, 3, 2])))
        return reduce(op.add, parts)

    return bias


def _embeddings(blocks: Blocks, distances: Distances) -> NDArray[np.float32]:
    """Give the embedding of each bucket: float32[2 * buckets, width]."""
    width = blocks.encoder.width
    rows = blocks.numbers("encoder.rel_embeddings.weight", 2 * distances.buckets, width)
    if not distances.is_normalized:
        return rows
    centred = rows - rows.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    unit = centred / np.sqrt(variance + blocks.encoder.epsilon)
    scale = blocks.numbers("encoder.LayerNorm.weight", width)
    return np.asarray(unit * scale + blocks.numbers("encoder.LayerNorm.bias", width), np.float32)


def _rows(distances: Distances, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the row of the embedding of each distance: near ones have their own."""
    buckets = wanted
    if distances.farthest:
        half = distances.buckets // 2
        size = np.maximum(np.abs(wanted), half).astype(np.float32)
        ratio = np.log(size / half) / np.float32(math.log((distances.farthest - 1) / half))
        far = np.ceil(ratio * (half - 1)) + half
        buckets = np.where(np.abs(wanted) <= half, wanted, far * np.sign(wanted)).astype(np.int64)
    rows: NDArray[np.int64] = np.clip(buckets + distances.buckets, 0, 2 * distances.buckets - 1)
    return rows


def _mapped(blocks: Blocks, table: NDArray[np.float32], name: str, scale: float = 1.0) -> Node:
    """Map each row by a linear map of the layer, and scale: [heads, distances, width of a head]."""
    width, heads = blocks.encoder.width, blocks.encoder.heads
    weight, bias = (
        blocks.numbers(f"{name}.weight", width, width),
        blocks.numbers(f"{name}.bias", width),
    )
    mapped = np.float32(scale) * (table @ weight.T + bias)
    mapped = mapped.reshape(len(table), heads, width // heads)
    return op.constant(np.ascontiguousarray(mapped.transpose(1, 0, 2)))


def _near(rows: Node, farthest: int, tokens: Node) -> Node:
    """Take the distances that a text of `tokens` has, and one more: [heads, 2 * tokens, ...].

    rows: of all distances, in their order, 0 at `farthest`.
    """
    zero = integers(farthest)
    start = op.unsqueeze(op.add(op.subtract(zero, tokens), integers(1)), integers(0))
    end = op.unsqueeze(op.add(op.add(zero, tokens), integers(1)), integers(0))
    return op.slice(rows, start, end, integers([1]), integers([1]))


def _products(states: Node, rows: Node) -> Node:
    return op.matmul(states, rows, transpose_a=False, transpose_b=True)


def _skewed(products: Node, tokens: Node) -> Node:
    """Give [batch, heads, tokens, tokens] with (i, j) = products(i, j - i + tokens - 1).

    products: [batch, heads, tokens, 2 * tokens]. Read as one row, each line of the result begins
    2 * tokens - 1 behind the one before.
    """
    one = integers(1)
    line = op.subtract(op.multiply(tokens, integers(2)), one)
    flat = op.reshape(products, integers([0, 0, -1]), special_zero=True)
    start = op.unsqueeze(op.subtract(tokens, one), integers(0))
    end = op.add(start, op.unsqueeze(op.multiply(tokens, line), integers(0)))
    cut = op.slice(flat, start, end, integers([1]), integers([2]))
    shape = op.concat(
        [integers([0, 0]), op.unsqueeze(tokens, integers(0)), op.unsqueeze(line, integers(0))], 0
    )
    lines = op.reshape(cut, shape, special_zero=True)
    last = op.unsqueeze(tokens, integers(0))
    return op.slice(lines, integers([0]), last, integers([1]), integers([3]))


def _layer_names(layers: int) -> Iterator[LayerNames]:
    for start in (f"encoder.layer.{number}" for number in range(layers)):
        yield LayerNames(
            query=f"{start}.attention.self.query_proj",
            key=f"{start}.attention.self.key_proj",
            value=f"{start}.attention.self.value_proj",
            attended=f"{start}.attention.output.dense",
            attended_norm=f"{start}.attention.output.LayerNorm",
            inner=f"{start}.intermediate.dense",
            outer=f"{start}.output.dense",
            outer_norm=f"{start}.output.LayerNorm",
        )
