"""The runtime without a server: prints the median time of one text, in milliseconds.

`python -m bench.embedding.bare FOLDER PRECISION TOKENS`

The compiled graph alone is called, in this process, with one row of token ids: no tokenizing, no
queue, no answer.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from inferry.engine.runtimes.openvino import OpenVino
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.models.folder import ModelFolder
from inferry.models.graphs.build import build_graph
from inferry.models.pipeline import read_pipeline

_RUNS = 400


def main() -> None:
    """Run and print."""
    folder, precision, tokens = sys.argv[1:]
    source = ModelSource("bare", Path(folder))
    opened = ModelFolder(source)
    graph = build_graph(opened, read_pipeline(opened, source))
    runtime = OpenVino()
    wanted = runtime.fastest() if precision == "auto" else precision
    options = RuntimeOptions(threads=len(os.sched_getaffinity(0)))
    network = runtime.compile(graph.model, options, wanted)  # type: ignore[arg-type]
    ids = np.full((1, int(tokens)), 2160, np.int32)
    mask = np.ones_like(ids)
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        network.run(ids, mask, None)
        times.append(time.perf_counter() - started)
    print(sorted(times)[_RUNS // 2] * 1e3)


if __name__ == "__main__":
    main()
