"""A model folder as one OpenVINO graph: token ids and mask in, one row of numbers per text out.

The families that we know are built from `model.safetensors`, so that all of their models run the
same verified graph. For others the folder's own graph is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import assert_never

import openvino as ov
from openvino import Node
from openvino import opset15 as op

from inferry.models.encoders import Encoder, Family
from inferry.models.folder import ModelFolder
from inferry.models.graphs.bert import build_bert
from inferry.models.graphs.blocks import Blocks, as_float
from inferry.models.graphs.deberta import build_deberta
from inferry.models.graphs.distilbert import build_distilbert
from inferry.models.graphs.files import LOGITS, STATES, find_graph, read_graph
from inferry.models.graphs.head import build_head, finish
from inferry.models.graphs.masked_lm import build_token_logits, pool_splade
from inferry.models.graphs.mpnet import build_mpnet
from inferry.models.graphs.roberta import build_roberta
from inferry.models.graphs.score import build_label_logits, score
from inferry.models.heads import Head
from inferry.models.pipeline import Pipeline
from inferry.models.scoring import ScoreHead
from inferry.models.sparse import SpladeHead
from inferry.models.weights import Weights

_FAMILIES: Mapping[Family, Callable[[Blocks, Node, Node], Node]] = MappingProxyType(
    {
        "bert": build_bert,
        "roberta": build_roberta,
        "distilbert": build_distilbert,
        "mpnet": build_mpnet,
        "deberta": build_deberta,
    }
)


@dataclass(frozen=True, slots=True)
class BuiltGraph:
    """A graph, and the files whose memory it reads while it runs, None when it has its own."""

    model: ov.Model
    weights: Weights | None

    def forget(self) -> None:
        """Give back the memory of weights that the runtime has taken over."""
        if self.weights:
            self.weights.forget()


def build_graph(folder: ModelFolder, pipeline: Pipeline, *, quantized: bool = False) -> BuiltGraph:
    """Build the graph of a folder, or of its int8 file. Raises `UnusableModel`.

    Its inputs are int32[batch, tokens]: token ids, mask and, where the head leaves out tokens of
    the prompt, those that are pooled, or the token types of pairs. Its output is
    float32[batch, head.width].
    """
    inputs = _Inputs(_parameter("ids"), _parameter("mask"))
    if isinstance(pipeline.head, ScoreHead):
        inputs = replace(inputs, types=_parameter("types"))
    elif not pipeline.head.includes_prompt:
        inputs = replace(inputs, pooled=_parameter("pooled"))
    rows, weights = _build(folder, pipeline, inputs, quantized=quantized)
    return BuiltGraph(ov.Model([rows], inputs.given(), "text"), weights)


def build_body(folder: ModelFolder, pipeline: Pipeline) -> BuiltGraph:
    """Build of our own graph what `read_graph` takes: without what is done behind the encoder.

    The inputs are `input_ids`, `attention_mask` and, where pairs are told apart by them,
    `token_type_ids`. The output is float32[batch, tokens, width] of states or, of a masked language
    model, logits; of a classifier float32[batch, labels]. Raises `UnusableModel`.
    """
    encoder, head = pipeline.encoder, pipeline.head
    if encoder is None:
        path = pipeline.transformer.file("config.json")
        raise folder.unusable(path, "is of a family that is not built here")
    has_types = isinstance(head, ScoreHead) and encoder.token_types > 1
    inputs = _Inputs(
        _named("input_ids"),
        _named("attention_mask"),
        _named("token_type_ids") if has_types else None,
    )
    weights = Weights(folder, pipeline.transformer.file("model.safetensors"))
    blocks, states = _build_encoder(encoder, pipeline, weights, inputs)
    match head:
        case Head():
            output, name = states, STATES
        case SpladeHead():
            output, name = build_token_logits(blocks, states).output(0), LOGITS
        case ScoreHead():
            output, name = build_label_logits(blocks, states, head.labels).output(0), LOGITS
        case _:
            assert_never(head)
    output.get_tensor().set_names({name})
    return BuiltGraph(ov.Model([output], inputs.given(), "body"), weights)


def has_int8_only(folder: ModelFolder, pipeline: Pipeline) -> bool:
    """Tell whether the only graph that a folder can run is one in 8-bit integers."""
    has_float = find_graph(folder, pipeline.transformer, quantized=False) or (
        pipeline.encoder and _has_weights(folder, pipeline)
    )
    return not has_float and bool(find_graph(folder, pipeline.transformer, quantized=True))


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a graph is given. types: of pairs. pooled: the tokens that count, None for all."""

    ids: Node
    mask: Node
    types: Node | None = None
    pooled: Node | None = None

    def given(self) -> list[Node]:
        """List those that there are."""
        every = (self.ids, self.mask, self.types, self.pooled)
        return [one for one in every if one is not None]


