"""Built-in models in `_ml/trained_models`: put there by a caller or a deployment, and downloaded.

A model is listed once it is known what it is, and whole once it is here. Downloads go on whoever
waits for them; one that a crash cut off goes on with the next server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferry.commands import FetchModels, PutTrainedModel
from inferry.concurrency import Nursery, within
from inferry.core.ledger import Ledger
from inferry.core.model_configs import check_model_id, config_of
from inferry.domain import Deadline, Json
from inferry.errors import (
    AlreadyExists,
    BadRequest,
    DeadlineExceeded,
    InferenceError,
    ShuttingDown,
    StillStarting,
)
from inferry.protocols import ModelSupply
from inferry.records import Put, Supplied, TrainedModelRecord
from inferry.telemetry import get_logger

_OF_THE_CALLER = ("input",)
_OF_THE_PACKAGE = (
    *("packaged_model_id", "minimum_version", "size", "sha256", "vocabulary_file"),
    *("metadata", "tags"),
)


@dataclass(slots=True)
class _Job:
    """A model that is being brought. listed: it is known, or that it will not be.

    is_abandoned: the model was deleted meanwhile.
    """

    listed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    is_abandoned: bool = False


class BuiltInModels:
    """Lists built-in models; call it where no cancellation reaches. nursery: of downloads."""

    def __init__(self, ledger: Ledger, supply: ModelSupply, *, nursery: Nursery) -> None:
        self._ledger = ledger
        self._supply = supply
        self._nursery = nursery
        self._locks = ledger.model_locks
        self._jobs: dict[str, _Job] = {}

    async def create(self, command: PutTrainedModel) -> TrainedModelRecord:
        """Begin to download a model, or go on with it, and give it once it is known.

        Raises `AlreadyExists` for one that is here or comes, `BadRequest`, `NotFound`, what went
        wrong before it was known or, where the caller waits for it, at all, and `StillStarting`
        when the time comes first: it goes on.
        """
        try:
            with within(Deadline.after(command.timeout_s, command.timeout)):
                return await self._create(command)
        except DeadlineExceeded as error:
            progress = self.progress().get(command.model_id, "looking for it")
            raise StillStarting(
                f"Timed out after [{command.timeout}] waiting for the model [{command.model_id}]:"
                f" {progress}. It goes on downloading"
            ) from error

    async def _create(self, command: PutTrainedModel) -> TrainedModelRecord:
        model_id = command.model_id
        check_model_id(model_id.removeprefix("."))
        for name in command.body:
            if name not in _OF_THE_CALLER:
                raise BadRequest(
                    f"illegal to set [{name}] on inference model creation for packaged model"
                    f" [{model_id}]"
                )
        while (job := self._jobs.get(model_id)) and not job.listed.is_set():
            await job.listed.wait()
        record = self._ledger.trained_models.get(model_id)
        if record is not None and (record.is_whole or model_id in self._jobs):
            raise AlreadyExists(f"Trained machine learning model [{model_id}] already exists")
        job = self._begin(model_id, command.body, command.actor)
        assert job.task is not None
        await job.listed.wait()
        if command.wait_for_completion or model_id not in self._ledger.trained_models:
            await asyncio.shield(job.task)
        return self._ledger.trained_models[model_id]

    def accompany(self, model_id: str) -> None:
        """List the package that a deployment is about to download."""
        record = self._ledger.trained_models.get(model_id)
        is_known = record is not None and record.is_whole
        if model_id.startswith(".") and not is_known:
            self._nursery.start(self._accompany(model_id))

    def resume(self) -> None:
        """Go on with the downloads that an earlier server began."""
        for model_id, record in list(self._ledger.trained_models.items()):
            if record.is_built_in and not record.is_whole:
                self._begin(model_id, {}, record.created_by)

    async def folders(self, command: FetchModels) -> list[TrainedModelRecord]:
        """List the models that are folders of this machine, but for ids that are in use."""
        listed = await self._supply.listed(command.patterns)
        return [one for one in listed if self._ledger.model_named(one.model_id) is None]

    def progress(self) -> dict[str, str]:
        """Tell of each model that comes how far it is."""
        return self._supply.progress()

    def abandon(self, model_id: str) -> bool:
        """Let what is being brought of a model not be listed any more; call it within its lock.

        Tells whether something is.
        """
        job = self._jobs.get(model_id)
        if job is not None:
            job.is_abandoned = True
        return job is not None

    async def stop(self, model_id: str) -> None:
        """Stop to bring a model that was abandoned before it was known what it is."""
        await self._supply.remove(model_id)

    async def remove(self, record: TrainedModelRecord) -> None:
        """Delete the files of a model that is no longer listed, unless another one has them."""
        others = (one.definition for one in self._ledger.trained_models.values())
        if record.definition is None or record.definition not in others:
            await self._supply.remove(record.model_id)

    async def _accompany(self, model_id: str) -> None:
        if await self._supply.is_package(model_id):
            self._begin(model_id, {}, None)

    def _begin(self, model_id: str, body: Mapping[str, Json], actor: str | None) -> _Job:
        job = self._jobs.get(model_id)
        if job is None:
            job = self._jobs[model_id] = _Job()
            job.task = self._nursery.start(self._bring(model_id, body, actor, job))
        return job

    async def _bring(
        self, model_id: str, body: Mapping[str, Json], actor: str | None, job: _Job
    ) -> None:
        async def learn(described: dict[str, Json]) -> None:
            async with self._locks.hold(model_id):
                if not job.is_abandoned:
                    await self._list(model_id, {**_config(described), **body}, actor)
            job.listed.set()

        try:
            await self._complete(model_id, await self._supply.bring(model_id, learn))
        except ShuttingDown:  # or it was deleted
            raise
        except InferenceError as error:
            get_logger().warning("a model was not downloaded", model_id=model_id, reason=str(error))
            raise
        finally:
            del self._jobs[model_id]
            job.listed.set()

    async def _list(self, model_id: str, config: dict[str, Any], actor: str | None) -> None:
        if model_id in self._ledger.trained_models:
            return
        revision = self._ledger.next_revision()
        record = TrainedModelRecord(
            model_id, config, revision, created_by=actor, is_built_in=True, revision=revision
        )
        await self._ledger.commit(Put(record, expects=0))

    async def _complete(self, model_id: str, supplied: Supplied) -> None:
        async with self._locks.hold(model_id):
            record = self._ledger.trained_models.get(model_id)
            if record is None:
                return  # it was deleted meanwhile
            whole = msgspec.structs.replace(
                record,
                definition=supplied.definition,
                vocabulary=supplied.vocabulary,
                revision=self._ledger.next_revision(after=record.revision),
            )
            await self._ledger.commit(Put(whole, expects=record.revision))


def _config(described: Mapping[str, Json]) -> dict[str, Json]:
    """Give what is stored of a model, of what it says of itself."""
    config = config_of(described)
    if "packaged_model_id" in described:
        config["model_package"] = {
            name: described[name] for name in _OF_THE_PACKAGE if name in described
        }
    return config
