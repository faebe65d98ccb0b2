"""Uploaded models as an API process shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from inferry.core.model_configs import model_named
from inferry.core.trained_models import model_not_found
from inferry.id_patterns import fits
from inferry.modeling import listed_id
from inferry.records import Change, DeploymentRecord, Drop, Put, TrainedModelRecord


class TrainedModelCatalogue:
    """The uploaded models, and what is deployed, as they are now."""

    def __init__(self) -> None:
        self._models: dict[str, TrainedModelRecord] = {}
        self._deployments: dict[str, DeploymentRecord] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over the uploaded models and deployments among `changes`."""
        for change in changes:
            match change:
                case Put(record=TrainedModelRecord() as model):
                    self._models[model.model_id] = model
                case Put(record=DeploymentRecord() as deployment):
                    self._deployments[deployment.key] = deployment
                case Drop(kind="trained_model", key=key):
                    self._models.pop(key, None)
                case Drop(kind="deployment", key=key):
                    self._deployments.pop(key, None)

    def find(self, model_id: str) -> TrainedModelRecord | None:
        """Give a model by its id or another name of it."""
        return model_named(self._models, model_id)

    def deployment(self, deployment_id: str) -> DeploymentRecord | None:
        """Give a deployment."""
        return self._deployments.get(deployment_id)

    def deployments_of(self, model_id: str) -> Sequence[DeploymentRecord]:
        """Give the deployments of a model, those that run first.

        model_id: one that nobody uploaded is also known by the id that it is listed under.
        """
        found = [
            one
            for one in self._deployments.values()
            if model_id in (one.spec.model_id, self.listed_id(one.spec.model_id))
        ]
        return sorted(found, key=lambda one: (one.state != "started", one.key))

    def listed_id(self, model_id: str) -> str:
        """Give the id that the model of a deployment is listed under."""
        listed = listed_id(model_id)
        return model_id if listed in self._models else listed

    def select(
        self,
        patterns: Iterable[str],
        *,
        beside: Iterable[TrainedModelRecord] = (),
        allow_no_match: bool = True,
        tags: Collection[str] = (),
    ) -> Sequence[TrainedModelRecord]:
        """Give the models that any of `patterns` means, by id.

        beside: models that nobody uploaded. tags: that they must all have. Raises `NotFound` for an
        id that nobody has, and without `allow_no_match` for a pattern that fits none.
        """
        known = {**{one.model_id: one for one in beside}, **self._models}
        wanted: set[str] = set()
        for pattern in patterns:
            found = [
                model_id
                for model_id, one in known.items()
                if any(fits(name, pattern) for name in (model_id, *one.aliases))
            ]
            if not found and (not allow_no_match or "*" not in pattern):
                raise model_not_found(pattern)
            wanted.update(found)
        models = [known[model_id] for model_id in sorted(wanted)]
        return [one for one in models if set(tags) <= set(one.config.get("tags", ()))]
