"""Uploaded models: created, filled, shown and removed (`_ml/trained_models`)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from inferry.api.elastic.body_shapes import Shape, parse_body
from inferry.api.elastic.endpoints import ACKNOWLEDGED, Acknowledged, actor_of
from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.fast_json import decode_json
from inferry.api.parameters import parse_flag, parse_page, parse_timeout
from inferry.api.trained_models.shapes import DEFINITION_PART, TRAINED_MODEL, VOCABULARY
from inferry.commands import (
    DeleteTrainedModel,
    FetchModels,
    PutDefinitionPart,
    PutTrainedModel,
    PutVocabulary,
    StagedFile,
)
from inferry.core.model_configs import check_model_id
from inferry.core.trained_model_catalogue import TrainedModelCatalogue
from inferry.core.trained_models import model_not_found
from inferry.domain import Json
from inferry.errors import IllegalArgument, UnreadableBody
from inferry.id_patterns import patterns_of
from inferry.inference_configs import only_entry
from inferry.protocols import Incoming, Writer
from inferry.records import TrainedModelRecord

T = TypeVar("T")

_READ: Final = "cluster:monitor/xpack/ml/inference/get"
_WRITE: Final = "cluster:admin/xpack/ml/inference/"
_MAX_CONFIG_BYTES: Final = 1024 * 1024
_INDEX: Final = ".ml-inference-native-000002"
"""Where upstream keeps definitions; clients expect a name to be there."""
_CONFIG_VERSION: Final = "12.0.0"
"""Version of the configuration's form that Elasticsearch writes since 8.13."""
_INCLUDED: Final = (
    "definition",
    "feature_importance_baseline",
    "hyperparameters",
    "total_feature_importance",
    "definition_status",
)
_GENERATED: Final = (
    *("created_by", "version", "create_time", "model_size_bytes", "estimated_operations"),
    *("license_level", "location"),
)
_OF_PUT: Final = frozenset({"defer_definition_decompression", "timeout", "wait_for_completion"})


class TrainedModelBody(msgspec.Struct, frozen=True):
    """The body of PUT. inference_config: one entry, named after the task."""

    model_type: str
    inference_config: dict[str, Any]
    description: str | None = None
    input: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    tags: list[str] | None = None
    prefix_strings: dict[str, str] | None = None
    platform_architecture: str | None = None


class DefinitionPartBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a definition, in base64; the numbers are of the whole definition."""

    definition: bytes
    total_definition_length: int
    total_parts: int


class VocabularyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A vocabulary; its order gives the ids of tokens."""

    vocabulary: list[str]
    merges: list[str] | None = None
    scores: list[float] | None = None


class TrainedModelAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A model as it is shown."""

    model_id: str
    model_type: str
    created_by: str | None = None
    version: str | None = None
    create_time: int | None = None
    model_size_bytes: int | None = None
    estimated_operations: int | None = None
    license_level: str | None = None
    description: str | None = None
    tags: list[str] = []
    metadata: dict[str, Any] | None = None
    platform_architecture: str | None = None
    input: dict[str, Any]
    inference_config: dict[str, Any]
    prefix_strings: dict[str, str] | None = None
    model_package: dict[str, Any] | None = None
    location: dict[str, Any] | None = None
    fully_defined: bool | None = None


class TrainedModelList(msgspec.Struct, frozen=True):
    """The answer of GET. count: of all that fit."""

    count: int
    trained_model_configs: list[TrainedModelAnswer]


def trained_model_routes(
    catalogue: TrainedModelCatalogue, writer: Writer, incoming: Incoming
) -> list[Route]:
    """Give the routes of uploaded models."""
    calls = _TrainedModels(catalogue, writer, incoming)
    every = "/_ml/trained_models"
    one = f"{every}/{{model_id}}"
    put = partial(Route, "PUT", action=f"{_WRITE}put", render_error=render_error, takes_body=True)
    return [
        *(
            Route(
                "GET",
                path,
                calls.list_models,
                _READ,
                render_error,
                "Show models",
                parameters=frozenset(
                    {"allow_no_match", "decompress_definition", "exclude_generated"}
                    | {"from", "include", "include_model_definition", "size", "tags"}
                ),
                answer_type=TrainedModelList,
            )
            for path in (every, one)
        ),
        put(
            path=one,
            handler=calls.create,
            summary="Create a model to be uploaded, or download a built-in one",
            parameters=_OF_PUT,
            max_body_bytes=_MAX_CONFIG_BYTES,
            body_type=TrainedModelBody,
            answer_type=TrainedModelAnswer,
        ),
        put(
            path=f"{one}/definition/{{part}}",
            handler=calls.put_part,
            summary="Upload a part of a model",
            body_type=DefinitionPartBody,
            answer_type=Acknowledged,
        ),
        put(
            path=f"{one}/vocabulary",
            handler=calls.put_vocabulary,
            summary="Upload the vocabulary of a model",
            body_type=VocabularyBody,
            answer_type=Acknowledged,
        ),
        Route(
            "DELETE",
            one,
            calls.delete,
            f"{_WRITE}delete",
            render_error,
            "Delete an uploaded model",
            parameters=frozenset({"force", "timeout"}),
            answer_type=Acknowledged,
        ),
    ]


class _TrainedModels:
    """The handlers."""

    def __init__(
        self, catalogue: TrainedModelCatalogue, writer: Writer, incoming: Incoming
    ) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._incoming = incoming

    async def list_models(self, request: Request) -> Answer:
        """Show those that are asked for."""
        query = request.query
        included = [one for one in query.get("include", "").split(",") if one]
        if unknown := [one for one in included if one not in _INCLUDED]:
            raise IllegalArgument(
                f"unknown [include] parameter [{', '.join(unknown)}]."
                f" Valid options are [{', '.join(_INCLUDED)}]"
            )
        first, size = parse_page(query)
        patterns = patterns_of(request.path_values.get("model_id", ""))
        found = self._catalogue.select(
            patterns,
            beside=await self._writer.submit(FetchModels(patterns)),
            allow_no_match="allow_no_match" not in query or parse_flag(query, "allow_no_match"),
            tags=[tag for tag in query.get("tags", "").split(",") if tag],
        )
        shown = [_shown(one) for one in found[first : first + size]]
        if parse_flag(query, "exclude_generated"):
            shown = [msgspec.structs.replace(one, **dict.fromkeys(_GENERATED)) for one in shown]
        if "definition_status" in included:
            pairs = zip(shown, found[first : first + size], strict=True)
            shown = [
                msgspec.structs.replace(one, fully_defined=record.is_whole) for one, record in pairs
            ]
        return Answer(msgspec.json.encode(TrainedModelList(len(found), shown)))

    async def create(self, request: Request) -> Answer:
        """Create a model."""
        model_id = request.path_values["model_id"]
        check_model_id(model_id.removeprefix("."))
        body = await request.read(partial(parse_body, shape=TRAINED_MODEL))
        waits = parse_flag(request.query, "wait_for_completion")
        timeout_s, timeout = parse_timeout(request.query.get("timeout", "-1" if waits else "30s"))
        command = PutTrainedModel(
            model_id,
            body,
            waits,
            timeout_s=timeout_s,
            timeout=timeout,
            actor=actor_of(request),
        )
        return Answer(msgspec.json.encode(_shown(await self._writer.submit(command))))

    async def put_part(self, request: Request) -> Answer:
        """Take a part: to disk first, then to the supervisor, so that it is in memory once."""
        model_id = self._known(request)
        part = _part_number(request.path_values["part"])
        staged, body = await asyncio.to_thread(self._stage_part, request.body)
        await self._writer.submit(
            PutDefinitionPart(
                model_id,
                part,
                body.total_parts,
                body.total_definition_length,
                staged,
                actor_of(request),
            )
        )
        return Answer(ACKNOWLEDGED)

    async def put_vocabulary(self, request: Request) -> Answer:
        """Take a vocabulary."""
        model_id = self._known(request)
        staged, body = await asyncio.to_thread(self._stage_vocabulary, request.body)
        await self._writer.submit(
            PutVocabulary(
                model_id,
                len(body.vocabulary),
                len(body.merges or ()),
                len(body.scores or ()),
                staged,
                actor_of(request),
            )
        )
        return Answer(ACKNOWLEDGED)

    async def delete(self, request: Request) -> Answer:
        """Remove a model."""
        if (text := request.query.get("timeout")) is not None:
            parse_timeout(text)
        command = DeleteTrainedModel(
            request.path_values["model_id"],
            force=parse_flag(request.query, "force"),
            actor=actor_of(request),
        )
        await self._writer.submit(command)
        return Answer(ACKNOWLEDGED)

    def _known(self, request: Request) -> str:
        """Give the id in the path, if there is such a model: before a long body is read."""
        model_id = request.path_values["model_id"]
        if self._catalogue.find(model_id) is None:
            raise model_not_found(model_id)
        return model_id

    def _stage_part(self, content: bytes) -> tuple[StagedFile, DefinitionPartBody]:
        body = _decode(content, DefinitionPartBody, DEFINITION_PART)
        staged = self._incoming.stage(body.definition)
        return staged, msgspec.structs.replace(body, definition=b"")

    def _stage_vocabulary(self, content: bytes) -> tuple[StagedFile, VocabularyBody]:
        body = _decode(content, VocabularyBody, VOCABULARY)
        return self._incoming.stage(msgspec.json.encode(body)), body


def _shown(record: TrainedModelRecord) -> TrainedModelAnswer:
    """Write a model as the wire shows it."""
    name, task = only_entry(record.config["inference_config"], "inference_config")
    shown: dict[str, Json] = {"vocabulary": {"index": _INDEX}, **task}
    config = dict(record.config)
    if record.aliases:
        config["metadata"] = {**(config.get("metadata") or {}), "model_aliases": record.aliases}
    return msgspec.convert(
        {
            **config,
            "model_id": record.model_id,
            "created_by": "api_user",
            "version": _CONFIG_VERSION,
            "create_time": record.create_time_ms,
            "model_size_bytes": record.definition.size_bytes if record.definition else 0,
            "estimated_operations": 0,
            "license_level": "platinum",
            "inference_config": {name: shown},
            "location": {"index": {"name": _INDEX}},
        },
        TrainedModelAnswer,
    )


def _decode(content: bytes, body_type: type[T], shape: Shape) -> T:
    """Decode a body; one that is not right is read once more, for the words of its refusal."""
    try:
        return msgspec.convert(decode_json(content), body_type)
    except (msgspec.MsgspecError, RecursionError) as error:
        parse_body(content, shape)
        raise UnreadableBody(f"[1:1] [{shape.parser}] {error}") from error


def _part_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise IllegalArgument(
            f"Failed to parse int parameter [part] with value [{text[:64]}]"
        ) from None
