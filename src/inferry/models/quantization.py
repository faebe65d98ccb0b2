"""A model in 8-bit integers, made of one in floating point: what `inferry models quantize` does.

Of our own graph what stands before the head is quantized, and written as files in the form that
optimum gives them. The head stays in floating point, as configuration and weights of its modules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from inferry.domain import InputType, TaskType
from inferry.errors import IllegalArgument, InferenceError, UnusableModel
from inferry.modeling import Encoded, ModelSource, Runtime, RuntimeOptions
from inferry.models.closeness import Closeness, closeness_of
from inferry.models.copying import copy_needed, paths_in
from inferry.models.folder import ModelFolder
from inferry.models.layout import Module, is_masked_lm, read_layout
from inferry.models.pipeline import SETTINGS_FILE, read_pipeline
from inferry.models.probes import ROWS_FILE
from inferry.models.samples import Sample, part
from inferry.models.selection import QUANTIZED, is_float
from inferry.models.text_model import FolderModel, load_model, probe_rows
from inferry.telemetry import get_logger

if TYPE_CHECKING:
    from inferry.modeling import Ids, Rows

_QUERIES = 5
"""By so many a model that reranks is judged."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is quantized.

    quantize: makes a graph of 8-bit integers of one, by what it computes of given inputs, which go
    by their names. runtime: what both run on. task_type: what the model shall do, None for whatever
    its files say.
    """

    quantize: Callable[[Any, Sequence[Mapping[str, Ids]]], Any]
    runtime: Runtime
    task_type: TaskType | None = None


def quantize_folder(source: ModelSource, sample: Sample, target: Path, recipe: Recipe) -> Closeness:
    """Fill an empty folder with the model in 8-bit integers, and tell how close it is.

    Raises `UnusableModel`, `IllegalArgument` for a model or texts that cannot be quantized, and
    `StoreFailure` or `OSError` where the folder cannot be filled.
    """
    try:
        return _quantize(source, sample, target, recipe)
    except (InferenceError, OSError):
        raise
    except Exception as error:  # NNCF and OpenVINO know nothing narrower
        get_logger().debug("quantizing failed", model_id=source.name, exc_info=True)
        raise UnusableModel(
            f"the model [{source.name}] cannot be quantized, [{type(error).__name__}]: {error}; it"
            " still runs as it is, and other texts or another release of [nncf] may do. With"
            " [telemetry.log_level] at [debug] the log tells where it failed"
        ) from error


def _quantize(source: ModelSource, sample: Sample, target: Path, recipe: Recipe) -> Closeness:
    from inferry.models.graphs.build import build_body, has_int8_only
    from inferry.models.graphs.quantized import save_graph

    source = replace(source, task_type=recipe.task_type)
    folder = ModelFolder(source)
    _check(folder, source)
    pipeline = read_pipeline(folder, source)
    if has_int8_only(folder, pipeline):
        raise folder.unusable("", "it has no weights in floating point")
    options = RuntimeOptions(precision="f32")
    exact = load_model(source, options, runtime=recipe.runtime)
    chosen, held_out = _encode(exact, sample)
    body = build_body(folder, pipeline)
    names = [one.get_any_name() for one in body.model.inputs]
    inputs = [_inputs(one, names) for one in chosen]
    file = target / pipeline.transformer.file(QUANTIZED[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    save_graph(recipe.quantize(body.model, inputs), file)
    _keep_rows(target / pipeline.transformer.file(ROWS_FILE), probe_rows(exact))
    _copy_rest(source, pipeline.transformer, target)
    copy = replace(source, folder=target, within=None, checksums={})
    made = load_model(copy, options, runtime=recipe.runtime)
    assert made.cosine is not None  # its rows are beside it
    return closeness_of(_rows(made, held_out), _rows(exact, held_out), made.cosine)


def _check(folder: ModelFolder, source: ModelSource) -> None:
    """Refuse what cannot be quantized, or is not known well enough."""
    if source.module is not None:
        raise IllegalArgument(
            f"the model [{source.name}] is a TorchScript module: only models in the layout of"
            " Hugging Face can be quantized"
        )
    layout = read_layout(folder)
    if source.task_type is None and not layout.is_declared and is_masked_lm(folder, layout):
        raise IllegalArgument(
            f"the model [{source.name}] predicts tokens and names no modules: say with --task-type"
            " what it shall do, [text_embedding] or [sparse_embedding]"
        )


def _encode(model: FolderModel, sample: Sample) -> tuple[list[Encoded], list[Encoded]]:
    """Tokenize what the model is quantized by, and what it is judged by.

    Texts are documents. In pairs each query is judged with all documents, of which it makes an
    order.
    """
    if model.task_type is not TaskType.RERANK:
        return part(model.encode(sample.lines, InputType.INGEST))

    def encoded(query: str, *documents: str) -> list[Encoded]:
        return model.encode(documents, InputType.UNSPECIFIED, query)

    chosen, held_out = part(sample.pairs())
    documents = [pair.document for pair in held_out]
    return (
        [one for pair in chosen for one in encoded(pair.query, pair.document)],
        [one for pair in held_out[:_QUERIES] for one in encoded(pair.query, *documents)],
    )


def _inputs(text: Encoded, names: Collection[str]) -> dict[str, Ids]:
    """Give what a graph with inputs of these names takes of one text: int32[1, tokens] each."""
    import numpy as np

    every = {
        "input_ids": text.ids,
        "attention_mask": [1] * len(text.ids),
        "token_type_ids": text.types,
    }
    return {name: np.array([every[name]], np.int32) for name in names}


def _keep_rows(file: Path, rows: Rows) -> None:
    import numpy as np

    with file.open("wb") as written:
        np.save(written, rows, allow_pickle=False)


def _copy_rest(source: ModelSource, transformer: Module, target: Path) -> None:
    """Copy what else the model needs, but not its weights, and write down what its id promises."""
    listing = {path for path in paths_in(source.folder) if not is_float(path, transformer)}
    copy_needed(source, target, listing | paths_in(target))
    promised = {"prompts": source.prompts, "inferry_truncation": source.truncation}
    if kept := {name: value for name, value in promised.items() if value is not None}:
        file = target / SETTINGS_FILE
        settings = msgspec.json.decode(file.read_bytes()) if file.exists() else {}
        file.write_bytes(msgspec.json.encode({**settings, **kept}))


def _rows(model: FolderModel, texts: Sequence[Encoded]) -> Rows:
    import numpy as np

    return np.concatenate([model.rows([text]) for text in texts])
