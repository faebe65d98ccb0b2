"""Models of folders as `_ml/trained_models` lists them: what their own files say, in its words.

Nothing is loaded: sizes and configuration files are all that is read. Packages and uploads are
listed by who brings them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

import msgspec

from inferry.domain import InputType, Json
from inferry.errors import InferenceError
from inferry.inference_configs import complete_inference_config
from inferry.modeling import MODEL_TYPES, ModelSource, listed_id
from inferry.models.folder import ModelFolder
from inferry.models.heads import Head
from inferry.models.inventory import Inventory
from inferry.models.model_ids import Entry, ModelIds
from inferry.models.pipeline import Pipeline, read_pipeline
from inferry.models.sources import HubId
from inferry.models.wanted import Wanted
from inferry.records import StoredFile, TrainedModelRecord

_BLOCKS: Mapping[str, str] = MappingProxyType(
    {
        "mpnet": "mpnet",
        "roberta": "roberta",
        "xlm-roberta": "xlm_roberta",
        "camembert": "xlm_roberta",
        "deberta-v2": "deberta_v2",
    }
)
"""By the family of an encoder: which tokenizer it has; that of all others is BERT's."""
_MAY_LOWER_CASE = ("bert", "mpnet")
_NS_PER_MS = 1_000_000


class _Kind(msgspec.Struct):
    model_type: str = ""


class _Casing(msgspec.Struct):
    do_lower_case: bool = False


def list_folders(
    ids: ModelIds, inventory: Inventory, patterns: Collection[str]
) -> list[TrainedModelRecord]:
    """List the models of this machine that are folders, by each id; not those that cannot run.

    patterns: of `inferry.id_patterns`, one of which means the id that a model is listed under; of
    others no file is read.
    """
    found: dict[str, TrainedModelRecord] = {}
    for name in ids.of_folders(Wanted(patterns)):
        with suppress(InferenceError, OSError):  # `inferry models list` tells what is wrong with it
            entry = ids.look_up(name)
            source = next(inventory.folders_of(entry), None)
            if source is not None:
                record = _listed(name, entry, source)
                found.setdefault(record.model_id, record)
    return list(found.values())


def describe_folder(entry: Entry, source: ModelSource) -> dict[str, Json]:
    """Tell what a model is for, in the form of the body of `PUT _ml/trained_models`.

    Raises `UnusableModel`.
    """
    folder = ModelFolder(source)
    pipeline = read_pipeline(folder, source)
    config: dict[str, Json] = {
        "model_type": "pytorch",
        "input": {"field_names": ["text_field"]},
        "inference_config": complete_inference_config(_inference_config(folder, pipeline)),
        "metadata": dict(_origin_of(entry, source)),
    }
    prefixes: dict[str, Json] = {
        side: prompt
        for side, input_type in (("search", InputType.SEARCH), ("ingest", InputType.INGEST))
        if (prompt := pipeline.prompts[input_type])
    }
    if prefixes:
        config["prefix_strings"] = prefixes
    return config


def _listed(name: str, entry: Entry, source: ModelSource) -> TrainedModelRecord:
    config = describe_folder(entry, source)
    files = [one.stat() for one in source.folder.rglob("*") if one.is_file()]
    return TrainedModelRecord(
        listed_id(name),
        config,
        max(one.st_mtime_ns for one in files) // _NS_PER_MS,
        definition=StoredFile("", sum(one.st_size for one in files)),
        is_built_in=True,
    )


def _inference_config(folder: ModelFolder, pipeline: Pipeline) -> dict[str, Json]:
    """Tell what a model does, and how its texts are tokenized."""
    encoder = pipeline.transformer
    kind = folder.read_json(encoder.file("config.json"), _Kind).model_type
    block = _BLOCKS.get(kind, "bert")
    tokenization: dict[str, Json] = {"max_sequence_length": pipeline.max_tokens}
    if block in _MAY_LOWER_CASE:
        casing = folder.find_json(encoder.file("tokenizer_config.json"), _Casing) or _Casing()
        tokenization["do_lower_case"] = casing.do_lower_case or pipeline.lowers_case
    task = MODEL_TYPES[pipeline.task_type]
    if task == "text_similarity":
        tokenization["truncate"] = pipeline.truncation
    settings: dict[str, Json] = {"tokenization": {block: tokenization}}
    if isinstance(pipeline.head, Head):
        settings["embedding_size"] = pipeline.head.width
    return {task: settings}


def _origin_of(entry: Entry, source: ModelSource) -> Iterator[tuple[str, Json]]:
    """Tell where a model is from; never where on this machine it is."""
    if not isinstance(entry.source, HubId):
        yield "source", "folder"
        return
    yield "source", entry.source.repository
    commit = HubId(entry.source.repository, source.folder.name)
    yield "revision", commit.revision if commit.is_commit else entry.source.revision
    if entry.checksums:
        yield "sha256", dict(entry.checksums)
