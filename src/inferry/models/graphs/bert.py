"""BERT: learned positions, token types, normalization behind each part."""

from __future__ import annotations

from collections.abc import Iterator

from openvino import Node
from openvino import opset15 as op

from inferry.models.graphs.blocks import Blocks, LayerNames, visible_tokens


def build_bert(blocks: Blocks, ids: Node, mask: Node) -> Node:
    """Give the states behind the last layer."""
    embedded = op.add(blocks.words(ids), blocks.first_positions(ids))
    embedded = op.add(embedded, blocks.token_types())
    states = blocks.layer_norm(embedded, "embeddings.LayerNorm")
    return blocks.layers(states, visible_tokens(mask), layer_names(blocks.encoder.layers))


def layer_names(layers: int) -> Iterator[LayerNames]:
    """Name the parts of the layers, as RoBERTa does too."""
    for start in (f"encoder.layer.{number}" for number in range(layers)):
        yield LayerNames(
            query=f"{start}.attention.self.query",
            key=f"{start}.attention.self.key",
            value=f"{start}.attention.self.value",
            attended=f"{start}.attention.output.dense",
            attended_norm=f"{start}.attention.output.LayerNorm",
            inner=f"{start}.intermediate.dense",
            outer=f"{start}.output.dense",
            outer_norm=f"{start}.output.LayerNorm",
        )
