"""Runs graphs on the processor with OpenVINO."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import properties
from openvino.properties import hint

from inferry.errors import UnusableModel
from inferry.modeling import Network, Precision, RuntimeOptions
from inferry.priorities import give_way

if TYPE_CHECKING:
    from inferry.modeling import Ids, Rows

_MOST_KEPT = 64
"""What a stream keeps of kernels that it made for shapes. More are not faster, each new shape of a
small model would take half a megabyte for good."""
_MOST_KEPT_BY_ALL = 128
"""What the library below keeps of them for all streams; 1,024 if it is not told."""

_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


class OpenVino:
    """The processor of this machine."""

    def __init__(self) -> None:
        os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = str(_MOST_KEPT_BY_ALL)
        self._core = ov.Core()

    def fastest(self) -> Precision:
        """Give bf16 where the processor multiplies it, else f32."""
        own = self._core.get_property("CPU", hint.inference_precision)
        return "bf16" if own == ov.Type.bf16 else "f32"

    def compile(self, graph: ov.Model, options: RuntimeOptions, precision: Precision) -> Network:
        """Compile `graph`. int8 is in the graph itself; what is left of it runs as fast as it can.

        Raises `UnusableModel` for what the runtime does not take.
        """
        arithmetic = self.fastest() if precision == "int8" else precision
        settings = {
            hint.inference_precision: _TYPES[arithmetic],
            hint.execution_mode: hint.ExecutionMode.PERFORMANCE,
            properties.inference_num_threads: options.threads * options.streams,
            properties.num_streams: options.streams,
            hint.enable_cpu_pinning: False,
            "CPU_RUNTIME_CACHE_CAPACITY": _MOST_KEPT,
        }
        prepare = give_way if options.gives_way else None
        try:  # in a thread of its own, from which those of the streams inherit
            with ThreadPoolExecutor(1, initializer=prepare) as thread:
                compiled = thread.submit(self._core.compile_model, graph, "CPU", settings).result()
        except RuntimeError as error:
            raise UnusableModel(f"The graph cannot be compiled: {error}") from error
        return _Network(compiled, options)


class _Network:
    """A compiled graph with a request per stream, each lent to one thread at a time."""

    def __init__(self, compiled: ov.CompiledModel, options: RuntimeOptions) -> None:
        self._gives_way = options.gives_way
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(options.streams):
            self._free.put(compiled.create_infer_request())

    def run(self, ids: Ids, mask: Ids, pooled: Ids | None) -> Rows:
        inputs = [ids, mask] if pooled is None else [ids, mask, pooled]
        request = self._free.get()
        try:
            for place, numbers in enumerate(inputs):
                request.set_input_tensor(place, ov.Tensor(numbers, shared_memory=True))
            if self._gives_way:
                request.start_async()  # by a thread of the stream, whose priority it has
                request.wait()
            else:  # by this thread, which neither wakes another one nor waits to be woken
                request.infer()
            # A copy, since the request's own memory is overwritten by its next batch.
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)
        finally:
            self._free.put(request)
