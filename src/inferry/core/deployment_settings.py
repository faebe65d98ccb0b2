"""What the settings of a local endpoint ask of its deployment. Pure.

The rules are those of the start and update of deployments in Elasticsearch.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from inferry.allocations import BOTH, allocation_problems, is_enabled, thread_problems, with_enabled
from inferry.commands import StartModel, UpdateModel
from inferry.core.preconfigured import ELSER_MODEL_ID
from inferry.domain import ElementType, Json, Settings, TaskType
from inferry.errors import BadRequest, InvalidRequest, InvalidSettings, UnusableModel
from inferry.fields import missing
from inferry.records import DeploymentRecord, DeploymentSpec, EndpointRecord

LOCAL_SERVICES = frozenset({"elasticsearch", "elser"})
"""Services whose models run here."""

_ALLOCATIONS, _ADAPTIVE = "num_allocations", "adaptive_allocations"
_ATTACHED = "deployment_id"
_ORDER = (
    *(_ALLOCATIONS, "num_threads", "model_id", _ADAPTIVE, _ATTACHED),
    *("dimensions", "similarity", "element_type"),
)
"""In which settings are shown; others come last."""
_MAX_CAPACITY = 100_000


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
    problems = thread_problems(threads)
    if wanted is not None and is_enabled(adaptive):
        problems.append(BOTH)
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


def spec_of_start(command: StartModel) -> DeploymentSpec:
    """Give the deployment that a `_start` asks for. Raises `InvalidRequest`, all problems at once.

    One of low priority has one allocation of one thread.
    """
    adaptive, wanted = _adaptive(command), command.number_of_allocations
    threads, capacity = command.threads_per_allocation, command.queue_capacity
    problems = [
        *allocation_problems(wanted, adaptive),
        *thread_problems(threads),
        *(["[queue_capacity] must be a positive integer"] if capacity < 1 else []),
        *(["[queue_capacity] must be less than 100000"] if capacity > _MAX_CAPACITY else []),
        *(["[timeout] must be positive"] if command.timeout_s <= 0 else []),
    ]
    if command.priority == "low":
        if wanted is not None and wanted > 1:
            problems.append("[number_of_allocations] must be 1 when [priority] is low")
        if threads > 1:
            problems.append("[threads_per_allocation] must be 1 when [priority] is low")
    if problems:
        raise InvalidRequest.of(problems)
    return DeploymentSpec(
        command.deployment_id or command.model_id,
        command.model_id,
        wanted or _first_allocations(adaptive),
        threads,
        adaptive_allocations=adaptive,
        queue_capacity=capacity,
        cache_size=command.cache_size,
        priority=command.priority,
    )


def spec_when_updated(spec: DeploymentSpec, command: UpdateModel) -> DeploymentSpec:
    """Give a deployment with the allocations of an `_update`: one kind replaces the other.

    Raises `InvalidRequest`, all problems at once.
    """
    adaptive, wanted = _adaptive(command), command.number_of_allocations
    problems = allocation_problems(wanted, adaptive)
    if wanted is None and adaptive is None:
        problems.append("[number_of_allocations] or [adaptive_allocations] must be set")
    if problems:
        raise InvalidRequest.of(problems)
    allocations = wanted or max(spec.num_allocations, _first_allocations(adaptive))
    return msgspec.structs.replace(spec, num_allocations=allocations, adaptive_allocations=adaptive)


def spec_when_followed(current: DeploymentSpec, wanted: DeploymentSpec) -> DeploymentSpec:
    """Give what an endpoint wants now of a deployment that has followed its load so far."""
    adaptive = wanted.adaptive_allocations
    if not is_enabled(adaptive) or not is_enabled(current.adaptive_allocations):
        return wanted
    assert adaptive is not None
    least = adaptive.get("min_number_of_allocations") or 0
    most = adaptive.get("max_number_of_allocations") or current.num_allocations
    allocations = min(max(current.num_allocations, least), most)
    return msgspec.structs.replace(wanted, num_allocations=allocations)


def model_of(record: EndpointRecord) -> str:
    """Give the model of an endpoint; that of the older service `elser` need not be named."""
    return str(record.service_settings.get("model_id", ELSER_MODEL_ID))


def settings_when_attached(given: Settings, deployment: DeploymentRecord) -> dict[str, Json]:
    """Give the settings of an endpoint that uses `deployment`, which are the deployment's.

    What becomes of its vectors is the endpoint's own affair. Raises `BadRequest` for another width
    than they have, and as `settings_when_measured`.
    """
    spec, width = deployment.spec, deployment.dimensions
    asked = given.get("dimensions", width)
    if asked != width:
        raise BadRequest(
            f"[dimensions] of an endpoint on the deployment [{spec.deployment_id}] are [{width}],"
            f" got [{asked}]; leave them out"
        )
    kept = {name: given[name] for name in ("similarity", "element_type") if name in given}
    settings: dict[str, Json] = {
        _ALLOCATIONS: spec.num_allocations,
        "num_threads": spec.num_threads,
        "model_id": spec.model_id,
        _ADAPTIVE: spec.adaptive_allocations,
        _ATTACHED: spec.deployment_id,
        **kept,
    }
    shown = {name: value for name, value in settings.items() if value is not None}
    return settings_when_measured(shown, deployment)


def settings_when_measured(settings: Settings, deployment: DeploymentRecord) -> dict[str, Json]:
    """Add what the loaded model shows; of built-in models everybody knows it.

    Raises `UnusableModel` when its vectors cannot be of the element type that is asked for.
    """
    is_packed = settings.get("element_type") == ElementType.BIT
    if is_packed and deployment.dimensions is not None and deployment.dimensions % 8:
        raise UnusableModel(
            f"vectors of [element_type] [bit] have a multiple of 8 dimensions, the model"
            f" [{deployment.spec.model_id}] gives [{deployment.dimensions}]"
        )
    is_built_in = deployment.spec.model_id.startswith(".") and "/" not in deployment.spec.model_id
    if is_built_in or deployment.dimensions is None:
        return dict(settings)
    element_type = settings.get("element_type", ElementType.FLOAT)
    usual = "l2_norm" if element_type == ElementType.BIT else deployment.similarity or "cosine"
    measured = {
        **settings,
        "dimensions": deployment.dimensions,
        "similarity": settings.get("similarity", usual),
        "element_type": element_type,
    }
    return _ordered(measured)


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
            else str(missing("service_settings", _ALLOCATIONS, _ADAPTIVE))
        )
        raise InvalidSettings.of([problem])
    kept = {name: value for name, value in stored.items() if name not in (_ALLOCATIONS, _ADAPTIVE)}
    return _ordered(with_all_said({**kept, named[0]: given[named[0]]}))


def with_all_said(settings: Settings) -> dict[str, Json]:
    """Give settings that say of adaptive allocations whether they are on."""
    adaptive = settings.get(_ADAPTIVE)
    told = {_ADAPTIVE: with_enabled(adaptive)} if isinstance(adaptive, dict) else {}
    return {**settings, **told}


def _adaptive(command: StartModel | UpdateModel) -> dict[str, Json] | None:
    given = command.adaptive_allocations
    return None if given is None else with_enabled(given)


def _ordered(settings: Settings) -> dict[str, Json]:
    return {
        name: settings[name] for name in dict.fromkeys([*_ORDER, *settings]) if name in settings
    }


def _first_allocations(adaptive: Json) -> int:
    """Give the allocations to start with where their number follows the load."""
    least = adaptive.get("min_number_of_allocations") if isinstance(adaptive, dict) else None
    return max(1, least) if isinstance(least, int) else 1
