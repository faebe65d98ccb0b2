"""Documents ranked in a second: our server beside sentence-transformers' `CrossEncoder`.

A cross-encoder in the shape of the demo model, with a random classifier: what it finds means
nothing, what it costs does. One request has a query and 100 documents of 160 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median

from bench.embedding.candidates import RANKERS, Candidate, our_ranker, peer
from bench.embedding.corpora import documents_of
from bench.embedding.folders import MODELS, QUANTIZED, QUERY, python_of_peers
from bench.report import Plan, Table

_DOCUMENTS, _TOKENS = 100, 160
_OURS, _OURS_F32, _OURS_INT8 = "inferry", "inferry f32", "inferry int8"
_FLOOR, _GOAL = 2.0, 2.0
_FARTHEST = 0.02
"""How far scores in bfloat16, or in 8 bits, may be from those in float32."""


def measure_ranking(plan: Plan) -> list[Table]:
    """Have every candidate rank the documents, by turns."""
    documents = documents_of(MODELS / "source/tokenizer.json", _DOCUMENTS, _TOKENS)
    with ExitStack() as stack:
        candidates = {
            label: stack.enter_context(started)
            for label, started in _candidates(plan.folder).items()
        }
        _check(candidates, documents[0])
        tuned = {label: one.tune(documents) for label, one in candidates.items()}
        found: dict[str, list[float]] = {label: [] for label in candidates}
        for _ in range(plan.rounds):
            for label, one in candidates.items():
                found[label].append(one.seconds(documents))
    return [_table({label: median(several) for label, several in found.items()}, tuned)]


def _candidates(folder: Path) -> dict[str, AbstractContextManager[Candidate]]:
    """Give what is installed, not started yet."""
    found: dict[str, AbstractContextManager[Candidate]] = {
        _OURS: our_ranker(folder / "ranker", precision="auto"),
        _OURS_F32: our_ranker(folder / "ranker-f32", precision="f32"),
    }
    if QUANTIZED.exists():
        found[_OURS_INT8] = our_ranker(
            folder / "ranker-int8", precision="auto", model_id=QUANTIZED.name
        )
    if python := python_of_peers():
        found |= {name: peer(python, name) for name in RANKERS}
    return found


def _check(candidates: Mapping[str, Candidate], document: str) -> None:
    """Make sure that all compute the same. Raises for the first that does not."""
    (expected,) = candidates[_OURS_F32].vector(document)
    for label, one in candidates.items():
        (score,) = one.vector(document)
        if abs(score - expected) > _FARTHEST:
            raise RuntimeError(f"[{label}] gives [{score}] for a pair, ours gives [{expected}]")


def _table(seconds: Mapping[str, float], tuned: Mapping[str, str]) -> Table:
    table = Table(
        f"Ranking {_DOCUMENTS} documents of {_TOKENS} tokens by a query of"
        f" {len(QUERY.split())} words, one request at a time; ratios are of inferry to each"
    )
    best = min((label for label in seconds if label in RANKERS), key=seconds.get, default="")  # type: ignore[arg-type]
    for label, taken in seconds.items():
        is_held = label == best
        table.add(
            label,
            f"{_DOCUMENTS / taken:,.0f} documents/s, {taken * 1e3:.0f} ms ({tuned[label]})",
            ratio=None if label == _OURS else taken / seconds[_OURS],
            floor=_FLOOR if is_held else None,
            goal=_GOAL if is_held else None,
        )
    return table
