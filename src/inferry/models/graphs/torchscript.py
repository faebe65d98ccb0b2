"""A TorchScript module as an OpenVINO graph, whose inputs are those of all our graphs.

A module takes two to four tensors int64[batch, tokens], in this order: token ids, mask, token types
and positions. Of single texts and of pairs alike the types are zeros, and positions count from 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import Node
from openvino import opset15 as op

from inferry.errors import UnusableModel
from inferry.models.graphs.blocks import as_float, integers
from inferry.models.graphs.largest import raise_maxima
from inferry.models.graphs.masked_lm import pool_splade
from inferry.models.sparse import SpladeHead

_INPUTS = (2, 3, 4)


def convert_module(path: Path) -> ov.Model:
    """Convert a module; the graph gives its first output, as float32.

    Raises `UnusableModel` for what OpenVINO cannot convert.
    """
    import torch
    from openvino.frontend import (
        FrontEndManager,
        GeneralFailure,
        NotImplementedFailure,
        OpConversionFailure,
        OpValidationFailure,
    )
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    failures = (GeneralFailure, NotImplementedFailure, OpConversionFailure, OpValidationFailure)
    module = torch.jit.load(str(path), map_location="cpu").eval()
    try:
        decoder = TorchScriptPythonDecoder(module)  # the graph reads its weights from there
        frontend = FrontEndManager().load_by_framework("pytorch")
        loaded = frontend.load(decoder)
        for place in loaded.get_inputs():
            loaded.set_partial_shape(place, ov.PartialShape([-1, -1]))
            loaded.set_element_type(place, ov.Type.i64)
        return _with_usual_inputs(frontend.convert(loaded))
    except (*failures, RuntimeError) as error:
        raise UnusableModel(f"the module cannot be converted: {error}") from error


def read_converted(path: Path, *, splade: SpladeHead | None) -> ov.Model:
    """Read what `save_converted` wrote. splade: pools logits of tokens, where the task asks it."""
    model = ov.Core().read_model(path)
    if splade is None:
        return model
    ids, mask = model.get_parameters()
    logits = model.get_results()[0].input_value(0)
    return ov.Model([pool_splade(splade, logits, mask)], [ids, mask], "module")


def save_converted(model: ov.Model, path: Path) -> None:
    """Write a graph, at full precision."""
    ov.save_model(model, path, compress_to_fp16=False)


def _with_usual_inputs(model: ov.Model) -> ov.Model:
    """Feed a module's parameters from int32 ids and mask. Raises `UnusableModel`."""
    given = model.get_parameters()
    if len(given) not in _INPUTS:
        raise UnusableModel(f"the module takes [{len(given)}] tensors, it must be one of {_INPUTS}")
    ids = op.parameter([-1, -1], ov.Type.i32, "ids")
    mask = op.parameter([-1, -1], ov.Type.i32, "mask")
    sources = (ids, mask, _zeros_like(ids), _positions_of(ids))
    for parameter, source in zip(given, sources, strict=False):
        parameter.output(0).replace(op.convert(source, "i64").output(0))
    output = model.get_results()[0].input_value(0)
    usual = ov.Model([as_float(output)], [ids, mask], "module")
    raise_maxima(usual, mask)
    return usual


def _zeros_like(ids: Node) -> Node:
    return op.multiply(ids, op.constant(np.int32(0)))


def _positions_of(ids: Node) -> Node:
    """Give int32[batch, tokens]: 0, 1, 2, ... in each row."""
    shape = op.shape_of(ids, "i32")
    tokens = op.squeeze(op.gather(shape, integers([1]), integers(0)), integers([0]))
    zero, one = op.constant(np.int32(0)), op.constant(np.int32(1))
    return op.broadcast(op.range(zero, tokens, one, "i32"), shape)
