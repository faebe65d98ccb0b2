"""Runs TorchScript modules with PyTorch (extra `torch`), where they cannot be converted.

Only a worker imports this. The module is code of somebody else: its archive is looked at before
(`inferry.models.torchscript.archive`), and the sandbox of the worker prevents the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inferry.errors import UnusableModel
from inferry.modeling import Network, Precision, RuntimeOptions

if TYPE_CHECKING:
    from inferry.modeling import Ids, Rows

_REFUSED = ("aten::from_file", "aten::save")
_FEWEST, _MOST = 2, 4


class TorchScript:
    """The processor of this machine, by way of PyTorch."""

    def __init__(self) -> None:
        self._modules: dict[Path, Any] = {}

    def fastest(self) -> Precision:
        """Give the one arithmetic that modules are written in."""
        return "f32"

    def compile(self, graph: Path, options: RuntimeOptions, precision: Precision) -> Network:
        """Load a module, once for all options. Raises `UnusableModel`."""
        if graph not in self._modules:
            self._modules[graph] = _load(graph)
        return _Network(self._modules[graph], options.threads)


def _load(graph: Path) -> Any:
    """Read a module, and refuse what no model needs. Raises `UnusableModel`."""
    try:
        module = torch.jit.load(str(graph), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise UnusableModel(f"The module cannot be loaded: {error}") from error
    inputs = _inputs(module)
    if not _FEWEST <= inputs <= _MOST:
        raise UnusableModel(
            f"The module takes [{inputs}] tensors, it must be from [{_FEWEST}] to [{_MOST}]"
        )
    for kind in _REFUSED:
        if module.inlined_graph.findAllNodes(kind, recurse=True):
            raise UnusableModel(f"The module uses [{kind}], which no model needs")
    return module


def _inputs(module: Any) -> int:
    """Count the tensors that a module takes."""
    return len(list(module.forward.graph.inputs())) - 1


class _Network:
    """A module; its tensors are int64[batch, tokens]: ids, mask, token types, positions."""

    def __init__(self, module: Any, threads: int) -> None:
        self._module = module
        self._inputs = _inputs(module)
        self._threads = threads

    def run(self, ids: Ids, mask: Ids, marks: Ids | None) -> Rows:
        """Give the first output as float32.

        Raises `UnusableModel` when it is no tensor, and `RuntimeError` where the module fails.
        """
        torch.set_num_threads(self._threads)  # of the calling thread; others keep theirs
        places = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int64), ids.shape)
        given = (ids, mask, np.zeros_like(ids), places)[: self._inputs]
        tensors = [torch.from_numpy(one.astype(np.int64)) for one in given]
        try:
            with torch.inference_mode():
                found = self._module(*tensors)
        except torch.jit.Error as error:  # what the module itself raises
            raise RuntimeError(str(error)) from error
        while isinstance(found, tuple | list) and found:
            found = found[0]
        if not isinstance(found, torch.Tensor):
            raise UnusableModel(f"The module gives [{type(found).__name__}], not a tensor")
        return np.ascontiguousarray(found.to(torch.float32).numpy())
