"""Tokens per second of our server and of its peers, on one corpus."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from math import hypot
from operator import mul
from pathlib import Path
from statistics import median

from bench.embedding.candidates import PEERS, Candidate, infinity, ours, peer
from bench.embedding.corpora import Corpus
from bench.embedding.folders import program_of_infinity, python_of_peers
from bench.processes import ROOT
from bench.report import Plan, Table

_OURS, _OURS_F32 = "inferry", "inferry f32"
_LAYERS, _WIDTH, _INNER = 6, 384, 1536  # of the demo model

# The fastest of these peers on mixed texts: floor and goal of our tokens per second to theirs.
_HELD: Mapping[str, tuple[float, float]] = {
    "sentence-transformers": (1.1, 1.4),
    "openvino-genai": (1.3, 1.7),
    "infinity": (2.8, 3.5),
    "fastembed": (4.0, 5.0),
}
_OF_PEAK: Mapping[str, tuple[float, float]] = {_OURS: (0.55, 0.75), _OURS_F32: (0.70, 0.85)}
_MEGABYTES = (450.0, 350.0)
_LEAST_COSINE = 0.999


def measure_speed(name: str, corpus: Corpus, plan: Plan) -> list[Table]:
    """Have every candidate embed the texts, by turns; give speeds and memory."""
    with ExitStack() as stack:
        candidates = {
            label: stack.enter_context(started)
            for label, started in _candidates(plan.folder, name).items()
        }
        _check(candidates, max(corpus.texts, key=len))
        tuned = {label: one.tune(corpus.texts[::4]) for label, one in candidates.items()}
        speeds = _alternate(candidates, corpus, plan.rounds)
        peaks = {label: one.peak_mb() for label, one in candidates.items()}
    tables = [_speeds(name, corpus, speeds, tuned)]
    if python := python_of_peers():
        tables.append(_of_peak(name, corpus, speeds, _peaks_of_machine(python)))
    return [*tables, _memory(name, peaks)]


def _candidates(folder: Path, corpus: str) -> dict[str, AbstractContextManager[Candidate]]:
    """Give what is installed, not started yet."""
    found: dict[str, AbstractContextManager[Candidate]] = {
        _OURS: ours(folder / f"{corpus}-auto", precision="auto"),
        _OURS_F32: ours(folder / f"{corpus}-f32", precision="f32"),
    }
    if python := python_of_peers():
        found |= {name: peer(python, name) for name in PEERS}
    if program := program_of_infinity():
        found |= {
            f"infinity {dtype}": infinity(program, dtype) for dtype in ("float32", "bfloat16")
        }
    return found


def _check(candidates: Mapping[str, Candidate], text: str) -> None:
    """Make sure that all compute the same. Raises for the first that does not."""
    expected = candidates[_OURS_F32].vector(text)
    for label, one in candidates.items():
        found = one.vector(text)
        cosine = sum(map(mul, found, expected)) / hypot(*found) / hypot(*expected)
        if cosine < _LEAST_COSINE:
            raise RuntimeError(f"[{label}] gives another vector: cosine {cosine:.5f}")


def _alternate(
    candidates: Mapping[str, Candidate], corpus: Corpus, rounds: int
) -> dict[str, float]:
    """Give the median tokens per second of each, after one run that warms it up."""
    for one in candidates.values():
        one.seconds(corpus.texts)
    found: dict[str, list[float]] = {label: [] for label in candidates}
    for _ in range(rounds):
        for label, one in candidates.items():
            found[label].append(corpus.tokens / one.seconds(corpus.texts))
    return {label: median(several) for label, several in found.items()}


def _speeds(
    name: str, corpus: Corpus, speeds: Mapping[str, float], tuned: Mapping[str, str]
) -> Table:
    middle = median(corpus.lengths)
    table = Table(
        f"Embedding, {name}: {len(corpus.texts)} texts of {min(corpus.lengths)}-"
        f"{max(corpus.lengths)} tokens, median {middle:.0f}; ratios are of inferry to each"
    )
    held = {_fastest(speeds, start): both for start, both in _HELD.items() if name == "mixed"}
    for label, speed in speeds.items():
        floor, goal = held.get(label, (None, None))
        ratio = None if label == _OURS else speeds[_OURS] / speed
        figure = f"{speed:,.0f} tokens/s ({tuned[label]})"
        table.add(label, figure, ratio=ratio, floor=floor, goal=goal)
    return table


def _fastest(speeds: Mapping[str, float], start: str) -> str:
    """Name the fastest of the candidates whose names begin with `start`."""
    several = [label for label in speeds if label.startswith(start)]
    return max(several, key=lambda label: speeds[label], default="")


def _of_peak(
    name: str, corpus: Corpus, speeds: Mapping[str, float], peaks: Mapping[str, float]
) -> Table:
    table = Table(f"Arithmetic, {name}: share of the largest measured matrix product; no padding")
    for label, peak in ((_OURS, peaks["bf16"]), (_OURS_F32, peaks["f32"])):
        rate = _operations(corpus.lengths) / corpus.tokens * speeds[label] / 1e9
        floor, goal = _OF_PEAK[label]
        figure = f"{rate:,.0f} of {peak:,.0f} GFLOP/s"
        table.add(label, figure, ratio=rate / peak, floor=floor, goal=goal)
    return table


def _operations(lengths: Sequence[int]) -> int:
    """Count the multiplications and additions in the products of texts of these lengths."""
    per_token = 2 * (4 * _WIDTH * _WIDTH + 2 * _WIDTH * _INNER) * _LAYERS
    return sum(per_token * one + 4 * one * one * _WIDTH * _LAYERS for one in lengths)


def _peaks_of_machine(python: Path) -> dict[str, float]:
    script = ROOT / "bench/embedding/gemm.py"
    told = subprocess.run([str(python), str(script)], capture_output=True, text=True, check=True)
    peaks: dict[str, float] = json.loads(told.stdout)
    return peaks


def _memory(name: str, peaks: Mapping[str, float]) -> Table:
    table = Table(f"Memory after it, {name}: most of the process with the model, resident")
    floor, goal = _MEGABYTES
    for label, peak in peaks.items():
        is_held = label == _OURS
        table.add(
            label,
            f"{peak:.0f} MB",
            ratio=peak / floor if is_held else None,
            floor=1.0 if is_held else None,
            goal=goal / floor if is_held else None,
            is_better_below=True,
        )
    return table
