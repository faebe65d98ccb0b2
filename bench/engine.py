"""Local embeddings over HTTP, beside peers that run the same weights on the same texts.

The demo model with texts of up to 512 tokens, on all cores; what is timed at ours is the whole way
of a request. Peers are what is installed of sentence-transformers, openvino-genai, fastembed and
infinity, see README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

from bench.embedding.corpora import CORPORA, Corpus, build_corpora
from bench.embedding.folders import MODELS, make_models
from bench.embedding.latency import measure_clients, measure_latency, measure_search
from bench.embedding.ranking import measure_ranking
from bench.embedding.speed import measure_speed
from bench.embedding.start import measure_start
from bench.embedding.uploads import SHAPES, measure_uploads
from bench.report import Plan, Table


@cache
def _corpora() -> dict[str, Corpus]:
    make_models()
    return build_corpora(MODELS / "source/tokenizer.json")


def _speed(name: str, plan: Plan) -> list[Table]:
    return measure_speed(name, _corpora()[name], plan)


def _latency(plan: Plan) -> list[Table]:
    make_models()
    return measure_latency(plan)


def _ranking(plan: Plan) -> list[Table]:
    make_models()
    return measure_ranking(plan)


PIECES: Mapping[str, Callable[[Plan], list[Table]]] = {
    **{f"engine-{name}": partial(_speed, name) for name in CORPORA},
    "engine-clients": lambda plan: measure_clients(_corpora()["short"], plan),
    "engine-latency": _latency,
    "engine-search": lambda plan: measure_search(_corpora(), plan),
    "engine-start": measure_start,
    "engine-ranking": _ranking,
}
"""Parts of the part `engine`, each of which takes a few minutes at most."""

UPLOADS: Mapping[str, Callable[[Plan], list[Table]]] = {
    f"uploads-{name}": partial(measure_uploads, name) for name in SHAPES
}
"""The same of the part `uploads`."""


def measure_engine(plan: Plan) -> list[Table]:
    """Give the figures of all pieces."""
    return [table for measure in PIECES.values() for table in measure(plan)]


def measure_all_uploads(plan: Plan) -> list[Table]:
    """Give the figures of all modules."""
    return [table for measure in UPLOADS.values() for table in measure(plan)]
