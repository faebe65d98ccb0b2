"""Uploaded modules: our server beside PyTorch on the same file, a text at a time and in batches.

A module is uploaded over HTTP and converted by the server; what is timed at ours is the whole way
of a request. Elasticsearch runs a module with PyTorch, one text in each call.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import hypot
from operator import mul
from pathlib import Path
from statistics import median
from typing import Any

from bench.embedding.candidates import Peer, Served, talking, worker_of
from bench.embedding.client import Target
from bench.embedding.corpora import Corpus, build_corpora
from bench.embedding.folders import MODELS, OFFLINE, make_models
from bench.processes import ROOT, Inferry, inferry
from bench.report import Plan, Table

SHAPES: Mapping[str, str] = {
    "demo": "the demo model, exported by eland",
    "elser": "the shape of ELSER: BERT-base and weights of 30,522 tokens",
    "e5": "the shape of E5-small: 12 layers, 250,037 tokens",
}
"""Modules, see `modules.py`."""

_EVERY = {"demo": 1, "elser": 4, "e5": 2}
"""Of the texts, so that a run takes seconds with each."""

_TASKS = {"text_embedding": "text_embedding", "text_expansion": "sparse_embedding"}
_MODULES = MODELS / "modules"
_PYTHON = ROOT / ".venv-clients/eland/bin/python"
_BATCH_SIZES = (4, 8, 16)
_PART_BYTES = 1024 * 1024
_FLOOR, _GOAL = 3.0, 4.0
_LEAST_COSINE = 0.99


def measure_uploads(name: str, plan: Plan) -> list[Table]:
    """Have a module run here and there, by turns."""
    _make_modules()
    mixed = build_corpora(MODELS / "source/tokenizer.json")["mixed"]
    corpus = Corpus(mixed.texts[:: _EVERY[name]], mixed.lengths[:: _EVERY[name]])
    folder = _MODULES / name
    with ExitStack() as stack:
        script = str(ROOT / "bench/embedding/libtorch.py")
        libtorch = stack.enter_context(talking([str(_PYTHON), script, str(folder)], "libtorch"))

        def seconds(texts: Sequence[str], size: int) -> float:
            return float(libtorch.ask(embed=texts, size=size)["seconds"])

        served = {}
        for precision in ("auto", "f32"):
            ours = _ours(plan.folder / f"{name}-{precision}", folder, precision)
            arithmetic, one = stack.enter_context(ours)
            served[f"inferry, {precision}: {arithmetic}"] = one
        _check(folder, libtorch, served, corpus.texts[0])
        size = min(_BATCH_SIZES, key=lambda one: seconds(corpus.texts[::3], one))
        runs: dict[str, Callable[[], float]] = {
            label: partial(one.seconds, corpus.texts) for label, one in served.items()
        }
        for run in runs.values():
            run()
        runs["PyTorch, one text per call"] = partial(seconds, corpus.texts, 1)
        runs[f"PyTorch, batches of {size}"] = partial(seconds, corpus.texts, size)
        found: dict[str, list[float]] = {label: [] for label in runs}
        for _ in range(plan.rounds):
            for label, run in runs.items():
                found[label].append(run())
    return [_table(name, corpus, {label: median(several) for label, several in found.items()})]


@contextmanager
def _ours(data_dir: Path, folder: Path, precision: str) -> Iterator[tuple[str, Served]]:
    """Run our server with a module uploaded to it, behind an endpoint on all cores.

    Also tells the arithmetic that it has.
    """
    config = json.loads((folder / "config.json").read_text())
    (task,) = config
    with inferry(data_dir, core=None, INFERRY_ENGINE__PRECISION=precision) as server:
        _upload(server, folder, config)
        cores = len(os.sched_getaffinity(0))
        threads = 1 << (cores.bit_length() - 1)
        settings = {"model_id": "bench", "num_threads": threads, "num_allocations": 1}
        definition = {"service": "elasticsearch", "service_settings": settings}
        path = f"/_inference/{_TASKS[task]}/on-bench"
        _send(server, "PUT", f"{path}?timeout=300s", definition)
        headers = {"Authorization": server.authorization}
        served = Served(Target(server.port, path, headers, {}), worker_of(server))
        yield _arithmetic(server), served


def _upload(server: Inferry, folder: Path, config: Mapping[str, Any]) -> None:
    """Send a module as eland does."""
    path = "/_ml/trained_models/bench"
    _send(server, "PUT", path, {"model_type": "pytorch", "inference_config": config})
    module = (folder / "module.pt").read_bytes()
    starts = range(0, len(module), _PART_BYTES)
    for number, start in enumerate(starts):
        part = {
            "definition": base64.b64encode(module[start : start + _PART_BYTES]).decode(),
            "total_definition_length": len(module),
            "total_parts": len(starts),
        }
        _send(server, "PUT", f"{path}/definition/{number}", part)
    _send(server, "PUT", f"{path}/vocabulary", json.loads((folder / "vocabulary.json").read_text()))


def _send(server: Inferry, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=320)
    headers = {"Authorization": server.authorization, "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    told = reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(told)
    return json.loads(told)


def _arithmetic(server: Inferry) -> str:
    """Tell at which precision the module runs, and how close that is to f32."""
    (row,) = _send(server, "GET", "/_ml/trained_models/bench/_stats")["trained_model_stats"]
    shown = row["deployment_stats"]["inferry_arithmetic"]
    sums = " with sums at f32" if shown.get("exact_sums") else ""
    cosine = f", cosine {shown['cosine']:.4f}" if "cosine" in shown else ""
    return f"{shown['precision']}{sums}{cosine}"


def _check(folder: Path, libtorch: Peer, served: Mapping[str, Served], text: str) -> None:
    """Make sure that all compute the same. Raises for the first that does not."""
    expected = libtorch.vector(text)
    tokens = json.loads((folder / "vocabulary.json").read_text())["vocabulary"]
    for label, one in served.items():
        found = _row_of(one, text, tokens)
        cosine = sum(map(mul, found, expected)) / hypot(*found) / hypot(*expected)
        if cosine < _LEAST_COSINE:
            raise RuntimeError(f"[{label}] gives something else: cosine {cosine:.5f}")


def _row_of(served: Served, text: str, tokens: Sequence[str]) -> list[float]:
    """Read a vector, or the weights of tokens as one."""
    (answer,) = served.drive([text], each=1, connections=1).answers
    ((kind, items),) = json.loads(answer).items()
    embedding = items[0]["embedding"]
    if kind == "text_embedding":
        return list(embedding)
    return [embedding.get(token.replace(".", "__"), 0.0) for token in tokens]


def _table(name: str, corpus: Corpus, seconds: Mapping[str, float]) -> Table:
    table = Table(
        f"Uploaded, {SHAPES[name]}: {len(corpus.texts)} texts of {min(corpus.lengths)}-"
        f"{max(corpus.lengths)} tokens as the demo model counts; ratios are of inferry to each"
    )
    ours = next(iter(seconds))
    held = next(label for label in seconds if label.endswith("per call"))
    for label, taken in seconds.items():
        is_held = label == held
        table.add(
            label,
            f"{corpus.tokens / taken:,.0f} tokens/s, {taken:.2f} s",
            ratio=None if label == ours else taken / seconds[ours],
            floor=_FLOOR if is_held else None,
            goal=_GOAL if is_held else None,
        )
    return table


def _make_modules() -> None:
    """Make the modules, unless they are there. Takes a minute, and no network."""
    make_models()
    if not _PYTHON.exists():
        raise RuntimeError("the environment of eland is not there: make clients")
    script = ROOT / "bench/embedding/modules.py"
    command = [str(_PYTHON), str(script), str(MODELS / "source"), str(_MODULES)]
    subprocess.run(command, check=True, env={**os.environ, **OFFLINE})
