"""Graphs that a folder brings ready made, as optimum exports them: `openvino/` and `onnx/`.

Whatever the inputs of such a graph are, they are computed from ours: token ids and mask.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import openvino as ov
from openvino import Node
from openvino import opset15 as op

from inferry.models.folder import ModelFolder
from inferry.models.graphs.blocks import integers
from inferry.models.layout import Module
from inferry.models.selection import GRAPHS, QUANTIZED

STATES, LOGITS = "last_hidden_state", "logits"
"""What outputs of such graphs are called."""

_OUTPUTS = (STATES, "token_embeddings", LOGITS)
_VECTOR = "sentence_embedding"


def find_graph(folder: ModelFolder, transformer: Module, *, quantized: bool) -> str | None:
    """Give the path of a graph, None when there is none."""
    paths = (transformer.file(name) for name in (QUANTIZED if quantized else GRAPHS))
    return next((path for path in paths if folder.has(path)), None)


def read_graph(
    folder: ModelFolder, path: str, ids: Node, mask: Node, types: Node | None = None
) -> ov.Output:
    """Give what a graph makes of `ids` and `mask`: states of tokens, else a row per text.

    types: the token types of pairs. Raises `UnusableModel`.
    """
    files = [folder.file(path)]
    if path.endswith(".xml"):
        files.append(folder.file(path.removesuffix("xml") + "bin"))
    try:
        model = ov.Core().read_model(*files)
    except RuntimeError as error:
        raise folder.unusable(path, f"cannot be read: {_last_line(error)}") from error
    for parameter in model.get_parameters():
        given = _input(parameter.output(0).get_names(), ids, mask, types)
        if given is None:
            names = sorted(parameter.output(0).get_names())
            raise folder.unusable(path, f"has the input {names}, which texts do not give")
        given = op.convert(given, parameter.get_element_type().to_string())
        parameter.output(0).replace(given.output(0))
    return _output(folder, path, model)


def _output(folder: ModelFolder, path: str, model: ov.Model) -> ov.Output:
    """Choose among the outputs: states under their usual names, any states, or a vector."""
    outputs = [result.input_value(0) for result in model.get_results()]
    named = {name: one for one in outputs for name in one.get_names()}
    ranked = {one.get_partial_shape().rank.get_length(): one for one in outputs}
    wanted = [*(named.get(name) for name in _OUTPUTS), ranked.get(3), named.get(_VECTOR)]
    found = next((one for one in [*wanted, ranked.get(2)] if one is not None), None)
    if found is None:
        raise folder.unusable(path, "gives neither states of tokens nor a vector per text")
    return found


def _input(names: Collection[str], ids: Node, mask: Node, types: Node | None) -> Node | None:
    """Give what an input of one of these names takes."""
    if "input_ids" in names:
        return ids
    if "attention_mask" in names:
        return mask
    if "token_type_ids" in names:
        return op.multiply(mask, op.constant(np.int32(0))) if types is None else types
    if "position_ids" in names:
        tokens = op.gather(op.shape_of(ids), integers(1), integers(0))
        places = op.range(integers(0), tokens, integers(1), output_type="i32")
        return op.broadcast(places, op.shape_of(ids))
    return None


def _last_line(error: Exception) -> str:
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), "")
