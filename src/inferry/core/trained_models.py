"""Creates uploaded models, takes their parts, and removes them.

A model is created by its configuration; its definition comes in parts, its vocabulary in one piece,
in any order. Writes on one model wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from inferry.commands import (
    DeleteTrainedModel,
    PutDefinitionPart,
    PutTrainedModel,
    PutVocabulary,
)
from inferry.core.built_in_models import BuiltInModels
from inferry.core.deployment_settings import model_of
from inferry.core.ledger import Ledger
from inferry.core.model_configs import check_model_id, config_of
from inferry.domain import Json
from inferry.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    InvalidRequest,
    NotFound,
)
from inferry.inference_configs import only_entry
from inferry.protocols import Deployments, Incoming, ModelFiles
from inferry.records import Announced, Drop, Put, TrainedModelRecord

_MOST_PARTS = 10_000
_NEEDS_MERGES = ("roberta",)
_NEEDS_SCORES = ("xlm_roberta", "deberta_v2")


class TrainedModelWriter:
    """Carries out the commands of uploaded models; call it where no cancellation reaches."""

    def __init__(
        self,
        ledger: Ledger,
        files: ModelFiles,
        incoming: Incoming,
        deployments: Deployments,
        built_in: BuiltInModels,
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._incoming = incoming
        self._deployments = deployments
        self._built_in = built_in
        self._locks = ledger.model_locks

    async def create(self, command: PutTrainedModel) -> TrainedModelRecord:
        """Create a model with its configuration alone; one with a leading dot is built in."""
        model_id = command.model_id
        if model_id.startswith("."):
            return await self._built_in.create(command)
        check_model_id(model_id)
        config = config_of(command.body)
        # An endpoint or a deployment may be about to take the id: they hold the other lock.
        async with self._ledger.locks.hold(model_id), self._locks.hold(model_id):
            self._check_free(model_id, config)
            revision = self._ledger.next_revision()
            record = TrainedModelRecord(
                model_id, config, revision, created_by=command.actor, revision=revision
            )
            await asyncio.to_thread(self._files.create, model_id, config)
            try:
                await self._ledger.commit(Put(record, expects=0))
            except BaseException:
                await asyncio.to_thread(self._files.remove, model_id)
                raise
        return record

    async def put_part(self, command: PutDefinitionPart) -> None:
        """Take a part of the definition; with the last one it becomes whole."""
        model_id, staged = command.model_id, command.file
        try:
            _check_part(command)
            async with self._locks.hold(model_id):
                record, announced = self._announced(command)
                if record.definition is not None:
                    raise AlreadyExists(
                        f"Trained machine learning model chunked doc [{model_id}][{command.part}]"
                        " already exists"
                    )
                whole = await asyncio.to_thread(
                    self._files.take_part,
                    model_id,
                    command.part,
                    staged,
                    announced,
                    is_first=record.announced is None,
                )
                # Only now: what was announced without a part would bind all after a crash.
                taken = msgspec.structs.replace(record, announced=announced, definition=whole)
                if taken != record:
                    await self._commit(taken)
                if whole is not None:
                    await asyncio.to_thread(self._files.drop_parts, model_id)
        finally:
            await asyncio.to_thread(self._incoming.discard, staged)

    async def put_vocabulary(self, command: PutVocabulary) -> None:
        """Take the vocabulary."""
        model_id, staged = command.model_id, command.file
        try:
            async with self._locks.hold(model_id):
                record = self._require_upload(model_id)
                _check_vocabulary(record, command)
                if record.vocabulary is not None:
                    raise AlreadyExists(
                        f"Trained machine learning model vocabulary [{model_id}] already exists"
                    )
                taken = await asyncio.to_thread(self._files.take_vocabulary, model_id, staged)
                await self._commit(msgspec.structs.replace(record, vocabulary=taken))
        finally:
            await asyncio.to_thread(self._incoming.discard, staged)

    async def delete(self, command: DeleteTrainedModel) -> None:
        """Remove a model and its files; with `force` also its deployments.

        One that is being downloaded and waits for its turn comes no more.
        """
        model_id = command.model_id
        if await self._delete_unknown(model_id):
            return
        async with self._locks.hold(model_id):
            record = self._require(model_id)
            deployed = [
                one.spec.deployment_id
                for one in self._deployments.records()
                if one.spec.model_id == model_id
            ]
            if not command.force:
                self._refuse_use(model_id, deployed)
            for deployment_id in deployed:
                if deployment_id in self._ledger.assignments:
                    await self._ledger.commit(Drop("assignment", deployment_id))
                await self._deployments.stop(deployment_id)
            self._built_in.abandon(model_id)
            await self._ledger.commit(Drop("trained_model", model_id, expects=record.revision))
            if not record.is_built_in:
                await asyncio.to_thread(self._files.remove, model_id)
        if record.is_built_in:
            await self._built_in.remove(record)

    async def _delete_unknown(self, model_id: str) -> bool:
        """Stop the download of what is not listed yet, and tell whether there was one."""
        async with self._locks.hold(model_id):
            is_listed = model_id in self._ledger.trained_models
            is_coming = not is_listed and self._built_in.abandon(model_id)
        if is_coming:  # outside of the lock, which what comes may wait for
            await self._built_in.stop(model_id)
        return is_coming

    def _check_free(self, model_id: str, config: Mapping[str, Json]) -> None:
        """Refuse an id that something else has."""
        if model_id in self._ledger.trained_models:
            raise AlreadyExists(f"Trained machine learning model [{model_id}] already exists")
        if self._ledger.model_named(model_id) is not None:
            raise BadRequest(
                f"requested model_id [{model_id}] is the same as an existing model_alias."
                " Model model_aliases and ids must be unique"
            )
        is_deployment = self._deployments.find(model_id) is not None
        if is_deployment or model_id in self._ledger.assignments:
            raise BadRequest(
                f"Cannot create model [{model_id}] the id is the same as a current model deployment"
            )
        if self._ledger.endpoint(model_id) is not None:
            raise BadRequest(
                f"Model IDs must be unique. Requested model ID [{model_id}] matches existing"
                " inference endpoint ID(s) but must not."
            )
        tags = config.get("tags", [])
        taken = [tag for tag in tags if tag == model_id or tag in self._ledger.trained_models]  # type: ignore[union-attr]  # a list of strings
        if taken:
            raise InvalidRequest.of(
                [f"The provided tags [{', '.join(taken)}] must not match existing model_ids."]
            )

    def _require(self, model_id: str) -> TrainedModelRecord:
        record = self._ledger.trained_models.get(model_id)
        if record is None:
            raise model_not_found(model_id)
        return record

    def _require_upload(self, model_id: str) -> TrainedModelRecord:
        record = self._require(model_id)
        if record.is_built_in:
            raise BadRequest(
                f"The model [{model_id}] is built in: its files are downloaded, and not uploaded"
            )
        return record

    def _announced(self, command: PutDefinitionPart) -> tuple[TrainedModelRecord, Announced]:
        """Give the model, and what its parts say of each other, which must be the same."""
        record = self._require_upload(command.model_id)
        announced = Announced(command.total_parts, command.total_definition_length)
        if record.announced in (None, announced):
            return record, announced
        name = (
            "total_parts"
            if record.announced.total_parts != command.total_parts
            else "total_definition_length"
        )
        raise InvalidRequest(f"[{name}] must be the same in all model definition parts")

    def _refuse_use(self, model_id: str, deployed: list[str]) -> None:
        if deployed:
            raise Conflict(
                f"Cannot delete model [{model_id}] as it is currently deployed; use force to delete"
                " the model"
            )
        users = [
            one.inference_id for one in self._ledger.local_endpoints() if model_of(one) == model_id
        ]
        if users:
            raise Conflict(
                f"Cannot delete model [{model_id}] as it is still referenced by inference endpoints"
                f" [{', '.join(users)}]; use force to delete the model"
            )

    async def _commit(self, record: TrainedModelRecord) -> TrainedModelRecord:
        following = msgspec.structs.replace(
            record, revision=self._ledger.next_revision(after=record.revision)
        )
        await self._ledger.commit(Put(following, expects=record.revision))
        return following


def model_not_found(model_id: str) -> NotFound:
    """Say that there is no such model."""
    return NotFound(f"No known trained model with model_id [{model_id}]")


def inference_config_of(record: TrainedModelRecord) -> tuple[str, Mapping[str, Json]]:
    """Give the name of a model's task, and its settings."""
    return only_entry(record.config["inference_config"], "inference_config")


