"""The arithmetic limit of this machine: large matrix products with PyTorch, NumPy and OpenVINO.

A script for the environment of the peers; prints `{"f32": GFLOP/s, "bf16": GFLOP/s}`, the best of
several shapes, libraries and runs on all cores.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino import opset13 as op

_SHAPES = ((2048, 2048, 2048), (4096, 384, 1536), (4096, 768, 3072))
_RUNS = 15


def main() -> None:
    """Multiply and print."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    best = {"f32": 0.0, "bf16": 0.0}
    with torch.inference_mode():
        for rows, inner, columns in _SHAPES:
            operations = 2 * rows * inner * columns
            given, weight = torch.randn(rows, inner), torch.randn(columns, inner)
            for precision, multiply in _products(given, weight):
                speed = operations / _shortest(multiply) / 1e9
                best[precision] = max(best[precision], speed)
    print(json.dumps(best))


def _products(given: torch.Tensor, weight: torch.Tensor) -> list[tuple[str, Callable[[], object]]]:
    numbers, transposed = given.numpy(), weight.numpy().T.copy()
    out = np.empty((len(numbers), transposed.shape[1]), np.float32)
    linear = torch.nn.functional.linear
    halves = given.bfloat16(), weight.bfloat16()
    return [
        ("f32", lambda: np.matmul(numbers, transposed, out=out)),
        ("f32", lambda: linear(given, weight)),
        ("bf16", lambda: linear(*halves)),
        *((precision, _compiled(numbers, transposed, precision)) for precision in ("f32", "bf16")),
    ]


def _compiled(
    given: NDArray[np.float32], weight: NDArray[np.float32], precision: str
) -> Callable[[], object]:
    """Give the product with a constant weight as OpenVINO runs it."""
    rows = op.parameter(list(given.shape), ov.Type.f32)
    product = op.matmul(rows, op.constant(weight), transpose_a=False, transpose_b=False)
    compiled = ov.Core().compile_model(
        ov.Model([product], [rows]), "CPU", {"INFERENCE_PRECISION_HINT": precision}
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(given, shared_memory=True))
    return request.infer


def _shortest(multiply: Callable[[], object]) -> float:
    """Give the time of the fastest of several runs, seconds."""
    multiply()
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        multiply()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
