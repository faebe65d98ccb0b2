"""The head of masked language models, and what SPLADE makes of it: a weight per token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import openvino as ov
from openvino import Node
from openvino import opset15 as op

from inferry.models.encoders import Activation, Family
from inferry.models.graphs.blocks import Blocks, activated, as_float, integers
from inferry.models.graphs.largest import largest_logits, log1p
from inferry.models.sparse import SpladeHead


@dataclass(frozen=True, slots=True)
class _Names:
    """What a family calls the parts. decoder: where it is not the embeddings of the words.

    activation: None for that of the layers.
    """

    dense: str
    norm: str
    decoder: str
    biases: tuple[str, ...]
    activation: Activation | None = None


_BERT = _Names(
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder",
    ("cls.predictions.bias", "cls.predictions.decoder.bias"),
)
_ROBERTA = _Names(
    "lm_head.dense",
    "lm_head.layer_norm",
    "lm_head.decoder",
    ("lm_head.bias", "lm_head.decoder.bias"),
    activation="gelu",
)
_NAMES: Mapping[Family, _Names] = MappingProxyType(
    {
        "bert": _BERT,
        "deberta": _BERT,
        "roberta": _ROBERTA,
        "mpnet": _ROBERTA,
        "distilbert": _Names(
            "vocab_transform",
            "vocab_layer_norm",
            "vocab_projector",
            ("vocab_projector.bias",),
        ),
    }
)


def build_token_logits(blocks: Blocks, states: ov.Output) -> Node:
    """Give float32[batch, tokens, vocabulary]. Raises `UnusableModel` without such a head."""
    encoder, names, head = blocks.encoder, _NAMES[blocks.encoder.family], blocks.behind()
    width = encoder.width
    states = head.linear(states, names.dense, width, width)
    states = activated(states, names.activation or encoder.activation)
    states = head.layer_norm(states, names.norm)
    if head.has(f"{names.decoder}.weight"):
        decoder = head.table(names.decoder, encoder.vocabulary)
    else:  # it is the embeddings of the words
        decoder = blocks.table("embeddings.word_embeddings", encoder.vocabulary)
    bias = next((name for name in names.biases if head.has(name)), names.biases[0])
    logits = op.matmul(states, as_float(decoder), transpose_a=False, transpose_b=True)
    return op.add(logits, head.tensor(bias, encoder.vocabulary))


def pool_splade(head: SpladeHead, logits: Node | ov.Output, mask: Node) -> Node:
    """Give float32[batch, vocabulary]. mask: int32[batch, tokens].

    The maximum is taken before the functions, which do not change which one is the largest: they
    then run on one row per text instead of one per token.
    """
    if head.strategy == "max":
        return _weights(largest_logits(logits, mask), head.logarithms)
    counts = op.unsqueeze(op.convert(mask, "boolean"), integers(-1))
    seen = op.select(counts, logits, op.constant(np.float32(0)))
    return op.reduce_sum(_weights(seen, head.logarithms), integers([1]))


def _weights(logits: Node, logarithms: int) -> Node:
    weights = op.relu(logits)
    for _ in range(logarithms):
        weights = log1p(weights)
    return weights
