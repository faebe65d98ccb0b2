"""How a folder in the layout of sentence-transformers is run, read from its configuration files.

modules.json                         the modules, see `inferry.models.layout`; without it: encoder
                                     and mean pooling, SPLADE pooling, or the encoder's classifier
config_sentence_transformers.json    prompts, similarity, width of truncated vectors; how pairs are
                                     cut, which is ours
sentence_bert_config.json            longest text, lower case; older ones are named by family
tokenizer_config.json                longest text in newer releases
config.json                          the encoder
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, TypeAlias

import msgspec

from inferry.domain import InputType, TaskType
from inferry.modeling import ModelSource, Truncation
from inferry.models.encoders import Encoder, read_encoder
from inferry.models.folder import ModelFolder
from inferry.models.heads import Head, read_head
from inferry.models.layout import Layout, Module, read_layout, task_of
from inferry.models.scoring import ScoreHead, read_score_head
from inferry.models.sparse import SpladeHead, read_splade_head

AnyHead: TypeAlias = Head | SpladeHead | ScoreHead

SETTINGS_FILE = "config_sentence_transformers.json"
_LIMIT_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_UNKNOWN_LENGTH = 1_000_000  # tokenizers without a limit of their own carry a huge number
_DEFAULT_LENGTH = 512
_PROMPT_NAMES: Mapping[InputType, tuple[str, ...]] = MappingProxyType(
    {
        InputType.SEARCH: ("query", "search", "retrieval.query", "s2p_query"),
        InputType.INGEST: ("document", "passage", "corpus", "retrieval.passage"),
        InputType.CLASSIFICATION: ("classification",),
        InputType.CLUSTERING: ("clustering",),
    }
)
_INTERNAL = MappingProxyType(
    {
        InputType.INTERNAL_SEARCH: InputType.SEARCH,
        InputType.INTERNAL_INGEST: InputType.INGEST,
    }
)
_SIMILARITIES = MappingProxyType(
    {"cosine": "cosine", "dot": "dot_product", "dot_product": "dot_product", "euclidean": "l2_norm"}
)
_Count = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What happens to a text, or a pair of texts.

    encoder: None of a family that we do not build, which the folder's own graph has to run.
    transformer: where encoder and tokenizer are in the folder. width: of a token's state.
    padding_id: what fills up the rows of a batch. prompts: what stands before a text, by what it
    is for. truncation: of pairs. table: what searches are looked up in, None where they run as all
    texts. similarity: in words of the wire. remarks: what the operator should know.
    """

    task_type: TaskType
    transformer: Module
    encoder: Encoder | None
    width: int
    head: AnyHead
    max_tokens: int
    padding_id: int
    lowers_case: bool
    prompts: Mapping[InputType, str]
    truncation: Truncation
    table: Module | None
    similarity: str | None
    remarks: tuple[str, ...]


class _SentenceTransformers(msgspec.Struct):
    prompts: dict[str, str | None] = {}
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: _Count | None = None
    inferry_truncation: Truncation | None = None


class _Limits(msgspec.Struct):
    max_seq_length: _Count | None = None
    do_lower_case: bool = False


class _Tokenizer(msgspec.Struct):
    model_max_length: float | None = None


class _Measures(msgspec.Struct):
    """Measures of an encoder of any family."""

    max_position_embeddings: int | None = None
    hidden_size: _Count | None = None
    dim: _Count | None = None
    n_embd: _Count | None = None
    vocab_size: _Count | None = None
    pad_token_id: int | None = None


