"""DistilBERT: BERT without token types, under other names."""

from __future__ import annotations

from collections.abc import Iterator

from openvino import Node
from openvino import opset15 as op

from inferry.models.graphs.blocks import Blocks, LayerNames, visible_tokens


def build_distilbert(blocks: Blocks, ids: Node, mask: Node) -> Node:
    """Give the states behind the last layer."""
    embedded = op.add(blocks.words(ids), blocks.first_positions(ids))
    states = blocks.layer_norm(embedded, "embeddings.LayerNorm")
    return blocks.layers(states, visible_tokens(mask), _layer_names(blocks.encoder.layers))


def _layer_names(layers: int) -> Iterator[LayerNames]:
    for start in (f"transformer.layer.{number}" for number in range(layers)):
        yield LayerNames(
            query=f"{start}.attention.q_lin",
            key=f"{start}.attention.k_lin",
            value=f"{start}.attention.v_lin",
            attended=f"{start}.attention.out_lin",
            attended_norm=f"{start}.sa_layer_norm",
            inner=f"{start}.ffn.lin1",
            outer=f"{start}.ffn.lin2",
            outer_norm=f"{start}.output_layer_norm",
        )
