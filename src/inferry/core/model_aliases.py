"""Other names of models in `_ml/trained_models`: given, moved to another model, and taken away.

A name leads to one model, and is no model's id. Rules and words are those of Elasticsearch.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack

import msgspec

from inferry.commands import DeleteModelAlias, PutModelAlias
from inferry.core.ledger import Ledger
from inferry.core.trained_models import inference_config_of, model_not_found
from inferry.errors import BadRequest, InvalidRequest, NotFound
from inferry.protocols import Deployments
from inferry.records import Put, TrainedModelRecord

_ALIAS = re.compile(r"[a-z0-9](?:[a-z0-9_\-.]*[a-z])?")
_MAX_ALIAS = 64
_ALL_ALIASES = "*"
"""Key of the lock that changes of other names hold, since they may be about two models."""


class ModelAliases:
    """Carries out the commands of other names; call it where no cancellation reaches."""

    def __init__(self, ledger: Ledger, deployments: Deployments) -> None:
        self._ledger = ledger
        self._deployments = deployments

    async def put(self, command: PutModelAlias) -> None:
        """Give a model another name. Raises `NotFound`, `BadRequest`, `InvalidRequest`."""
        model_id, alias = command.model_id, command.alias
        _check_alias(alias)
        ledger = self._ledger
        async with ledger.locks.hold(alias), ledger.model_locks.hold(_ALL_ALIASES):
            former = self._ledger.model_named(alias)
            if former is not None and former.model_id == alias:
                raise BadRequest(
                    f"model_alias [{alias}] cannot be the same as an existing model_id"
                )
            self._check_free(alias)
            if former is not None and former.model_id != model_id:
                self._check_reassign(command, former)
            owners = {model_id} if former is None else {model_id, former.model_id}
            async with AsyncExitStack() as stack:
                for owner in sorted(owners):
                    await stack.enter_async_context(self._ledger.model_locks.hold(owner))
                await self._ledger.commit(
                    *(self._change(one, alias, adds=one == model_id) for one in owners)
                )

    async def delete(self, command: DeleteModelAlias) -> None:
        """Take another name from a model. Raises `NotFound`, `BadRequest`."""
        model_id, alias = command.model_id, command.alias
        async with self._ledger.model_locks.hold(_ALL_ALIASES):
            found = self._ledger.model_named(alias)
            if found is None or found.model_id == alias:
                raise NotFound(f"model_alias [{alias}] could not be found")
            if found.model_id != model_id:
                raise BadRequest(
                    f"model_alias [{alias}] does not refer to provided model_id [{model_id}]"
                )
            async with self._ledger.model_locks.hold(model_id):
                await self._ledger.commit(self._change(model_id, alias, adds=False))

    def _check_free(self, alias: str) -> None:
        """Refuse the id of a deployment or of an endpoint."""
        is_started = alias in self._ledger.assignments
        if is_started or self._deployments.find(alias) is not None:
            raise BadRequest(f"model_alias [{alias}] cannot be the same as a deployment_id")
        if self._ledger.endpoint(alias) is not None:
            raise BadRequest(f"model_alias [{alias}] cannot be the same as an inference_id")

    def _check_reassign(self, command: PutModelAlias, former: TrainedModelRecord) -> None:
        alias, model_id = command.alias, command.model_id
        model = self._require(model_id)
        if not command.reassign:
            raise BadRequest(
                f"cannot assign model_alias [{alias}] to model_id [{model_id}] as model_alias"
                f" already refers to [{former.model_id}]. Set parameter [reassign] to [true] if"
                " model_alias should be reassigned."
            )
        (old, _), (new, _) = inference_config_of(former), inference_config_of(model)
        if old != new:
            raise BadRequest(
                f"cannot reassign model_alias [{alias}] to model [{model_id}] with inference config"
                f" type [{new}] from model [{former.model_id}] with type [{old}]"
            )

    def _change(self, model_id: str, alias: str, *, adds: bool) -> Put:
        """Give the change that adds a name to a model, or takes it away. Raises `NotFound`."""
        record = self._require(model_id)
        names = {*record.aliases, alias} if adds else {*record.aliases} - {alias}
        revision = self._ledger.next_revision(after=record.revision)
        changed = msgspec.structs.replace(record, aliases=sorted(names), revision=revision)
        return Put(changed, expects=record.revision)

    def _require(self, model_id: str) -> TrainedModelRecord:
        record = self._ledger.trained_models.get(model_id)
        if record is None:
            raise model_not_found(model_id)
        return record


def _check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias) or len(alias) > _MAX_ALIAS:
        raise InvalidRequest.of(
            [
                f"Invalid model_alias; '{alias[:_MAX_ALIAS]}' can contain lowercase alphanumeric"
                " (a-z and 0-9), hyphens or underscores; must start with alphanumeric and cannot"
                " end with numbers"
            ]
        )
