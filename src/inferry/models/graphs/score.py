"""The classifiers of the families, and what they mean for a pair: one score."""

from __future__ import annotations

from typing import assert_never

import openvino as ov
from openvino import Node
from openvino import opset15 as op

from inferry.models.graphs.blocks import Blocks, activated, integers
from inferry.models.scoring import ScoreHead


def build_label_logits(blocks: Blocks, states: ov.Output, labels: int) -> Node:
    """Give float32[batch, labels] of the first token. Raises `UnusableModel` without a classifier.

    states: float32[batch, tokens, width].
    """
    encoder, head = blocks.encoder, blocks.behind()
    width = encoder.width
    first = op.squeeze(op.gather(states, integers([0]), integers(1)), integers([1]))
    match encoder.family:
        case "bert":
            pooled = op.tanh(blocks.linear(first, "pooler.dense", width, width))
        case "deberta":
            pooled = activated(head.linear(first, "pooler.dense", width, width), "gelu")
        case "distilbert":
            pooled = op.relu(head.linear(first, "pre_classifier", width, width))
        case "roberta" | "mpnet":
            pooled = op.tanh(head.linear(first, "classifier.dense", width, width))
            return head.linear(pooled, "classifier.out_proj", width, labels)
        case _:
            assert_never(encoder.family)
    return head.linear(pooled, "classifier", width, labels)


def score(head: ScoreHead, logits: Node | ov.Output) -> Node:
    """Give float32[batch, 1]: the logit, or that of yes less that of no."""
    if head.labels == 1:
        return logits
    no, yes = (op.gather(logits, integers([label]), integers(1)) for label in range(2))
    return op.subtract(yes, no)
