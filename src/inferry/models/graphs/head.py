"""The head of a model as nodes of a graph: states of tokens to one vector per text."""

from __future__ import annotations

from functools import reduce
from typing import assert_never

import numpy as np
import openvino as ov
from openvino import Node
from openvino import opset15 as op

from inferry.models.graphs.blocks import as_float, constant_of, integers, normalized
from inferry.models.heads import (
    Cut,
    Dense,
    DenseActivation,
    Head,
    LayerNorm,
    Normalize,
    Pooling,
    PoolingMode,
    Step,
)

_EPSILON = 1e-5  # of torch.nn.LayerNorm
_LEAST_LENGTH = 1e-12  # a shorter vector is divided by this, as torch does


def build_head(head: Head, states: ov.Output, pooled: Node) -> Node:
    """Give float32[batch, head.width].

    states: float32[batch, tokens, width]; pooled: int32[batch, tokens], 1 for a token that counts.
    """
    return reduce(lambda rows, step: _apply(step, rows, pooled), head.steps, states)


def finish(head: Head, rows: ov.Output) -> Node:
    """Cut, and give unit length to, what a graph gives that has the other steps within."""
    steps = [step for step in head.steps if isinstance(step, Cut | Normalize)]
    return reduce(lambda done, step: _apply(step, done, done), steps, rows)


def _apply(step: Step, rows: Node, pooled: Node) -> Node:
    match step:
        case Pooling(modes=modes):
            parts = [_pool(mode, rows, pooled) for mode in modes]
            return parts[0] if len(parts) == 1 else op.concat(parts, -1)
        case Dense():
            weight = as_float(constant_of(step.weight))
            rows = op.matmul(rows, weight, transpose_a=False, transpose_b=True)
            if step.bias is not None:
                rows = op.add(rows, as_float(constant_of(step.bias)))
            return _activated(rows, step.activation)
        case LayerNorm():
            scale, shift = (as_float(constant_of(one)) for one in (step.weight, step.bias))
            return normalized(rows, scale, shift, _EPSILON)
        case Normalize():
            return op.normalize_l2(rows, integers([-1]), _LEAST_LENGTH**2, "max")
        case Cut(width=width):
            ends = integers([0]), integers([width]), integers([1]), integers([-1])
            return op.slice(rows, *ends)
    assert_never(step)


def _pool(mode: PoolingMode, states: Node, pooled: Node) -> Node:
    counts = op.unsqueeze(op.convert(pooled, "f32"), integers(-1))
    match mode:
        case "mean":
            return _average(states, counts)
        case "mean_sqrt_len_tokens":
            length = op.sqrt(op.reduce_sum(counts, integers([1])))
            return op.divide(op.reduce_sum(op.multiply(states, counts), integers([1])), length)
        case "weightedmean":
            # By place in the whole text, also where the tokens of the prompt do not count.
            places = op.unsqueeze(op.convert(_places(pooled), "f32"), integers([0, 2]))
            return _average(states, op.multiply(counts, op.add(places, op.constant(np.float32(1)))))
        case "max":
            hidden = op.constant(np.finfo(np.float32).min)
            seen = op.select(op.convert(counts, "boolean"), states, hidden)
            return op.reduce_max(seen, integers([1]))
        case "cls":
            never = op.constant(np.int32(np.iinfo(np.int32).max))
            places = op.select(op.convert(pooled, "boolean"), _places(pooled), never)
            return _token(states, op.reduce_min(places, integers([1]), keep_dims=True))
        case "lasttoken":
            places = op.multiply(pooled, _places(pooled))
            return _token(states, op.reduce_max(places, integers([1]), keep_dims=True))
    assert_never(mode)


def _average(states: Node, weights: Node) -> Node:
    total = op.reduce_sum(op.multiply(states, weights), integers([1]))
    return op.divide(total, op.reduce_sum(weights, integers([1])))


def _places(pooled: Node) -> Node:
    """Give 0, 1, ...: int32[tokens]."""
    tokens = op.gather(op.shape_of(pooled), integers(1), integers(0))
    return op.range(integers(0), tokens, integers(1), output_type="i32")


def _token(states: Node, place: Node) -> Node:
    """Take one state of each text. place: int32[batch, 1]."""
    return op.squeeze(op.gather(states, place, integers(1), batch_dims=1), integers([1]))


def _activated(rows: Node, activation: DenseActivation) -> Node:
    match activation:
        case "identity":
            return rows
        case "tanh":
            return op.tanh(rows)
        case "gelu":
            return op.gelu(rows, "erf")
        case "relu":
            return op.relu(rows)
        case "sigmoid":
            return op.sigmoid(rows)
    assert_never(activation)
