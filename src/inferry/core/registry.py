"""The single writer of the registry; it lives in the supervisor.

Each handler takes a command and runs to its end in the nursery, whatever becomes of its caller.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

from inferry.commands import (
    ClearDeploymentCache,
    Command,
    DeleteEndpoint,
    DeleteModelAlias,
    DeleteReference,
    DeleteRegionPolicy,
    DeleteTrainedModel,
    Deletion,
    FetchModels,
    FetchSecrets,
    FetchStats,
    PutDefinitionPart,
    PutEndpoint,
    PutModelAlias,
    PutReference,
    PutRegionPolicy,
    PutTrainedModel,
    PutVocabulary,
    Rotated,
    RotateMasterKey,
    StartDeployment,
    StartModel,
    StopModel,
    UpdateEndpoint,
    UpdateModel,
    WakeDeployment,
)
from inferry.concurrency import Nursery
from inferry.core.assignments import Assignments
from inferry.core.built_in_models import BuiltInModels
from inferry.core.deployment_settings import LOCAL_SERVICES
from inferry.core.deployments import DeploymentWriter
from inferry.core.endpoint_writer import EndpointWriter, WriteRules
from inferry.core.ledger import Ledger
from inferry.core.local_models import LocalModels
from inferry.core.model_aliases import ModelAliases
from inferry.core.policy_writer import PolicyWriter
from inferry.core.rotation import Rotation
from inferry.core.sealing import Sealer
from inferry.core.trained_models import TrainedModelWriter
from inferry.protocols import (
    Deployments,
    Incoming,
    MasterKeys,
    ModelFiles,
    ModelSupply,
    Probe,
    Publish,
    Store,
    Vault,
)
from inferry.records import DeploymentRecord, EndpointRecord, Record, TrainedModelRecord
from inferry.service import Service
from inferry.telemetry import get_logger


class RotatingVault(Vault, MasterKeys, Protocol):
    """A vault whose key can be replaced."""


class Registry:
    """Carries out the commands of endpoints, uploaded models, region policy and references.

    files: of uploaded models; incoming: where API processes put what they receive. supply: of
    built-in models.
    nursery: of commands; starts: of local models that start, whoever waits for them.
    skip_validation: store without a probe or a start. timeout_s, generative_timeout_s: of a PUT
    that names none. node: what this host is called. clock: seconds since the epoch.
    """

    def __init__(  # noqa: PLR0913 - wired in one place, by name
        self,
        store: Store,
        vault: RotatingVault,
        services: Mapping[str, Service],
        probe: Probe,
        publish: Publish,
        *,
        deployments: Deployments,
        files: ModelFiles,
        incoming: Incoming,
        supply: ModelSupply,
        nursery: Nursery,
        starts: Nursery,
        skip_validation: bool = False,
        secret_reserve_s: float = 3600.0,
        timeout_s: float = 30.0,
        generative_timeout_s: float = 120.0,
        node: str = "local",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._nursery = nursery
        self._services = services
        self._ledger = Ledger(store, publish, clock)
        self._stored_local: list[str] = []
        rules = WriteRules(clock, skip_validation, timeout_s, generative_timeout_s)
        self._built_in = BuiltInModels(self._ledger, supply, nursery=starts)
        self._local = LocalModels(
            self._ledger, deployments, self._built_in, nursery=starts, skip_start=skip_validation
        )
        sealer = Sealer(vault, reserve_s=secret_reserve_s, clock=clock)
        self._endpoints = EndpointWriter(
            self._ledger, sealer, services, probe, self._local, rules=rules
        )
        self._policies = PolicyWriter(self._ledger, clock)
        self._rotation = Rotation(self._ledger, vault)
        self._trained_models = TrainedModelWriter(
            self._ledger, files, incoming, deployments, self._built_in
        )
        self._model_aliases = ModelAliases(self._ledger, deployments)
        self._deployments = DeploymentWriter(
            self._ledger,
            Assignments(self._ledger),
            deployments,
            self._built_in,
            nursery=starts,
            node=node,
        )

    def load(self, records: Iterable[Record]) -> None:
        """Take over what the store holds; records of other kinds are left alone.

        Endpoints of a service that is not here are kept and listed; running one is refused.
        """
        orphans: Counter[str] = Counter()
        self._ledger.load(self._noted(records, orphans))
        for service, endpoints in orphans.items():
            get_logger().warning(
                "endpoints of an unknown service", service=service, endpoints=endpoints
            )

    def resume(self, preload: Iterable[str]) -> None:
        """Start the local models of stored endpoints and deployments, and those of `preload`."""
        self._local.resume(self._stored_local, preload)
        self._deployments.resume()
        self._built_in.resume()

    def trained_models(self) -> Collection[str]:
        """Give the ids of the uploaded models."""
        return self._ledger.trained_models

    def records(self) -> Iterator[Record]:
        """Give every stored record of this registry as it is now, without sealed secrets."""
        return self._ledger.records()

    def handlers(self) -> dict[type[Command], Callable[[Any], Awaitable[Any]]]:
        """Give what carries out each command."""
        return {
            PutEndpoint: self.put_endpoint,
            UpdateEndpoint: self.update_endpoint,
            DeleteEndpoint: self.delete_endpoint,
            FetchSecrets: self.fetch_secrets,
            RotateMasterKey: self.rotate_master_key,
            StartDeployment: self.start_deployment,
            WakeDeployment: self.wake_deployment,
            StartModel: self.start_model,
            StopModel: self.stop_model,
            UpdateModel: self.update_model,
            ClearDeploymentCache: self._deployments.clear_cache,
            FetchModels: self._built_in.folders,
            FetchStats: self._deployments.stats,
            PutTrainedModel: self.put_trained_model,
            PutDefinitionPart: self.put_definition_part,
            PutVocabulary: self.put_vocabulary,
            DeleteTrainedModel: self.delete_trained_model,
            PutModelAlias: self.put_model_alias,
            DeleteModelAlias: self.delete_model_alias,
            PutRegionPolicy: self.put_region_policy,
            DeleteRegionPolicy: self.delete_region_policy,
            PutReference: self.put_reference,
            DeleteReference: self.delete_reference,
        }

    async def put_endpoint(self, command: PutEndpoint) -> bytes:
        """Create an endpoint and give its JSON object, or the answer of a dry run.

        Raises `BadRequest` and its kinds, `AlreadyExists`, `RegionDenied`, `ValidationCallFailed`,
        `DeadlineExceeded`, the vault's errors and `StoreFailure`; nothing is stored then.
        """
        return await self._nursery.finish(self._endpoints.create(command))

    async def update_endpoint(self, command: UpdateEndpoint) -> bytes:
        """Change an endpoint in place and give its JSON object.

        Raises as `put_endpoint`, `NotFound`, and `VersionConflict` when somebody else changed the
        endpoint meanwhile; nothing is changed then.
        """
        return await self._nursery.finish(self._endpoints.update(command))

    async def delete_endpoint(self, command: DeleteEndpoint) -> Deletion:
        """Delete an endpoint, or on a dry run tell what uses it.

        Raises `NotFound`, `BadRequest`, `Conflict` when it is in use, and `VersionConflict`.
        """
        return await self._nursery.finish(self._endpoints.delete(command))

    async def fetch_secrets(self, command: FetchSecrets) -> dict[str, str]:
        """Give the resolved secrets of the endpoint that had the revision asked for.

        Raises `NotFound`, and `VersionConflict` when another endpoint has the id by now.
        """
        return await self._endpoints.secrets(command.inference_id, command.revision)

    async def rotate_master_key(self, _: RotateMasterKey) -> Rotated:
        """Replace the master key. Raises `SecretsUnreadable` when it is not kept here."""
        return await self._nursery.finish(self._rotation.run())

    async def end_rotation(self) -> None:
        """End a rotation of the master key that an earlier server began."""
        await self._rotation.resume()

    async def start_deployment(self, command: StartDeployment) -> None:
        """Start the local model of an endpoint, or join its start, and return when it runs.

        Raises `NotFound`, and what the start failed with.
        """
        await self._local.start(command.inference_id)

    async def start_model(self, command: StartModel) -> DeploymentRecord:
        """Start a deployment. Raises as `DeploymentWriter.start`."""
        return await self._nursery.finish(self._deployments.start(command))

    async def stop_model(self, command: StopModel) -> None:
        """Stop deployments. Raises `NotFound`, `BadRequest`, and `Conflict` when one is in use."""
        await self._nursery.finish(self._deployments.stop(command))

    async def update_model(self, command: UpdateModel) -> DeploymentRecord:
        """Change a deployment. Raises `NotFound`, `InvalidRequest`."""
        return await self._nursery.finish(self._deployments.update(command))

    async def wake_deployment(self, command: WakeDeployment) -> None:
        """Start a deployment that rests, or join its start. Raises `NotDeployed`."""
        await self._deployments.wake(command.deployment_id)

    async def put_trained_model(self, command: PutTrainedModel) -> TrainedModelRecord:
        """Create a model whose parts come later or are downloaded, and give what is stored.

        Raises `BadRequest` and its kinds, `AlreadyExists`, and what a download failed with.
        """
        return await self._nursery.finish(self._trained_models.create(command))

    async def put_definition_part(self, command: PutDefinitionPart) -> None:
        """Take a part of a model. Raises `NotFound`, `InvalidRequest`, `AlreadyExists`."""
        await self._nursery.finish(self._trained_models.put_part(command))

    async def put_vocabulary(self, command: PutVocabulary) -> None:
        """Take the vocabulary of a model. Raises `NotFound`, `InvalidRequest`, `AlreadyExists`."""
        await self._nursery.finish(self._trained_models.put_vocabulary(command))

    async def delete_trained_model(self, command: DeleteTrainedModel) -> None:
        """Remove a model. Raises `NotFound`, and `Conflict` when it is in use."""
        await self._nursery.finish(self._trained_models.delete(command))

    async def put_model_alias(self, command: PutModelAlias) -> None:
        """Give a model another name. Raises `NotFound`, `BadRequest`."""
        await self._nursery.finish(self._model_aliases.put(command))

    async def delete_model_alias(self, command: DeleteModelAlias) -> None:
        """Take another name from a model. Raises `NotFound`, `BadRequest`."""
        await self._nursery.finish(self._model_aliases.delete(command))

    async def put_region_policy(self, command: PutRegionPolicy) -> bytes:
        """Set the region policy and give the stored document as JSON.

        `command.policy` is the whole body. Raises `IllegalArgument`, and `Conflict` when it would
        deny endpoints that exist and `force` is not set.
        """
        return await self._nursery.finish(self._policies.put_policy(command))

    async def delete_region_policy(self, _: DeleteRegionPolicy) -> None:
        """Remove the region policy. Raises `NotFound` when there is none."""
        await self._nursery.finish(self._policies.delete_policy())

    async def put_reference(self, command: PutReference) -> None:
        """Register something that uses endpoints. Raises `IllegalArgument`."""
        await self._nursery.finish(self._policies.put_reference(command))

    async def delete_reference(self, command: DeleteReference) -> None:
        """Forget something that used endpoints. Raises `NotFound` when nobody knows it."""
        await self._nursery.finish(self._policies.delete_reference(command.name))

    def _noted(self, records: Iterable[Record], orphans: Counter[str]) -> Iterator[Record]:
        """Pass `records` on; note local endpoints, and count those without a service."""
        for record in records:
            if isinstance(record, EndpointRecord):
                if record.service not in self._services:
                    orphans[record.service] += 1
                elif record.service in LOCAL_SERVICES:
                    self._stored_local.append(record.inference_id)
            yield record
