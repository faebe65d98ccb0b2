"""A TorchScript module, loaded: texts to tokens, tokens to one answer per text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import msgspec

from inferry.domain import InputType, TaskType
from inferry.errors import BadRequest, InternalError
from inferry.modeling import (
    Answer,
    Arithmetic,
    Encoded,
    ModelSource,
    Network,
    Runtime,
    RuntimeOptions,
    ShapeLadder,
    Truncation,
)
from inferry.models.folder import ModelFolder
from inferry.models.networks import Networks, compile_networks
from inferry.models.packing import pack_scores, pack_vectors, pack_weights, wire_tokens
from inferry.models.precision import F32, choose, kinds_of
from inferry.models.probes import PROBES, KeptRows
from inferry.models.shapes import ROW_STEPS, Warming, length_steps
from inferry.models.sparse import SpladeHead
from inferry.models.text_model import pad
from inferry.models.tokenizers import Tokenizer
from inferry.models.torchscript.encoding import EncodedText, Encoder
from inferry.models.torchscript.metadata import (
    Purpose,
    TaskSettings,
    check_task_of,
    read_purpose,
)
from inferry.models.torchscript.preparation import GRAPH_FILE, Verdict, read_verdict
from inferry.models.torchscript.tasks import TASKS, Task
from inferry.models.torchscript.vocabulary import build_tokenizer, read_vocabulary
from inferry.telemetry import get_logger

if TYPE_CHECKING:
    from inferry.modeling import Ids, Rows

_PAIRED = ("text_similarity", "question_answering", "zero_shot_classification")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a module model is made of. tokens: by id, as the vocabulary has them."""

    purpose: Purpose
    tokenizer: Tokenizer
    encoder: Encoder
    tokens: Sequence[str]
    verdict: Verdict