def read_pipeline(folder: ModelFolder, source: ModelSource) -> Pipeline:
    """Read the configuration files. Raises `UnusableModel`, which names the file at fault."""
    layout = read_layout(folder)
    task_type = task_of(folder, layout, source)
    transformer = layout.encoder
    config = transformer.file("config.json")
    encoder = read_encoder(folder, config)
    measures = folder.read_json(config, _Measures)
    width = encoder.width if encoder else measures.hidden_size or measures.dim or measures.n_embd
    if width is None:
        raise folder.unusable(config, "does not tell the width of the encoder [hidden_size]")
    settings = folder.find_json(SETTINGS_FILE, _SentenceTransformers)
    settings = settings or _SentenceTransformers()
    limits = _read_limits(folder, transformer)
    positions = encoder.max_tokens if encoder else measures.max_position_embeddings
    prompts = dict(settings.prompts if source.prompts is None else source.prompts)
    return Pipeline(
        task_type=task_type,
        transformer=transformer,
        encoder=encoder,
        width=width,
        head=_read_head(folder, layout, task_type, measures, width, source, settings),
        max_tokens=max_tokens(folder, transformer, limits.max_seq_length, positions),
        padding_id=_padding_id(encoder, measures),
        lowers_case=limits.do_lower_case,
        prompts=_prompts_by_input_type(prompts, settings.default_prompt_name),
        truncation=source.truncation or settings.inferry_truncation or "second",
        table=layout.table,
        similarity=_SIMILARITIES.get(settings.similarity_fn_name or ""),
        remarks=_remarks(layout, task_type, prompts, source),
    )


def _read_head(  # noqa: PLR0917 - what is known by then
    folder: ModelFolder,
    layout: Layout,
    task_type: TaskType,
    measures: _Measures,
    width: int,
    source: ModelSource,
    settings: _SentenceTransformers,
) -> AnyHead:
    match task_type:
        case TaskType.SPARSE_EMBEDDING:
            if measures.vocab_size is None:
                path = layout.encoder.file("config.json")
                raise folder.unusable(path, "does not tell the size of the vocabulary [vocab_size]")
            return read_splade_head(folder, layout, measures.vocab_size)
        case TaskType.RERANK:
            return read_score_head(folder, layout)
        case _:
            rest = layout.rest if layout.is_declared else (Module("Pooling"),)
            cut = source.dimensions or settings.truncate_dim
            return read_head(folder, rest, width, cut=cut)


def _remarks(
    layout: Layout, task_type: TaskType, prompts: Mapping[str, str | None], source: ModelSource
) -> tuple[str, ...]:
    """Tell what the operator should know."""
    remarks = []
    if not layout.is_declared and task_type is TaskType.TEXT_EMBEDDING:
        remarks.append("the folder names no modules: states of tokens are averaged")
    if not any(prompts.values()) and "e5-" in source.name.lower():
        remarks.append("models of the E5 family want prompts, and the folder has none")
    return tuple(remarks)


def _padding_id(encoder: Encoder | None, measures: _Measures) -> int:
    counted_from = encoder.padding_id if encoder else None
    return (measures.pad_token_id or 0) if counted_from is None else counted_from


def _read_limits(folder: ModelFolder, transformer: Module) -> _Limits:
    found = (folder.find_json(transformer.file(name), _Limits) for name in _LIMIT_FILES)
    return next((limits for limits in found if limits), _Limits())


def max_tokens(
    folder: ModelFolder,
    module: Module,
    declared: int | None = None,
    positions: int | None = None,
) -> int:
    """Give the least of the limits that are declared. module: where the tokenizer is."""
    path = module.file("tokenizer_config.json")
    tokenizer = folder.find_json(path, _Tokenizer) or _Tokenizer()
    limits = [declared, tokenizer.model_max_length, positions]
    known = [int(limit) for limit in limits if limit and 1 <= limit < _UNKNOWN_LENGTH]
    return min(known, default=_DEFAULT_LENGTH)


def _prompts_by_input_type(
    prompts: Mapping[str, str | None], default_name: str | None
) -> dict[InputType, str]:
    """Find the prompt of each input type under the names that models give it."""
    default = prompts.get(default_name or "") or ""
    found = {}
    for input_type in InputType:
        names = _PROMPT_NAMES.get(_INTERNAL.get(input_type, input_type), ())
        found[input_type] = next(
            (prompts[name] or "" for name in names if name in prompts), default
        )
    return found
