"""A model folder as one OpenVINO graph: token ids and mask in, one vector per text out.

The families that we know are built from `model.safetensors`, so that all of their models run the
same verified graph. For others the folder's own graph is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import openvino as ov
from openvino import Node
from openvino import opset15 as op

from inferry.models.encoders import Family
from inferry.models.folder import ModelFolder
from inferry.models.graphs.bert import build_bert
from inferry.models.graphs.blocks import Blocks
from inferry.models.graphs.distilbert import build_distilbert
from inferry.models.graphs.files import find_graph, read_graph
from inferry.models.graphs.head import build_head, finish
from inferry.models.graphs.mpnet import build_mpnet
from inferry.models.graphs.roberta import build_roberta
from inferry.models.pipeline import Pipeline
from inferry.models.weights import Weights

_FAMILIES: Mapping[Family, Callable[[Blocks, Node, Node], Node]] = MappingProxyType(
    {
        "bert": build_bert,
        "roberta": build_roberta,
        "distilbert": build_distilbert,
        "mpnet": build_mpnet,
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
    the prompt, those that are pooled. Its output is float32[batch, head.width].
    """
    ids, mask = (op.parameter([-1, -1], ov.Type.i32, name) for name in ("ids", "mask"))
    pooled = mask
    if not pipeline.head.includes_prompt:
        pooled = op.parameter([-1, -1], ov.Type.i32, "pooled")
    found, weights = _encode(folder, pipeline, ids, mask, quantized=quantized)
    width = found.get_partial_shape()[-1]
    if found.get_partial_shape().rank.get_length() == 3:
        if width.is_static and width.get_length() != pipeline.width:
            raise folder.unusable(
                "",
                f"its graph gives states of width [{width}], its configuration says"
                f" [{pipeline.width}]",
            )
        rows = build_head(pipeline.head, found, pooled)
    else:
        rows = finish(pipeline.head, found)
    inputs = [ids, mask] if pooled is mask else [ids, mask, pooled]
    return BuiltGraph(ov.Model([rows], inputs, "text"), weights)


def _encode(
    folder: ModelFolder, pipeline: Pipeline, ids: Node, mask: Node, *, quantized: bool
) -> tuple[ov.Output, Weights | None]:
    """Choose the graph of the encoder: our own where we know the family, else a file's."""
    transformer, encoder = pipeline.transformer, pipeline.encoder
    path = transformer.file("model.safetensors")
    is_there = folder.has(path) or folder.has(f"{path}.index.json")
    graph = find_graph(folder, transformer, quantized=quantized)
    if encoder and not quantized and (is_there or graph is None):
        weights = Weights(folder, path)
        blocks = Blocks(encoder, weights)
        return _FAMILIES[encoder.family](blocks, ids, mask).output(0), weights
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
    return read_graph(folder, graph, ids, mask), None
