"""`_infer`: documents run by a model, a deployment or a local inference endpoint.

Each document is a request of its own to the engine, which runs them together, as many at a time as
fill its batches; one that cannot be processed gets a warning in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from inferry.concurrency import run_some, within
from inferry.core.deployment_settings import LOCAL_SERVICES, deployment_of
from inferry.core.runners.local import persistently
from inferry.core.snapshot import Snapshot
from inferry.core.trained_model_catalogue import TrainedModelCatalogue
from inferry.core.trained_models import model_not_found
from inferry.domain import (
    Deadline,
    DenseEmbeddings,
    InputType,
    Json,
    LocalResult,
    Ranking,
    SparseEmbeddings,
    TaskAnswers,
)
from inferry.errors import BadRequest, Conflict, NotDeployed
from inferry.inference_configs import (
    RESULTS_FIELD,
    check_results_field,
    only_entry,
    update_inference_config,
)
from inferry.modeling import MODEL_TYPES
from inferry.protocols import Engine
from inferry.records import DeploymentRecord, TrainedModelRecord
from inferry.vectors import vectors_to_json

_MOST_AT_ONCE = 128  # several batches of short texts; longer ones fill them sooner
_TEXT_FIELD = "text_field"
_QUERY = "text"
_REQUIRED: Mapping[str, str] = MappingProxyType(
    {
        "text_similarity": _QUERY,
        "question_answering": "question",
        "zero_shot_classification": "labels",
    }
)
"""What a task asks of its texts, which the model or the call has to say."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an id of `_infer` means.

    inference_id: of the endpoint whose id was given, else None. record: of an uploaded model.
    """

    model_id: str
    deployment: DeploymentRecord | None
    inference_id: str | None = None
    record: TrainedModelRecord | None = None


class TaskInference:
    """Answers `_infer`.

    wake: starts a deployment that rests; start: that of an endpoint. is_listed: tells whether there
    is a model of an id that nobody uploaded, and that is not deployed.
    """

    def __init__(
        self,
        catalogue: TrainedModelCatalogue,
        snapshot: Snapshot,
        engine: Engine,
        *,
        wake: Callable[[str], Awaitable[None]],
        start: Callable[[str], Awaitable[None]],
        is_listed: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._catalogue = catalogue
        self._snapshot = snapshot
        self._engine = engine
        self._wake = wake
        self._start = start
        self._is_listed = is_listed

    async def find(self, given: str) -> Target:
        """Tell what an id means: a deployment, a model or an endpoint. Raises `NotFound`."""
        entry = self._snapshot.get(given)
        if entry is not None and entry.service in LOCAL_SERVICES:
            settings = entry.endpoint().service_settings
            deployment = self._catalogue.deployment(deployment_of(given, settings))
            model_id = str(settings.get("model_id", given))
            return Target(model_id, deployment, given, self._catalogue.find(model_id))
        deployment = self._catalogue.deployment(given)
        if deployment is not None:
            model_id = deployment.spec.model_id
            return Target(model_id, deployment, record=self._catalogue.find(model_id))
        record = self._catalogue.find(given)
        model_id = given if record is None else record.model_id
        of_model = self._catalogue.deployments_of(model_id)
        if record is None and not of_model and not await self._is_listed(given):
            raise model_not_found(given)
        return Target(model_id, of_model[0] if of_model else None, record=record)

    async def run(
        self,
        target: Target,
        docs: Sequence[Mapping[str, Json]],
        update: Mapping[str, Json] | None,
        deadline: Deadline,
    ) -> list[dict[str, Any]]:
        """Give an answer for each document.

        Raises `Conflict` where nothing is deployed, `BadRequest` for an update that does not fit,
        `QueueFull`, and `DeadlineExceeded`.
        """
        deployment = target.deployment
        if deployment is None and target.inference_id is None:
            raise _not_deployed(target.model_id)
        asked = _Asked.of(target, update)

        async def answer(doc: Mapping[str, Json]) -> dict[str, Any]:
            text = _value_at(doc, asked.field)
            if text is None:
                return {"warning": f"could not find field [{asked.field}] in the document"}
            if not isinstance(text, str):
                return {"warning": f"the field [{asked.field}] of the document is not a text"}
            try:
                return asked.answer(await self._infer(target, text, asked, deadline))
            except BadRequest as error:
                return {"warning": str(error)}

        with within(deadline):
            return await run_some((answer(doc) for doc in docs), at_most=_MOST_AT_ONCE)

    async def _infer(
        self, target: Target, text: str, asked: _Asked, deadline: Deadline
    ) -> LocalResult:
        deployment_id = target.inference_id or target.model_id
        if target.deployment is not None:
            deployment_id = target.deployment.spec.deployment_id

        async def call() -> LocalResult:
            return await self._engine.infer(
                deployment_id,
                [text],
                query=asked.query,
                config=asked.config,
                input_type=InputType.UNSPECIFIED,
                deadline=deadline,
            )

        async def bring_up() -> None:
            try:
                if target.inference_id is not None:
                    await self._start(target.inference_id)
                else:
                    await self._wake(deployment_id)
            except NotDeployed as error:
                raise _not_deployed(target.model_id) from error

        return await persistently(call, deployment_id, bring_up)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a call asks of each document. config: None for the model's own."""

    field: str
    results_field: str
    query: str | None
    config: Mapping[str, Json] | None

    @classmethod
    def of(cls, target: Target, update: Mapping[str, Json] | None) -> _Asked:
        """Lay the update of a call over the model's own settings. Raises `BadRequest`."""
        if target.record is None or not target.record.is_module:
            return cls._of_folder(target, update)
        stored = target.record.config
        config = stored["inference_config"]
        if update is not None:
            config = update_inference_config(config, update)
        name, settings = only_entry(config, "inference_config")
        names = stored["input"].get("field_names") or [_TEXT_FIELD]
        return cls(
            str(names[0]),
            str(settings["results_field"]),
            _query(name, settings),
            None if update is None else config,
        )

    @classmethod
    def _of_folder(cls, target: Target, update: Mapping[str, Json] | None) -> _Asked:
        """Do the same for a model of a folder, whose settings are its own but for these two."""
        task_type = target.deployment.task_type if target.deployment else None
        expected = MODEL_TYPES.get(task_type) if task_type else None
        if update is None:
            return cls(_TEXT_FIELD, RESULTS_FIELD, _query(expected or "", {}), None)
        name, settings = only_entry(update, "inference_config")
        if expected is not None and name != expected:
            raise BadRequest(
                f"Trained model is configured for task [{expected}] but called with task [{name}]"
            )
        if unknown := sorted(settings.keys() - {_QUERY, "results_field"}):
            raise BadRequest(f"[{unknown[0]}] cannot be changed for a model of this kind")
        given = settings.get("results_field")
        field = RESULTS_FIELD if given is None else str(given)
        check_results_field(field)
        return cls(_TEXT_FIELD, field, _query(name, settings), None)

    def answer(self, result: LocalResult) -> dict[str, Any]:
        """Write the result of one text."""
        members: dict[str, Any]
        match result:
            case DenseEmbeddings(vectors=vectors):
                members = {self.results_field: msgspec.Raw(vectors_to_json(vectors)[0])}
            case SparseEmbeddings(items=items):
                members = {self.results_field: items[0]}
            case Ranking(documents=documents):
                members = {self.results_field: documents[0].relevance_score}
            case TaskAnswers(items=items):
                members = dict(items[0])
        if result.truncated:
            members["is_truncated"] = True
        return members


def _value_at(doc: Mapping[str, Json], field: str) -> Json:
    """Give what is in a field of a document, which may be in an object: `a.b`. None without it."""
    while field not in doc:
        outer, _, field = field.partition(".")
        nested = doc.get(outer)
        if not field or not isinstance(nested, dict):
            return None
        doc = nested
    return doc[field]


def _query(name: str, settings: Mapping[str, Json]) -> str | None:
    """Give what documents are compared with, where that is one text.

    Raises `BadRequest` where the task cannot be done for any document without what is missing.
    """
    required = _REQUIRED.get(name)
    asked = settings.get(required) if required else None
    if required and asked is None:
        raise BadRequest(f"[{required}] is required by the task of this model")
    return asked if required == _QUERY and isinstance(asked, str) else None


def _not_deployed(model_id: str) -> Conflict:
    return Conflict(
        f"Model [{model_id}] must be deployed to use. Please deploy with the start trained model"
        " deployment API."
    )