def _build(
    folder: ModelFolder, pipeline: Pipeline, inputs: _Inputs, *, quantized: bool
) -> tuple[Node, Weights | None]:
    """Choose the graph: our own where we know the family, else a file's."""
    transformer, encoder = pipeline.transformer, pipeline.encoder
    is_there = _has_weights(folder, pipeline)
    graph = find_graph(folder, transformer, quantized=quantized)
    if encoder and not quantized and (is_there or graph is None):
        weights = Weights(folder, transformer.file("model.safetensors"))
        blocks, states = _build_encoder(encoder, pipeline, weights, inputs)
        return _build_head(blocks, pipeline, states, inputs), weights
    if graph is None:
        kind = "int8 graph" if quantized else "graph"
        raise folder.unusable(
            "",
            f"it has no {kind} in [openvino/] or [onnx/]"
            + (
                ""
                if quantized
                else f", and none is built of its [{transformer.file('config.json')}]"
            ),
        )
    found = read_graph(folder, graph, inputs.ids, inputs.mask, inputs.types)
    return _finish(folder, pipeline, found, inputs), None


def _has_weights(folder: ModelFolder, pipeline: Pipeline) -> bool:
    path = pipeline.transformer.file("model.safetensors")
    return folder.has(path) or folder.has(f"{path}.index.json")


def _build_encoder(
    encoder: Encoder, pipeline: Pipeline, weights: Weights, inputs: _Inputs
) -> tuple[Blocks, ov.Output]:
    """Give what builds the parts of a model, and its states of tokens for `build_head`."""
    first_only = pipeline.head.needs_first_only
    blocks = Blocks(encoder, weights, inputs.types, needs_first_only=first_only)
    return blocks, _FAMILIES[encoder.family](blocks, inputs.ids, inputs.mask).output(0)


def _build_head(blocks: Blocks, pipeline: Pipeline, states: ov.Output, inputs: _Inputs) -> Node:
    """Put the head on states of tokens that our own graph gives."""
    match pipeline.head:
        case Head() as head:
            return build_head(head, states, inputs.pooled or inputs.mask)
        case SpladeHead() as head:
            return pool_splade(head, build_token_logits(blocks, states), inputs.mask)
        case ScoreHead() as head:
            return score(head, build_label_logits(blocks, states, head.labels))
    assert_never(pipeline.head)


def _finish(folder: ModelFolder, pipeline: Pipeline, found: ov.Output, inputs: _Inputs) -> Node:
    """Put the head on what a graph gives that was read."""
    has_states = found.get_partial_shape().rank.get_length() == 3
    match pipeline.head:
        case Head() as head:
            if not has_states:
                return finish(head, found)
            _check_width(folder, found, pipeline.width, "states")
            return build_head(head, found, inputs.pooled or inputs.mask)
        case SpladeHead() as head:
            _check_width(folder, found, head.width, "logits")
            return pool_splade(head, found, inputs.mask) if has_states else as_float(found)
        case ScoreHead() as head:
            _check_width(folder, found, head.labels, "logits")
            return score(head, found)
    assert_never(pipeline.head)


def _check_width(folder: ModelFolder, found: ov.Output, expected: int, what: str) -> None:
    width = found.get_partial_shape()[-1]
    if width.is_static and width.get_length() != expected:
        raise folder.unusable(
            "", f"its graph gives {what} of width [{width}], its configuration says [{expected}]"
        )


def _parameter(name: str) -> Node:
    return op.parameter([-1, -1], ov.Type.i32, name)


def _named(name: str) -> Node:
    """Give an input that has its name also in files."""
    parameter = _parameter(name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter
