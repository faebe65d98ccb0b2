"""A model folder, loaded: texts to tokens, tokens to one answer per text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from inferry.domain import InputType, TaskType
from inferry.errors import BadRequest
from inferry.modeling import (
    MODEL_TYPES,
    Answer,
    Arithmetic,
    Encoded,
    ModelSource,
    Runtime,
    RuntimeOptions,
    ShapeLadder,
)
from inferry.models.folder import ModelFolder
from inferry.models.layout import Module
from inferry.models.networks import Networks, compile_networks
from inferry.models.packing import pack_scores, pack_vectors, pack_weights, wire_tokens
from inferry.models.pipeline import Pipeline, max_tokens, read_pipeline
from inferry.models.precision import F32, INT8, choose, kinds_of
from inferry.models.probes import PROBES, ROWS_FILE, KeptRows, rows_beside
from inferry.models.shapes import ROW_STEPS, Warming, length_steps
from inferry.models.sparse import TokenTable
from inferry.models.tokenizers import Tokenizer, read_tokenizer
from inferry.models.weights import Weights
from inferry.telemetry import get_logger

if TYPE_CHECKING:
    from inferry.modeling import Ids, Rows

_SEARCHES = (InputType.SEARCH, InputType.INTERNAL_SEARCH)


class FolderModel:
    """A `TextModel` of one graph.

    table: what searches are looked up in, None where they run as all texts.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        tokenizers: Tokenizers,
        networks: Networks,
        arithmetic: Arithmetic = F32,
        *,
        weights: Weights | None = None,
        table: TokenTable | None = None,
    ) -> None:
        is_dense = pipeline.task_type is TaskType.TEXT_EMBEDDING
        self.task_type = pipeline.task_type
        self.probe = PROBES[1], PROBES[0] if self.task_type is TaskType.RERANK else None
        self.width = pipeline.head.width
        self.dimensions = pipeline.head.width if is_dense else None
        self.max_tokens = pipeline.max_tokens
        self.similarity = pipeline.similarity
        self.arithmetic = arithmetic
        self.cosine: float | None = None
        self.ladder = ShapeLadder(ROW_STEPS, length_steps(pipeline.max_tokens))
        self._pipeline = pipeline
        self._tokenizer = tokenizers.texts
        self._query_tokenizer = tokenizers.queries
        self._networks = networks
        self._weights = weights  # kept, since the network reads from their memory
        self._table = table
        self._pack = _packing(pipeline, tokenizers.texts)
        self._warming = Warming(self.ladder)
        # Tokens of a prompt that is not pooled: it is the same text every time.
        self._skipped = {
            prompt: self._tokenizer.count(prompt)
            if prompt and not pipeline.head.includes_prompt
            else 0
            for prompt in pipeline.prompts.values()
        }

    def encode(
        self,
        texts: Sequence[str],
        input_type: InputType,
        query: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> list[Encoded]:
        """Put the prompt of `input_type` before each text, tokenize, and cut at `max_tokens`.

        A pair has no prompt. Raises `BadRequest` for a query too much or too little, and where a
        pair cannot be cut.
        """
        if config is not None:
            raise BadRequest("the settings of this model cannot be changed by a request")
        if self.task_type is TaskType.RERANK:
            if query is None:
                raise BadRequest(f"a model of type [{MODEL_TYPES[self.task_type]}] needs a query")
            return self._tokenizer.encode_pairs(query, texts, self._pipeline.truncation)
        if query is not None:
            raise BadRequest(f"a model of type [{MODEL_TYPES[self.task_type]}] takes no query")
        prompt = self._pipeline.prompts[input_type]
        prompted = [prompt + text for text in texts] if prompt else texts
        if self._query_tokenizer is not None and input_type in _SEARCHES:
            return self._query_tokenizer.encode_bare(prompted)
        return self._tokenizer.encode(prompted, skipped=self._skipped[prompt])

    def run(self, batch: Sequence[Encoded], *, is_wide: bool = False) -> Sequence[Answer]:
        """Pad, run and finish the texts of `batch`; one answer for each."""
        return self._pack(self.rows(batch, is_wide=is_wide))

    def rows(self, batch: Sequence[Encoded], *, is_wide: bool = False) -> Rows:
        """Give what the network, or the table, says of each text: float32[texts, width]."""
        import numpy as np

        looked_up = [place for place, text in enumerate(batch) if text.is_looked_up]
        if not looked_up or self._table is None:
            return self._run_network(batch, is_wide=is_wide)
        rows = np.empty((len(batch), self.width), np.float32)
        rows[looked_up] = self._table.rows([batch[place].ids for place in looked_up])
        others = [place for place, text in enumerate(batch) if not text.is_looked_up]
        if others:
            chosen = [batch[place] for place in others]
            rows[others] = self._run_network(chosen, is_wide=is_wide)
        return rows

    def _run_network(self, batch: Sequence[Encoded], *, is_wide: bool) -> Rows:
        """Pad to a shape of the ladder and run."""
        shape = self.ladder.pad(len(batch), max(len(text.ids) for text in batch))
        ids, mask = pad([text.ids for text in batch], shape, self._pipeline.padding_id)
        marks = self._marks(batch, mask)
        return self._networks.of(is_wide=is_wide).run(ids, mask, marks)[: len(batch)]

    def _marks(self, batch: Sequence[Encoded], mask: Ids) -> Ids | None:
        """Give what else the graph wants to know of the tokens: types of pairs, or what counts."""
        import numpy as np

        if self.task_type is TaskType.RERANK:
            types = np.zeros_like(mask)
            for row, text in enumerate(batch):
                types[row, : len(text.types)] = text.types
            return types
        if self._pipeline.head.includes_prompt:
            return None
        pooled = mask.copy()
        for row, text in enumerate(batch):
            pooled[row, : min(text.skipped, len(text.ids) - 1)] = 0
        return pooled

    def warm(self, stop: Event) -> None:
        """Run each shape that is warmed once; goes on where it stopped."""

        def run(rows: int, length: int) -> None:
            padding = Encoded([self._pipeline.padding_id] * length, length)
            self.rows([padding] * rows, is_wide=True)

        self._warming.run(run, stop)


def pad(texts: Sequence[Sequence[int]], shape: tuple[int, int], padding_id: int) -> tuple[Ids, Ids]:
    """Give the ids of `texts`, filled up to int32[shape], and the mask of what is theirs."""
    import numpy as np

    ids = np.full(shape, padding_id, np.int32)
    mask = np.zeros(shape, np.int32)
    mask[len(texts) :, 0] = 1  # rows without a text; attention wants something to see
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask


@dataclass(frozen=True, slots=True)
class Tokenizers:
    """Those of a model. queries: of searches that are looked up, None where they run."""

    texts: Tokenizer
    queries: Tokenizer | None = None


def load_model(source: ModelSource, options: RuntimeOptions, *, runtime: Runtime) -> FolderModel:
    """Read a folder, compile it on `runtime`, and verify a reduced precision.

    Raises `UnusableModel`, which says what is wrong and where.
    """
    folder = ModelFolder(source)
    folder.check_digests()
    pipeline = read_pipeline(folder, source)
    for remark in pipeline.remarks:
        get_logger().warning(remark, model_id=source.name)
    path = pipeline.transformer.file("tokenizer.json")
    tokenizer = read_tokenizer(
        folder, path, max_tokens=pipeline.max_tokens, lowers_case=pipeline.lowers_case
    )
    if pipeline.encoder and tokenizer.vocabulary > pipeline.encoder.vocabulary:
        raise folder.unusable(
            path,
            f"has [{tokenizer.vocabulary}] tokens, the encoder [{pipeline.encoder.vocabulary}]",
        )
    if pipeline.task_type is TaskType.RERANK and pipeline.max_tokens <= tokenizer.specials_of_pairs:
        raise folder.unusable(path, f"leaves no room for pairs in [{pipeline.max_tokens}] tokens")
    if pipeline.table is None:
        return _compile(folder, pipeline, Tokenizers(tokenizer), None, options, runtime)
    queries, table = _read_table(folder, pipeline.table, pipeline)
    return _compile(folder, pipeline, Tokenizers(tokenizer, queries), table, options, runtime)


def _read_table(
    folder: ModelFolder, module: Module, pipeline: Pipeline
) -> tuple[Tokenizer, TokenTable]:
    """Read what searches are looked up in: a weight for each token of the vocabulary."""
    path = module.file("tokenizer.json")
    limit = max_tokens(folder, module)
    queries = read_tokenizer(folder, path, max_tokens=limit, lowers_case=False)
    if queries.vocabulary > pipeline.head.width:
        raise folder.unusable(
            path, f"has [{queries.vocabulary}] tokens, the model [{pipeline.head.width}]"
        )
    return queries, TokenTable(folder, module, pipeline.head.width)


def _packing(pipeline: Pipeline, tokenizer: Tokenizer) -> Callable[[Rows], Sequence[Answer]]:
    """Give what makes answers of rows."""
    match pipeline.task_type:
        case TaskType.SPARSE_EMBEDDING:
            return partial(pack_weights, tokens=wire_tokens(tokenizer.tokens()))
        case TaskType.RERANK:
            return pack_scores
        case _:
            return pack_vectors


def _compile(  # noqa: PLR0917 - what is known by then
    folder: ModelFolder,
    pipeline: Pipeline,
    tokenizers: Tokenizers,
    table: TokenTable | None,
    options: RuntimeOptions,
    runtime: Runtime,
) -> FolderModel:
    """Compile at the arithmetic that is wanted, or the fastest that is close. See `precision`.

    A folder that has a graph in 8-bit integers and nothing else runs that, whatever is wanted.
    """
    import numpy as np

    from inferry.models.graphs.build import build_graph, has_int8_only
    from inferry.models.graphs.exact import keep_sums_exact

    def compiled(
        arithmetic: Arithmetic, given: RuntimeOptions = options
    ) -> tuple[FolderModel, Rows]:
        graph = build_graph(folder, pipeline, quantized=arithmetic.precision == "int8")
        if arithmetic.has_exact_sums:
            keep_sums_exact(graph.model)
        networks = compile_networks(
            lambda chosen: runtime.compile(graph.model, chosen, arithmetic.precision), given
        )
        model = FolderModel(
            pipeline,
            tokenizers,
            networks,
            arithmetic,
            weights=graph.weights,
            table=table,
        )
        model.rows([Encoded([pipeline.padding_id], 1)], is_wide=True)
        rows = probe_rows(model)
        if graph.weights:  # the first runs packed most of them, which are not read again
            graph.weights.forget()
        return model, rows

    kept = KeptRows(options.cache_dir, folder.fingerprint())
    width = pipeline.head.width
    if has_int8_only(folder, pipeline):
        beside = pipeline.transformer.file(ROWS_FILE)
        model, rows = choose((INT8,), compiled, lambda: rows_beside(folder, beside, width))
    else:
        model, rows = choose(
            kinds_of(options.precision, runtime.fastest()),
            compiled,
            lambda: kept.get(width, lambda: compiled(F32, options.narrow)[1]),
        )
    if not np.isfinite(rows).all():
        raise folder.unusable("", f"at [{model.arithmetic}] it gives numbers that are not finite")
    return model


def probe_rows(model: FolderModel) -> Rows:
    """Run the probes one by one: float32[probes, width]."""
    import numpy as np

    query = PROBES[0] if model.task_type is TaskType.RERANK else None
    probes = model.encode(PROBES, InputType.UNSPECIFIED, query)
    return np.concatenate([model.rows([probe]) for probe in probes])
