"""A model folder, loaded: texts to tokens, tokens to one vector per text."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING

from inferry.domain import InputType
from inferry.modeling import (
    Encoded,
    ModelSource,
    Network,
    Precision,
    Runtime,
    RuntimeOptions,
    ShapeLadder,
)
from inferry.models.folder import ModelFolder
from inferry.models.pipeline import Pipeline, read_pipeline
from inferry.models.probes import PROBES, KeptRows, least_cosine
from inferry.models.tokenizers import Tokenizer, read_tokenizer
from inferry.models.weights import Weights

if TYPE_CHECKING:
    from inferry.modeling import Rows

_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_LEAST_COSINE = 0.999  # below this `auto` stays at f32


class EmbeddingModel:
    """A `TextModel` of one network."""

    def __init__(
        self,
        pipeline: Pipeline,
        tokenizer: Tokenizer,
        network: Network,
        precision: Precision = "f32",
        *,
        weights: Weights | None = None,
    ) -> None:
        self.dimensions = pipeline.head.width
        self.max_tokens = pipeline.max_tokens
        self.similarity = pipeline.similarity
        self.precision = precision
        self.cosine: float | None = None
        self.ladder = ShapeLadder(_ROWS, _length_steps(pipeline.max_tokens))
        self._pipeline = pipeline
        self._tokenizer = tokenizer
        self._network = network
        self._weights = weights  # kept, since the network reads from their memory
        self._cold = deque(_shapes(self.ladder))
        # Tokens of a prompt that is not pooled: it is the same text every time.
        self._skipped = {
            prompt: 0 if pipeline.head.includes_prompt or not prompt else tokenizer.count(prompt)
            for prompt in pipeline.prompts.values()
        }

    def encode(self, texts: Sequence[str], input_type: InputType) -> list[Encoded]:
        """Put the prompt of `input_type` before each text, tokenize, and cut at `max_tokens`."""
        prompt = self._pipeline.prompts[input_type]
        prompted = [prompt + text for text in texts] if prompt else texts
        return self._tokenizer.encode(prompted, skipped=self._skipped[prompt])

    def run(self, batch: Sequence[Encoded]) -> Rows:
        """Pad to a shape of the ladder and run; float32[texts, dimensions]."""
        import numpy as np

        shape = self.ladder.pad(len(batch), max(len(text.ids) for text in batch))
        ids = np.full(shape, self._pipeline.padding_id, np.int32)
        mask = np.zeros(shape, np.int32)
        mask[len(batch) :, 0] = 1  # rows without a text; attention wants something to see
        for row, text in enumerate(batch):
            ids[row, : len(text.ids)] = text.ids
            mask[row, : len(text.ids)] = 1
        if self._pipeline.head.includes_prompt:
            return self._network.run(ids, mask, None)[: len(batch)]
        pooled = mask.copy()
        for row, text in enumerate(batch):
            pooled[row, : min(text.skipped, len(text.ids) - 1)] = 0
        return self._network.run(ids, mask, pooled)[: len(batch)]

    def warm(self, stop: Event) -> None:
        """Run each shape of the ladder once, small ones first; goes on where it stopped."""
        while self._cold and not stop.is_set():
            rows, length = self._cold.popleft()
            self.run([Encoded([self._pipeline.padding_id] * length, length)] * rows)


def load_model(source: ModelSource, options: RuntimeOptions, *, runtime: Runtime) -> EmbeddingModel:
    """Read a folder, compile it on `runtime`, and verify a reduced precision.

    Raises `UnusableModel`, which says what is wrong and where.
    """
    folder = ModelFolder(source)
    folder.check_digests()
    pipeline = read_pipeline(folder, source)
    tokenizer = read_tokenizer(
        folder,
        pipeline.transformer.file("tokenizer.json"),
        max_tokens=pipeline.max_tokens,
        lowers_case=pipeline.lowers_case,
    )
    if pipeline.encoder and tokenizer.vocabulary > pipeline.encoder.vocabulary:
        raise folder.unusable(
            pipeline.transformer.file("tokenizer.json"),
            f"has [{tokenizer.vocabulary}] tokens, the encoder [{pipeline.encoder.vocabulary}]",
        )
    return _compile(folder, pipeline, tokenizer, options, runtime)


def _compile(
    folder: ModelFolder,
    pipeline: Pipeline,
    tokenizer: Tokenizer,
    options: RuntimeOptions,
    runtime: Runtime,
) -> EmbeddingModel:
    """Compile at the precision that is wanted, or at f32 where `auto` finds the other too rough."""
    from inferry.models.graphs.build import BuiltGraph, build_graph

    def compiled(graph: BuiltGraph, precision: Precision) -> tuple[EmbeddingModel, Rows]:
        network = runtime.compile(graph.model, options, precision)
        model = EmbeddingModel(pipeline, tokenizer, network, precision, weights=graph.weights)
        rows = _probe(model)
        if graph.weights:  # the first runs packed most of them, which are not read again
            graph.weights.forget()
        return model, rows

    graph = build_graph(folder, pipeline)
    wanted = runtime.fastest() if options.precision == "auto" else options.precision
    if wanted == "f32":
        return _finite(folder, *compiled(graph, "f32"))
    kept = KeptRows(options.cache_dir, folder.fingerprint())
    reference = kept.get(pipeline.head.width, lambda: compiled(graph, "f32")[1])
    if wanted == "int8":
        graph = build_graph(folder, pipeline, quantized=True)
    model, rows = compiled(graph, wanted)
    model.cosine = least_cosine(rows, reference)
    is_close = model.cosine >= _LEAST_COSINE  # not so for NaN either
    if options.precision == "auto" and not is_close:
        return _finite(folder, *compiled(graph, "f32"))
    return _finite(folder, model, rows)


def _probe(model: EmbeddingModel) -> Rows:
    """Run the probes one by one: float32[probes, dimensions]."""
    import numpy as np

    probes = model.encode(PROBES, InputType.UNSPECIFIED)
    return np.concatenate([model.run([probe]) for probe in probes])


def _finite(folder: ModelFolder, model: EmbeddingModel, rows: Rows) -> EmbeddingModel:
    """Give the model, if `rows` of it are finite. Raises `UnusableModel`."""
    import numpy as np

    if not np.isfinite(rows).all():
        raise folder.unusable("", f"at [{model.precision}] it gives numbers that are not finite")
    return model


def _length_steps(max_tokens: int) -> list[int]:
    """Give lengths at distances that grow with them, from 4 on: at most an eighth of a length."""
    steps, step = [min(4, max_tokens)], 4
    while steps[-1] < max_tokens:
        while step * 16 <= steps[-1]:
            step *= 2
        steps.append(min(steps[-1] + step, max_tokens))
    return steps


def _shapes(ladder: ShapeLadder) -> list[tuple[int, int]]:
    """List the shapes that batches within the budget have, small ones first."""
    shapes = [(rows, length) for rows in ladder.rows for length in ladder.lengths]
    within = [shape for shape in shapes if ladder.tokens(*shape) <= ladder.budget]
    return sorted(within, key=lambda shape: ladder.tokens(*shape))
