"""MPNet: counted positions, and a bias of attention by the distance of two tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import Node
from openvino import opset15 as op

from inferry.models.graphs.blocks import Blocks, LayerNames, as_float, integers, visible_tokens

_BUCKETS = 32  # the library takes no other number, whatever the configuration says
_FARTHEST = 128


def build_mpnet(blocks: Blocks, ids: Node, mask: Node) -> Node:
    """Give the states behind the last layer."""
    embedded = op.add(blocks.words(ids), blocks.counted_positions(ids))
    states = blocks.layer_norm(embedded, "embeddings.LayerNorm")
    bias = op.add(visible_tokens(mask), _distance_bias(blocks, ids))
    return blocks.layers(states, bias, _layer_names(blocks.encoder.layers))


def _distance_bias(blocks: Blocks, ids: Node) -> Node:
    """Give what is added to the scores of two tokens: [1, heads, tokens, tokens]."""
    longest = blocks.encoder.positions
    by_bucket = blocks.table("encoder.relative_attention_bias", _BUCKETS, blocks.encoder.heads)
    distances = np.arange(1 - longest, longest)
    by_distance = op.gather(as_float(by_bucket), op.constant(_buckets(distances)), integers(0))
    tokens = op.gather(op.shape_of(ids), integers(1), integers(0))
    places = op.range(integers(0), tokens, integers(1), output_type="i64")
    pairs = op.subtract(op.unsqueeze(places, integers(0)), op.unsqueeze(places, integers(1)))
    bias = op.gather(by_distance, op.add(pairs, integers(longest - 1)), integers(0))
    return op.unsqueeze(op.transpose(bias, integers([2, 0, 1])), integers(0))


def _buckets(distances: NDArray[Any]) -> NDArray[np.int64]:
    """Give the bucket of each distance: near ones have their own, far ones share by logarithm."""
    half = _BUCKETS // 2
    exact = half // 2
    size = np.abs(distances)
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    scaled = ratio / np.float32(math.log(_FARTHEST / exact)) * np.float32(half - exact)
    far = np.minimum(exact + scaled.astype(np.int64), half - 1)
    bucket: NDArray[np.int64] = np.where(size < exact, size, far)
    return bucket + half * (distances > 0)


def _layer_names(layers: int) -> Iterator[LayerNames]:
    for start in (f"encoder.layer.{number}" for number in range(layers)):
        yield LayerNames(
            query=f"{start}.attention.attn.q",
            key=f"{start}.attention.attn.k",
            value=f"{start}.attention.attn.v",
            attended=f"{start}.attention.attn.o",
            attended_norm=f"{start}.attention.LayerNorm",
            inner=f"{start}.intermediate.dense",
            outer=f"{start}.output.dense",
            outer_norm=f"{start}.output.LayerNorm",
        )
