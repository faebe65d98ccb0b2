"""Parts that the encoders share, as nodes of an OpenVINO graph over the tensors of a model.

States are float32[batch, tokens, width]; ids and mask int32[batch, tokens], 1 for a token and 0
for padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import Node
from openvino import opset15 as op

from inferry.models.encoders import Activation, Encoder
from inferry.models.weights import Tensor, Weights

# What libraries put before the names of an encoder's tensors when they save it.
_PREFIXES = (
    "",
    "bert.",
    "roberta.",
    "distilbert.",
    "mpnet.",
    "deberta.",
    "model.",
    "0.auto_model.",
)

Bias: TypeAlias = Callable[[Node, Node, "LayerNames"], Node]
"""Gives what is added to the scores of two tokens: float32[batch, heads, tokens, tokens], of the
queries, scaled already, and the keys of a layer: float32[batch, heads, tokens, width of a head]."""

_HIDDEN = -1e9  # not the least float, which is infinite in bfloat16


@dataclass(frozen=True, slots=True)
class LayerNames:
    """What a family calls the parts of a layer."""

    query: str
    key: str
    value: str
    attended: str
    attended_norm: str
    inner: str
    outer: str
    outer_norm: str


class Blocks:
    """Builds the parts of one encoder.

    types: the token type of each token, None where all have the first. prefix: before the names of
    the tensors, None to find it. needs_first_only: what comes behind reads the state of the first
    token alone, so that the last layer need not compute the others.
    """

    def __init__(
        self,
        encoder: Encoder,
        weights: Weights,
        types: Node | None = None,
        *,
        prefix: str | None = None,
        needs_first_only: bool = False,
    ) -> None:
        self.encoder = encoder
        self._weights = weights
        self._types = types
        self._needs_first_only = needs_first_only
        known = "embeddings.word_embeddings.weight"
        found = (start for start in _PREFIXES if start + known in weights)
        self._prefix = next(found, "") if prefix is None else prefix

    def table(self, name: str, rows: int, width: int = 0) -> Node:
        """Give the rows of an embedding as they are stored. width: 0 for that of the states."""
        tensor = self._weights.get(
            f"{self._prefix}{name}.weight", rows, width or self.encoder.width
        )
        return constant_of(tensor)

    def words(self, ids: Node) -> Node:
        """Look up the embedding of each token."""
        rows = self.table("embeddings.word_embeddings", self.encoder.vocabulary)
        return as_float(op.gather(rows, ids, integers(0)))

    def first_positions(self, ids: Node) -> Node:
        """Give the embeddings of the positions 0, 1, ...: [1, tokens, width]."""
        rows = self.table("embeddings.position_embeddings", self.encoder.positions)
        tokens = op.slice(op.shape_of(ids), integers([1]), integers([2]), integers([1]))
        first = op.slice(as_float(rows), integers([0]), tokens, integers([1]), integers([0]))
        return op.unsqueeze(first, integers(0))

    def counted_positions(self, ids: Node) -> Node:
        """Give the embeddings of positions that are counted from behind the padding id on.

        Padding stays at that id, and so does a token that stands literally in a text.
        """
        padding_id = np.int32(self.encoder.padding_id or 0)
        counts = op.convert(op.not_equal(ids, op.constant(padding_id)), "i32")
        places = op.multiply(op.cum_sum(counts, integers(1)), counts)
        rows = self.table("embeddings.position_embeddings", self.encoder.positions)
        return as_float(op.gather(rows, op.add(places, op.constant(padding_id)), integers(0)))

    def has(self, name: str) -> bool:
        """Tell whether the encoder has a tensor of this name."""
        return self._prefix + name in self._weights

    def behind(self) -> Blocks:
        """Give what builds the parts behind the encoder, whose names no prefix has."""
        return Blocks(self.encoder, self._weights, prefix="")

    def token_types(self) -> Node:
        """Give the embedding of each token's type: [batch, tokens, width].

        That of the first type, which single texts have, is [1, width].
        """
        rows = self.table("embeddings.token_type_embeddings", self.encoder.token_types)
        if self._types is not None and self.encoder.token_types > 1:
            return as_float(op.gather(rows, self._types, integers(0)))
        return op.slice(as_float(rows), integers([0]), integers([1]), integers([1]), integers([0]))

    def linear(self, states: Node, name: str, given: int, wanted: int) -> Node:
        """Multiply by a weight [wanted, given] and add its bias."""
        weight = self.tensor(f"{name}.weight", wanted, given)
        return _linear(states, weight, self.tensor(f"{name}.bias", wanted))

    def scaled_linear(self, states: Node, name: str, width: int, scale: float) -> Node:
        """Do so with a weight [width, width], all of it times `scale` before the graph runs."""
        factor = np.float32(scale)
        weight = op.constant(self.numbers(f"{name}.weight", width, width) * factor)
        return _linear(states, weight, op.constant(self.numbers(f"{name}.bias", width) * factor))

    def numbers(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Give a tensor as float32, to compute with it before the graph runs."""
        return self._weights.get(self._prefix + name, *shape).as_float32()

    def layer_norm(self, states: Node, name: str) -> Node:
        """Normalize each state, with the scale and shift called `name`."""
        scale, shift = f"{name}.weight", f"{name}.bias"
        if self._prefix + scale not in self._weights:  # names of models that came from TensorFlow
            scale, shift = f"{name}.gamma", f"{name}.beta"
        width = self.encoder.width
        return normalized(
            states, self.tensor(scale, width), self.tensor(shift, width), self.encoder.epsilon
        )

    def layers(
        self,
        states: Node,
        visible: Node | Bias,
        names: Iterable[LayerNames],
        *,
        scale: float | None = None,
    ) -> Node:
        """Run the layers: attention, then two linear maps, each added to its input and normalized.

        visible: float32 that is added to the scores of attention, broadcast to [batch, heads,
        tokens, tokens], or what gives that for a layer; see `visible_tokens`. scale: by which
        scores are multiplied before, None for the usual one over the root of the width of a head.
        """
        width, inner = self.encoder.width, self.encoder.inner
        last = self.encoder.layers - 1
        if scale is None:
            scale = (width // self.encoder.heads) ** -0.5
        for number, layer in enumerate(names):  # which may be said to be a billion
            seen = states
            if number == last and self._needs_first_only and _is_for_all(visible):
                states = op.slice(
                    states, integers([0]), integers([1]), integers([1]), integers([1])
                )
            attended = self._attention(states, seen, visible, layer, scale)
            attended = self.linear(attended, layer.attended, width, width)
            states = self.layer_norm(op.add(attended, states), layer.attended_norm)
            between = self.linear(states, layer.inner, width, inner)
            between = activated(between, self.encoder.activation)
            between = self.linear(between, layer.outer, inner, width)
            states = self.layer_norm(op.add(between, states), layer.outer_norm)
        return states

    def _attention(
        self,
        states: Node,
        seen: Node,
        visible: Node | Bias,
        layer: LayerNames,
        scale: float,
    ) -> Node:
        """Mix for each of `states` those of `seen` that it sees.

        Written out, since the runtime makes one kernel of these operations, transpositions
        included, that is faster than its own for the operation of this name.
        """
        width, heads = self.encoder.width, self.encoder.heads
        split = integers([0, 0, heads, width // heads])
        query, key, value = (
            op.transpose(op.reshape(mapped, split, special_zero=True), integers([0, 2, 1, 3]))
            for mapped in (
                self.scaled_linear(states, layer.query, width, scale),
                self.linear(seen, layer.key, width, width),
                self.linear(seen, layer.value, width, width),
            )
        )
        if callable(visible):
            visible = visible(query, key, layer)
        scores = op.matmul(query, key, transpose_a=False, transpose_b=True)
        shares = op.softmax(op.add(scores, visible), -1)
        attended = op.matmul(shares, value, transpose_a=False, transpose_b=False)
        attended = op.transpose(attended, integers([0, 2, 1, 3]))
        return op.reshape(attended, integers([0, 0, width]), special_zero=True)

    def tensor(self, name: str, *shape: int) -> Node:
        """Give a tensor of float32."""
        return as_float(constant_of(self._weights.get(self._prefix + name, *shape)))


def _linear(states: Node, weight: Node, bias: Node) -> Node:
    return op.add(op.matmul(states, weight, transpose_a=False, transpose_b=True), bias)


def _is_for_all(visible: Node | Bias) -> bool:
    """Tell whether every token sees the same ones."""
    return not callable(visible) and visible.get_output_partial_shape(0)[2] == 1


def visible_tokens(mask: Node) -> Node:
    """Let every token see those that are not padding: float32[batch, 1, 1, tokens].

    0 for what is seen, and for padding so little that nothing is left of it in a softmax.
    """
    hidden = op.subtract(op.constant(np.int32(1)), op.unsqueeze(mask, integers([1, 2])))
    return op.multiply(op.convert(hidden, "f32"), op.constant(np.float32(_HIDDEN)))


def normalized(states: Node, scale: Node, shift: Node, epsilon: float) -> Node:
    """Give states of zero mean and unit variance, then scaled and shifted."""
    centred = op.mvn(states, integers([-1]), True, epsilon, "inside_sqrt")  # noqa: FBT003  positional only
    return op.add(op.multiply(centred, scale), shift)


def activated(states: Node, activation: Activation) -> Node:
    """Apply the function between the linear maps."""
    match activation:
        case "gelu":
            return op.gelu(states, "erf")
        case "gelu_tanh":
            return op.gelu(states, "tanh")
        case "relu":
            return op.relu(states)
        case "silu":
            return op.swish(states)


def constant_of(tensor: Tensor) -> Node:
    """Give a tensor as a constant that shares its memory, and may not outlive it."""
    numbers = tensor.numbers
    if tensor.dtype == "BF16":
        numbers = ov.Tensor(numbers, ov.Shape(numbers.shape), ov.Type.bf16)
    return ov.op.Constant(numbers, shared_memory=True)


def constant_behind(output: ov.Output) -> NDArray[Any] | None:
    """Give the numbers of a constant, also a converted one, None of what is none."""
    node = output.get_node()
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return node.data if isinstance(node, ov.op.Constant) else None


def as_float(node: Node) -> Node:
    """Give the numbers of a node as float32."""
    return node if node.get_element_type() == ov.Type.f32 else op.convert(node, "f32")


def integers(values: int | Sequence[int]) -> Node:
    """Give int64 numbers, as axes and shapes are written."""
    return op.constant(np.array(values, np.int64))
