"""Graphs in 8-bit integers, made by NNCF of what they compute of some texts.

Source: https://docs.openvino.ai, "Basic Quantization Flow".
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import openvino as ov
from openvino import Node

from inferry.errors import StoreFailure
from inferry.extras import extra
from inferry.models.graphs.blocks import constant_behind

if TYPE_CHECKING:
    from inferry.modeling import Ids


class Nncf:
    """What quantizes graphs. Nothing is sent to anybody, see `inferry.extras`."""

    def __init__(self, model_id: str) -> None:
        """Raise `UnusableModel` where the extra is not installed. model_id: what is quantized."""
        with extra("quantize", f"the model [{model_id}] cannot be quantized"):
            import nncf
        nncf.set_log_level(logging.ERROR)
        self._nncf = nncf

    def __call__(self, body: ov.Model, inputs: Sequence[Mapping[str, Ids]]) -> ov.Model:
        """Quantize a graph. inputs: what it is given, by the names of its inputs."""
        nncf = self._nncf
        with redirect_stdout(sys.stderr):  # where the bars of progress belong
            return nncf.quantize(
                body,
                nncf.Dataset(inputs),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(inputs),
                ignored_scope=nncf.IgnoredScope(names=_left_alone(body)),
            )


def save_graph(graph: ov.Model, file: Path) -> None:
    """Write `file`, an `.xml`, and the `.bin` beside it. Raises `StoreFailure`."""
    try:
        ov.save_model(graph, file)
    except RuntimeError as error:  # which does not say more than that writing failed
        raise StoreFailure(
            f"cannot write the graph [{file}], is the disk full? ({error})"
        ) from error


def _left_alone(body: ov.Model) -> list[str]:
    """Name the products that stay as they are.

    Those of attention, of two things that are computed: at bf16 they are faster, and closer. And
    that of a masked language model with its vocabulary: `graphs.largest` takes it apart, and its
    logits are the weights themselves.
    """
    products = [node for node in body.get_ordered_ops() if node.get_type_name() == "MatMul"]
    return [one.get_friendly_name() for one in products if not _has_weight(one) or _is_last(one)]


def _has_weight(product: Node) -> bool:
    return any(constant_behind(product.input_value(place)) is not None for place in range(2))


def _is_last(product: Node) -> bool:
    """Tell whether a product for each token, and a bias, are what the graph gives."""
    is_for_tokens = product.get_output_partial_shape(0).rank.get_length() == 3
    behind = [reader for total in _readers(product) for reader in _readers(total)]
    return is_for_tokens and any(one.get_type_name() == "Result" for one in behind)


def _readers(node: Node) -> list[Node]:
    """Give what reads the first output of a node; a `Result` has one that nothing reads."""
    return [one.get_node() for one in node.output(0).get_target_inputs()]
