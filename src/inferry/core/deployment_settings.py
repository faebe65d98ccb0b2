"""What the settings of a local endpoint ask of its deployment. Pure.

The rules are those of the start and update of deployments in Elasticsearch.
"""

from __future__ import annotations

from collections.abc import Mapping

from inferry.core.preconfigured import ELSER_MODEL_ID
from inferry.domain import ElementType, Json, Settings, TaskType
from inferry.errors import InvalidRequest, InvalidSettings
from inferry.records import DeploymentRecord, DeploymentSpec, EndpointRecord

LOCAL_SERVICES = frozenset({"elasticsearch", "elser"})
"""Services whose models run here."""

_ALLOCATIONS, _ADAPTIVE = "num_allocations", "adaptive_allocations"
_ATTACHED = "deployment_id"
_MAX_THREADS = 32


def deployment_of(inference_id: str, settings: Settings) -> str:
    """Give the id of the deployment that runs an endpoint: its own, or one it is attached to."""
    return str(settings.get(_ATTACHED, inference_id))


def is_attached(settings: Settings) -> bool:
    """Tell whether an endpoint uses a deployment that is not its own."""
    return _ATTACHED in settings


def spec_of(record: EndpointRecord) -> DeploymentSpec:
    """Give the deployment that an endpoint wants for itself. Raises `InvalidRequest`."""
    settings: Mapping[str, Json] = record.service_settings
    adaptive = settings.get(_ADAPTIVE)
    wanted, threads = settings.get(_ALLOCATIONS), settings.get("num_threads")
    dimensions = record.service_settings.get("dimensions")
    assert isinstance(threads, int)
    problems = []
    if threads > _MAX_THREADS or threads & (threads - 1):
        problems.append(
            f"[threads_per_allocation] must be a power of 2 less than or equal to {_MAX_THREADS}"
        )
    if wanted is not None and _is_enabled(adaptive):
        problems.append("[number_of_allocations] cannot be set if adaptive allocations is enabled")
    if problems:
        raise InvalidRequest.of(problems)
    return DeploymentSpec(
        record.inference_id,
        model_of(record),
        wanted if isinstance(wanted, int) else _first_allocations(adaptive),
        threads,
        adaptive_allocations=adaptive if isinstance(adaptive, dict) else None,
        dimensions=dimensions if record.dimensions_set_by_user else None,
        task_type=TaskType(record.task_type),
    )


def model_of(record: EndpointRecord) -> str:
    """Give the model of an endpoint; that of the older service `elser` need not be named."""
    return str(record.service_settings.get("model_id", ELSER_MODEL_ID))


def settings_when_attached(deployment: DeploymentRecord) -> dict[str, Json]:
    """Give the settings of an endpoint that uses `deployment`: they are the deployment's."""
    spec = deployment.spec
    settings: dict[str, Json] = {
        _ALLOCATIONS: spec.num_allocations,
        "num_threads": spec.num_threads,
        "model_id": spec.model_id,
        _ADAPTIVE: spec.adaptive_allocations,
        _ATTACHED: spec.deployment_id,
    }
    return {name: value for name, value in settings.items() if value is not None}


def settings_when_measured(settings: Settings, deployment: DeploymentRecord) -> dict[str, Json]:
    """Add what the loaded model shows; of built-in models everybody knows it."""
    if deployment.spec.model_id.startswith(".") or deployment.dimensions is None:
        return dict(settings)
    element_type = settings.get("element_type", ElementType.FLOAT)
    usual = "l2_norm" if element_type == ElementType.BIT else deployment.similarity or "cosine"
    return {
        **settings,
        "dimensions": deployment.dimensions,
        "similarity": settings.get("similarity", usual),
        "element_type": element_type,
    }


def settings_when_live(settings: Settings, deployment: DeploymentRecord) -> dict[str, Json]:
    """Lay what a deployment has now over the settings of its endpoint, for those who read them."""
    others = {name: value for name, value in settings.items() if name != _ALLOCATIONS}
    return {_ALLOCATIONS: deployment.spec.num_allocations, **others}


def with_allocations(stored: Settings, given: Settings) -> dict[str, Json]:
    """Lay the allocations of an `_update` over the stored settings: one kind replaces the other.

    given: `service_settings` of the update. Raises `InvalidSettings` unless it has one kind.
    """
    named = [name for name in (_ALLOCATIONS, _ADAPTIVE) if given.get(name) is not None]
    if len(named) != 1:
        problem = (
            f"[{_ALLOCATIONS}] cannot be set if [{_ADAPTIVE}] is set"
            if named
            else "[service_settings] does not contain one of the required settings"
            f" [{_ALLOCATIONS}, {_ADAPTIVE}]"
        )
        raise InvalidSettings.of([problem])
    kept = {name: value for name, value in stored.items() if name not in (_ALLOCATIONS, _ADAPTIVE)}
    return {**kept, named[0]: given[named[0]]}


def _is_enabled(adaptive: Json) -> bool:
    return isinstance(adaptive, dict) and adaptive.get("enabled") is True


def _first_allocations(adaptive: Json) -> int:
    """Give the allocations to start with where their number follows the load."""
    least = adaptive.get("min_number_of_allocations") if isinstance(adaptive, dict) else None
    return max(1, least) if isinstance(least, int) else 1