class ModuleModel:
    """A `TextModel` of one module."""

    def __init__(self, parts: Parts, networks: Networks, arithmetic: Arithmetic = F32) -> None:
        purpose = parts.purpose
        longest = purpose.settings.tokens.max_sequence_length
        is_batchable = parts.verdict.is_batchable
        self.task_type = purpose.task_type
        self.max_tokens = longest
        self.similarity: str | None = None
        self.arithmetic = arithmetic
        self.cosine: float | None = None
        self.ladder = (
            ShapeLadder(ROW_STEPS, length_steps(longest))
            if is_batchable
            else ShapeLadder((1,), range(1, longest + 1))
        )
        is_masked = purpose.task == "fill_mask"
        query = PROBES[0] if purpose.task in _PAIRED else None
        # The shortest: a longer one may be too long for a model that may not cut.
        self.probe = parts.encoder.mask_token if is_masked else PROBES[0], query
        is_dense = self.task_type is TaskType.TEXT_EMBEDDING
        self.dimensions = parts.verdict.shape[-1] if is_dense else None
        self._parts = parts
        self._networks = networks
        self._wire_tokens = wire_tokens(parts.tokens)
        self._task = Task(TASKS.get(purpose.task), parts.tokens, parts.encoder.mask_id)
        self._warming = Warming(self.ladder) if is_batchable else None

    def encode(
        self,
        texts: Sequence[str],
        input_type: InputType,
        query: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> list[Encoded]:
        """Put the prefix of `input_type` before each text, tokenize, and cut or lay windows.

        Raises `BadRequest` for a query too much or too little, for a text that is too long and may
        not be cut, and for one with a token that the module does not know.
        """
        encoded = self._encode(texts, input_type, query, config)
        known = self._parts.verdict.known
        if known is not None:
            for ids in (ids for text in encoded for ids in _ids_of(text)):
                if (last := max(ids, default=0)) >= known:
                    raise BadRequest(
                        f"the text has the token [{self._parts.tokens[last]}], which is in the"
                        f" vocabulary, but the module knows its first [{known}] tokens only"
                    )
        return encoded

    def _encode(
        self,
        texts: Sequence[str],
        input_type: InputType,
        query: str | None,
        config: Mapping[str, Any] | None,
    ) -> list[Encoded]:
        purpose = self._parts.purpose if config is None else self._parts.purpose.given(config)
        if query is not None and purpose.task not in _PAIRED:
            raise BadRequest(f"a model of type [{purpose.task}] takes no query")
        encoder, settings = self._parts.encoder, purpose.settings
        match purpose.task:
            case "text_similarity":
                return self._encode_pairs(
                    _required(query or settings.text, "text"), texts, settings
                )
            case "question_answering":
                question = _required(query or settings.question, "question")
                return [encoder.encode_pair(question, text, settings) for text in texts]
            case "zero_shot_classification":
                labels = settings.labels or [_required(query, "labels")]
                asked = [settings.hypothesis_template.replace("{}", label) for label in labels]
                labelled = msgspec.structs.replace(settings, labels=labels)
                return [encoder.encode_against(text, asked, labelled) for text in texts]
        prefix = purpose.prefixes[input_type]
        if self.task_type is None or settings.tokens.truncate == "none":
            return [encoder.encode(text, settings, prefix=prefix) for text in texts]
        prefixed = [prefix + text for text in texts] if prefix else texts
        return self._parts.tokenizer.encode(prefixed)

    def encode_probes(self) -> list[Encoded]:
        """Tokenize the probes, cut also where requests may not cut or would cut the query."""
        tokenizer = self._parts.tokenizer
        if self.task_type is TaskType.RERANK:
            return tokenizer.encode_pairs(PROBES[0], PROBES, "second")
        return tokenizer.encode(PROBES)

    def run(self, batch: Sequence[Encoded], *, is_wide: bool = False) -> Sequence[Answer]:
        """Run the texts of `batch`, with all pieces of each; one answer for each text."""
        import numpy as np

        if self.task_type is None:
            return self._finish(batch, self._networks.of(is_wide=is_wide))
        rows = self.rows(batch, is_wide=is_wide)
        match self.task_type:
            case TaskType.SPARSE_EMBEDDING:
                return pack_weights(np.stack([one[0] for one in rows]), self._wire_tokens)
            case TaskType.RERANK:
                pairs = zip(batch, rows, strict=True)
                return pack_scores(np.stack([self._combined(*pair) for pair in pairs]))
            case _:
                return pack_vectors(np.stack([one[0] for one in rows]))

    def rows(self, batch: Sequence[Encoded], *, is_wide: bool = False) -> list[Rows]:
        """Give what the module says of each text: float32[windows, width] each."""
        import numpy as np

        every = self._found(batch, self._networks.of(is_wide=is_wide))
        return [np.stack([_row(one) for one in found]) for found in every]

    def warm(self, stop: Event) -> None:
        """Run each shape that is warmed once; goes on where it stopped."""

        def run(rows: int, length: int) -> None:
            padding = [self._parts.encoder.padding_id] * length
            self._run_pieces([padding] * rows, self._networks.wide)

        if self._warming:
            self._warming.run(run, stop)

    def _encode_pairs(
        self, query: str, texts: Sequence[str], settings: TaskSettings
    ) -> list[Encoded]:
        rules = settings.tokens
        if rules.truncate == "none" or not rules.with_special_tokens:
            encoder = self._parts.encoder
            return [encoder.encode_pair(query, text, settings) for text in texts]
        truncation = cast("Truncation", rules.truncate)
        return self._parts.tokenizer.encode_pairs(query, texts, truncation)

    def _finish(self, batch: Sequence[Encoded], network: Network) -> list[Answer]:
        """Answer as `_infer` does."""
        finish = self._task.finish
        assert finish is not None
        return [
            msgspec.msgpack.encode(finish(text, found, self._task))
            for text, found in zip(batch, self._found(batch, network), strict=True)
            if isinstance(text, EncodedText)
        ]

    def _found(self, batch: Sequence[Encoded], network: Network) -> list[list[Rows]]:
        """Give what the module says of each piece of each text, without padding and batch."""
        pieces = [_ids_of(text) for text in batch]
        found = iter(self._run_pieces([ids for own in pieces for ids in own], network))
        return [[next(found) for _ in own] for own in pieces]

    def _run_pieces(self, pieces: Sequence[Sequence[int]], network: Network) -> list[Rows]:
        """Run token ids, together where that gives the same."""
        if not self._parts.verdict.is_batchable:
            alone = [self._run_padded([ids], len(ids), network) for ids in pieces]
            return [one[0] if len(one) == 1 else one for one in alone]
        most = self.ladder.rows[-1]
        found: list[Rows] = []
        for first in range(0, len(pieces), most):
            chunk = pieces[first : first + most]
            rows = self._run_padded(chunk, max(map(len, chunk)), network)
            found += [
                row[: len(ids)] if row.ndim > 1 else row  # a row per token, padding last
                for row, ids in zip(rows, chunk, strict=False)
            ]
        return found

    def _run_padded(self, pieces: Sequence[Sequence[int]], longest: int, network: Network) -> Rows:
        shape = self.ladder.pad(len(pieces), longest)
        ids, mask = pad(pieces, shape, self._parts.encoder.padding_id)
        return network.run(ids, mask, None)

    def _combined(self, text: Encoded, scores: Rows) -> Rows:
        """Give the score of a text of its windows': float32[1]."""
        if scores.shape[1] != 1:
            raise InternalError(
                f"Expected exactly [1] value in text_similarity result; got [{scores.shape[1]}]"
            )
        given = text.settings if isinstance(text, EncodedText) else None
        settings = given or self._parts.purpose.settings
        if settings.span_score_combination_function == "mean":
            return cast("Rows", scores.mean(axis=0))
        return cast("Rows", scores.max(axis=0))


def _required(given: str | None, name: str) -> str:
    if given is None:
        raise BadRequest(f"[{name}] is required by the task of this model")
    return given


class _Splade:
    """A module's logits of tokens, pooled; for modules that are no graph."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def run(self, ids: Ids, mask: Ids, marks: Ids | None) -> Rows:
        """Give float32[batch, vocabulary]."""
        import numpy as np

        logits = self._network.run(ids, mask, marks)
        seen = np.where(mask[:, :, None] != 0, logits, np.float32(0))
        pooled: Rows = np.log1p(np.maximum(seen.max(axis=1), 0))
        return pooled


def load_module(
    source: ModelSource,
    options: RuntimeOptions,
    *,
    torchscript: Callable[[], Runtime],
    openvino: Runtime,
) -> ModuleModel:
    """Read what `prepare_module` made, and compile it. Raises `UnusableModel`.

    torchscript: gives PyTorch, which only modules need that are no graph.
    """
    files, cache = source.module, options.cache_dir
    assert files is not None
    assert cache is not None
    folder = ModelFolder(source)
    folder.check_digests()
    purpose = read_purpose(folder)
    check_task_of(purpose, source)
    prepared = files.found_in(cache) or files.prepared_in(cache)
    verdict = read_verdict(prepared)
    purpose = purpose.cut(verdict.longest)
    parts = _read_parts(folder, source, purpose, verdict)
    splade = _splade_of(parts)
    if parts.verdict.runtime == "torchscript":
        module = folder.file(files.module_file)
        pytorch = torchscript()

        def loaded(chosen: RuntimeOptions) -> Network:
            network = pytorch.compile(module, chosen, "f32")
            return _Splade(network) if splade else network

        return ModuleModel(parts, compile_networks(loaded, options))
    from inferry.models.graphs.exact import keep_sums_exact
    from inferry.models.graphs.torchscript import read_converted

    def compiled(arithmetic: Arithmetic, given: RuntimeOptions = options) -> ModuleModel:
        graph = read_converted(prepared / GRAPH_FILE, splade=splade)
        if arithmetic.has_exact_sums:
            keep_sums_exact(graph)
        networks = compile_networks(
            lambda chosen: openvino.compile(graph, chosen, arithmetic.precision), given
        )
        return ModuleModel(parts, networks, arithmetic)

    def probed(arithmetic: Arithmetic, given: RuntimeOptions = options) -> tuple[ModuleModel, Rows]:
        model = compiled(arithmetic, given)
        return model, _probe(model)

    # Modules have no int8 graph of their own.
    wanted = "auto" if options.precision == "int8" else options.precision
    kinds = kinds_of(wanted, openvino.fastest())
    if kinds[0] == F32 or purpose.task_type is None:
        return compiled(kinds[-1])  # answers that are no vectors have no cosine to be held by
    kept = KeptRows(cache, f"{files.module} {files.vocabulary}")
    model, _ = choose(
        kinds,
        probed,
        lambda: kept.get(verdict.shape[-1], lambda: probed(F32, options.narrow)[1]),
    )
    return model


def _check_width(folder: ModelFolder, asked: int | None, width: int) -> None:
    """Refuse a width that vectors would have to be cut to. Raises `UnusableModel`."""
    if asked not in (None, width):
        problem = f"its vectors have [{width}] dimensions and are not cut, asked for are [{asked}]"
        raise folder.unusable("", problem)


def _read_parts(
    folder: ModelFolder, source: ModelSource, purpose: Purpose, verdict: Verdict
) -> Parts:
    assert source.module is not None
    _check_width(folder, source.dimensions, verdict.shape[-1])
    rules = purpose.settings.tokens
    vocabulary = read_vocabulary(folder, source.module.vocabulary_file)
    fast = build_tokenizer(purpose.kind, vocabulary, rules)
    tokenizer = Tokenizer(fast, max_tokens=rules.max_sequence_length)
    is_pair = purpose.task in _PAIRED
    specials = tokenizer.specials_of_pairs if is_pair else tokenizer.specials
    if rules.max_sequence_length <= specials:
        raise folder.unusable(
            "",
            f"its [max_sequence_length] of [{rules.max_sequence_length}] leaves no room beside"
            f" [{specials}] special tokens",
        )
    encoder = Encoder(fast, purpose.kind)
    parts = Parts(purpose, tokenizer, encoder, vocabulary.vocabulary, verdict)
    _warn_of_words_without_weights(parts)
    return parts


def _splade_of(parts: Parts) -> SpladeHead | None:
    """Tell whether a module gives logits of tokens, which are to be pooled.

    What `eland` makes of a masked language model does, whatever its `expansion_type` says.
    """
    purpose, verdict = parts.purpose, parts.verdict
    if purpose.task_type is not TaskType.SPARSE_EMBEDDING or len(verdict.shape) != 2:
        return None
    is_per_token = verdict.shape[0] == verdict.tokens and verdict.tokens > 1
    if purpose.settings.expansion_type != "splade" and not is_per_token:
        return None
    if purpose.settings.expansion_type != "splade":
        get_logger().warning("the module gives logits of tokens: they are pooled as SPLADE does")
    return SpladeHead(verdict.shape[-1])


def _warn_of_words_without_weights(parts: Parts) -> None:
    """Tell of a sparse module that gives fewer weights than there are words: it knows no others."""
    words, weights = len(parts.tokens), parts.verdict.shape[-1]
    if parts.purpose.task_type is TaskType.SPARSE_EMBEDDING and weights < words:
        get_logger().warning(
            "the module gives no weights to the last words of its vocabulary",
            words=words,
            weights=weights,
        )


def _probe(model: ModuleModel) -> Rows:
    """Run the probes one by one: float32[probes, width]."""
    import numpy as np

    probes = [text for text in model.encode_probes() if len(text.ids)]
    return np.stack([model.rows([probe])[0][0] for probe in probes])


def _ids_of(text: Encoded) -> list[Sequence[int]]:
    """Give the token ids of each window."""
    if isinstance(text, EncodedText):
        return [piece.ids for piece in text.pieces]
    return [text.ids]


def _row(found: Rows) -> Rows:
    """Give one row of what a module gives of a text: of tokens, that of the first."""
    while found.ndim > 1:
        found = found[0]
    return found