def _check_part(command: PutDefinitionPart) -> None:
    """Refuse numbers that do not fit together, all problems at once."""
    problems = []
    if command.part < 0:
        problems.append("[part] must be greater or equal to 0")
    if command.total_parts <= command.part:
        problems.append("[part] must be less than total_parts")
    if command.total_parts < 1:
        problems.append("[total_parts] must be greater than 0")
    if command.total_parts > _MOST_PARTS:
        problems.append(f"[total_parts] must be less than or equal to {_MOST_PARTS}")
    if command.total_definition_length < 1:
        problems.append("[total_definition_length] must be greater than 0")
    size, total = command.file.size_bytes, command.total_definition_length
    if size < 1:
        problems.append("[definition] must not be empty")
    elif 0 < total < size:
        problems.append(
            f"[definition] of part [{command.part}] has [{size}] bytes, which is more than"
            f" [total_definition_length] of [{total}]"
        )
    if problems:
        raise InvalidRequest.of(problems)


def _check_vocabulary(record: TrainedModelRecord, command: PutVocabulary) -> None:
    """Refuse a vocabulary that no tokenizer of the model's kind can be made of."""
    problems = []
    if not command.words:
        problems.append("[vocabulary] must not be empty")
    if command.scores and command.scores != command.words:
        problems.append("[scores] must have same length as [vocabulary]")
    if problems:
        raise InvalidRequest.of(problems)
    _, config = inference_config_of(record)
    block, _ = only_entry(config["tokenization"], "tokenization")
    lacking = [
        name
        for name, kinds, given in (
            ("merges", _NEEDS_MERGES, command.merges),
            ("scores", _NEEDS_SCORES, command.scores),
        )
        if block in kinds and not given
    ]
    if lacking:
        raise InvalidRequest.of(
            [
                f"cannot put vocabulary for model [{record.model_id}] as tokenizer type [{block}]"
                f" requires [{lacking[0]}] to be provided and non-empty"
            ]
        )
