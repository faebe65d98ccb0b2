"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT whose positions are counted from behind the padding."""

from __future__ import annotations

from openvino import Node
from openvino import opset15 as op

from inferry.models.graphs.bert import layer_names
from inferry.models.graphs.blocks import Blocks, visible_tokens


def build_roberta(blocks: Blocks, ids: Node, mask: Node) -> Node:
    """Give the states behind the last layer."""
    embedded = op.add(blocks.words(ids), blocks.token_types())
    embedded = op.add(embedded, blocks.counted_positions(ids))
    states = blocks.layer_norm(embedded, "embeddings.LayerNorm")
    return blocks.layers(states, visible_tokens(mask), layer_names(blocks.encoder.layers))
