"""The largest logit that a token of the vocabulary has in a text.

A text has as many logits as it has tokens times the vocabulary: 60 MB for 512 of BERT's. So their
maximum is taken before what is made of them, and over a part of the vocabulary at a time, whose
logits stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import Node
from openvino import opset15 as op

from inferry.models.graphs.blocks import constant_behind, integers

_PART = 2048
"""Tokens of the vocabulary at a time: 4 MB of logits for 512 tokens of a text."""


def largest_logits(logits: Node | ov.Output, mask: Node) -> Node:
    """Give float32[batch, vocabulary]: over the tokens that count, the first of which always does.

    logits: float32[batch, tokens, vocabulary]. mask: int32[batch, tokens].
    """
    logits = logits.output(0) if isinstance(logits, Node) else logits
    decoder = _decoder_of(logits)
    given = decoder.states if decoder else logits
    counts = op.unsqueeze(op.convert(mask, "boolean"), integers(-1))
    first = op.slice(given, integers([0]), integers([1]), integers([1]), integers([1]))
    seen = op.select(counts, given, first)  # what does not count is the first token once more
    return decoder.largest(seen) if decoder else op.reduce_max(seen, integers([1]))


@dataclass(frozen=True, slots=True)
class _Decoder:
    """What logits are made of: states, multiplied by a constant weight, and a bias, if any."""

    states: ov.Output
    product: Node
    bias: ov.Output | None

    def largest(self, states: Node) -> Node:
        """Give the largest logit of states float32[batch, tokens, width] for each token."""
        weight = self.product.input_value(1)
        is_transposed = bool(self.product.get_attributes()["transpose_b"])
        axis = 0 if is_transposed else 1
        parts = []
        for start in range(0, weight.get_shape()[axis], _PART):
            logits = op.matmul(
                states,
                _part(weight, start, axis),
                transpose_a=False,
                transpose_b=is_transposed,
            )
            if self.bias is not None:  # before the maximum, since that rounds what it is of
                logits = op.add(logits, _part(self.bias, start, 0))
            parts.append(op.reduce_max(logits, integers([1])))
        return parts[0] if len(parts) == 1 else op.concat(parts, -1)


def _part(constant: ov.Output, start: int, axis: int) -> Node:
    return op.slice(
        constant, integers([start]), integers([start + _PART]), integers([1]), integers([axis])
    )


def _decoder_of(logits: ov.Output) -> _Decoder | None:
    """Look behind logits; None where they are made otherwise."""
    product, bias = logits.get_node(), None
    if product.get_type_name() == "Add" and constant_behind(product.input_value(1)) is not None:
        bias, product = product.input_value(1), product.input_value(0).get_node()
        if len(bias.get_shape()) != 1:
            return None
    if product.get_type_name() != "MatMul" or product.get_attributes()["transpose_a"]:
        return None
    weight = product.input_value(1)
    if constant_behind(weight) is None or len(weight.get_shape()) != 2:
        return None
    return _Decoder(product.input_value(0), product, bias)


def raise_maxima(model: ov.Model, mask: Node) -> None:
    """Take maxima over the tokens of texts before the functions of logits that stand within them.

    That is done where the result is the same: the functions are ReLU, log(1 + x) and products with
    the mask, which keep the order of numbers and leave 0 as it is, and the first of them is ReLU.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ReduceMax":
            raised = _raised(node, mask)
            if raised is not None:
                node.output(0).replace(raised.output(0))


def _raised(maximum: Node, mask: Node) -> Node | None:
    """Give the same as `maximum`, taken before the functions, None where there are no such."""
    given = maximum.input_value(0)
    if not _is_over_tokens(maximum):
        return None
    functions: list[Callable[[Node], Node]] = []
    is_masked = False
    while True:
        node = given.get_node()
        if (masked := _masked(node, mask)) is not None:
            is_masked, given = True, masked
        elif node.get_type_name() in ("Relu", "ReLU"):
            functions.append(op.relu)
            given = node.input_value(0)
        elif (within := _within_log1p(node)) is not None:
            functions.append(log1p)
            given = within
        else:
            break
    if not is_masked or not functions or functions[-1] is not op.relu:
        return None
    rows = largest_logits(given, mask)
    for function in reversed(functions):
        rows = function(rows)
    is_kept = maximum.get_attributes()["keep_dims"]
    return op.unsqueeze(rows, integers([1])) if is_kept else rows


def _is_over_tokens(maximum: Node) -> bool:
    """Tell whether it is taken over the second axis of three."""
    rank, axes = maximum.input_value(0).get_partial_shape().rank, maximum.input_value(1)
    if rank.is_dynamic or rank.get_length() != 3:
        return False
    listed = axes.get_node()
    if listed.get_type_name() == "Concat" and listed.get_input_size() == 1:  # of `torch.amax`
        axes = listed.input_value(0)
    over = constant_behind(axes)
    return over is not None and over.ravel().tolist() in ([1], [-2])


def log1p(numbers: Node) -> Node:
    """Give log(1 + x)."""
    return op.log(op.add(numbers, op.constant(np.float32(1))))


def _within_log1p(node: Node) -> ov.Output | None:
    """Give the x of log(1 + x), None of anything else."""
    if node.get_type_name() != "Log":
        return None
    total = node.input_value(0).get_node()
    if total.get_type_name() != "Add":
        return None
    first, second = total.input_value(0), total.input_value(1)
    for one, other in ((first, second), (second, first)):
        numbers = constant_behind(other)
        if numbers is not None and numbers.size == 1 and numbers.item() == 1:
            return one
    return None


def _masked(node: Node, mask: Node) -> ov.Output | None:
    """Give what `node` multiplies with the mask of each token, None where it does not."""
    if node.get_type_name() != "Multiply":
        return None
    first, second = node.input_value(0), node.input_value(1)
    for one, other in ((first, second), (second, first)):
        if _is_mask(other, mask):
            return one
    return None


def _is_mask(given: ov.Output, mask: Node) -> bool:
    """Tell whether it is the mask as [batch, tokens, 1]."""
    shape = given.get_partial_shape()
    if shape.rank.is_dynamic or shape.rank.get_length() != 3 or shape[2] != 1:
        return False
    node = given.get_node()
    while node.get_type_name() in ("Convert", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return bool(node.get_name() == mask.get_name())
