"""From the body of PUT or `_update` to settings that may be stored; no I/O, no provider call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from inferry.core.chunking import resolve_chunking
from inferry.core.deployment_settings import with_allocations
from inferry.core.lookup import parse_task_type, resolve_task_type
from inferry.domain import Endpoint, Json, Settings, TaskType
from inferry.errors import BadRequest, InvalidSettings
from inferry.fields import Field, Missing, Parsed, Problem, Purpose, parse_settings
from inferry.java_text import MASK, java_text, java_text_of_settings, without_secrets
from inferry.records import EndpointRecord
from inferry.service import HttpTask, LocalTask, Service, Task

_SERVICE, _TASK_TYPE = "service", "task_type"
_SERVICE_SETTINGS, _TASK_SETTINGS = "service_settings", "task_settings"
_CHUNKING = "chunking_settings"
_RATE_LIMIT = "rate_limit"


@dataclass(frozen=True, slots=True)
class Definition:
    """A new endpoint that passed every check. `endpoint.secrets` are as given: not resolved."""

    endpoint: Endpoint
    service: Service
    task: Task


def define_endpoint(
    inference_id: str,
    body: Mapping[str, Json],
    services: Mapping[str, Service],
    *,
    task_type: str | None,
) -> Definition:
    """Check the body of a PUT in the order of the wire and fill in what it leaves out.

    task_type: as the URL has it.

    Raises `BadRequest`, `InvalidSettings` with all problems of one object, or `IllegalArgument`.
    """
    resolved = resolve_task_type(task_type, _text(body, _TASK_TYPE))
    service, task = _find_task(body, services, resolved)
    for_service, for_task = _given_settings(body, service)
    of_service = _parse(task.service_settings, for_service, _SERVICE_SETTINGS, Purpose.CREATE)
    of_task = _parse(task.task_settings, for_task, _TASK_SETTINGS, Purpose.CREATE)
    endpoint = Endpoint(
        inference_id=inference_id,
        task_type=resolved,
        service=service.name,
        service_settings=of_service.values,
        task_settings=of_task.values,
        dimensions_set_by_user="dimensions" in of_service.values,
        secrets=of_service.secrets,
    )
    problems = _without_refused(check_together(service, endpoint), of_service.refused)
    _raise_problems(problems, of_service.problems)
    _raise_problems(of_task.problems)
    _refuse_unknown(service.name, _left_over(body, resolved), of_service.unknown, of_task.unknown)
    chunking = resolve_chunking(body.get(_CHUNKING)) if resolved.is_chunkable else None
    return Definition(_completed(endpoint, service, task, chunking), service, task)


def redefine_endpoint(
    record: EndpointRecord, body: Mapping[str, Json], task: Task
) -> tuple[Endpoint, dict[str, str]]:
    """Lay the body of an `_update`, already checked by `check_update_body`, over `record`.

    Gives the endpoint without secrets, and those that were sent, as given. Settings that are fixed
    may be sent when they do not change. Raises as `define_endpoint`.
    """
    sent = _object(body, _SERVICE_SETTINGS) or {}
    given = _without_unchanged(sent, record.service_settings)
    of_service = _parse(task.service_settings, given, _SERVICE_SETTINGS, Purpose.UPDATE)
    of_task = _parse(
        task.task_settings,
        _object(body, _TASK_SETTINGS) or {},
        _TASK_SETTINGS,
        Purpose.UPDATE,
    )
    _raise_problems(of_service.problems)
    _raise_problems(of_task.problems)
    _refuse_unknown(record.service, of_service.unknown, of_task.unknown)
    settings: Settings = {**record.service_settings, **of_service.values}
    if sent and isinstance(task, LocalTask):
        settings = in_order(with_allocations(record.service_settings, sent), task)
    endpoint = Endpoint(
        inference_id=record.inference_id,
        task_type=TaskType(record.task_type),
        service=record.service,
        service_settings=settings,
        task_settings={**record.task_settings, **of_task.values},
        chunking_settings=record.chunking_settings,
        revision=record.revision,
        dimensions_set_by_user=record.dimensions_set_by_user,
    )
    return endpoint, of_service.secrets


def check_update_body(body: Mapping[str, Json]) -> None:
    """Refuse the body of an `_update` that does not fit any endpoint."""
    if not body:
        raise BadRequest("Request body is empty")
    known = (_SERVICE, _SERVICE_SETTINGS, _TASK_SETTINGS, _TASK_TYPE)
    _refuse_fixed({name: value for name, value in body.items() if name not in known})
    for name, words in ((_SERVICE_SETTINGS, "service"), (_TASK_SETTINGS, "task")):
        value = body.get(name)
        if value is not None and not isinstance(value, dict):
            raise BadRequest(f"Unable to parse {words} settings in the request [{_shown(value)}]")


def check_update_target(
    record: EndpointRecord, body: Mapping[str, Json], task_type: str | None
) -> None:
    """Refuse an `_update` that names another service or task type than the endpoint has."""
    if body.get(_SERVICE, record.service) != record.service:
        _refuse_fixed({_SERVICE: body[_SERVICE]})
    for named in (parse_task_type(task_type), parse_task_type(_text(body, _TASK_TYPE))):
        if named is not None and named != record.task_type:
            raise BadRequest("Task type must match the task type of the existing endpoint")


def check_together(service: Service, endpoint: Endpoint) -> Sequence[Problem]:
    """Give the problems that no single setting shows."""
    return service.check(endpoint) if service.check is not None else []


def _without_refused(problems: Iterable[Problem], refused: Collection[str]) -> list[str]:
    """Leave out that settings are missing which are there: they are refused for their values."""
    return [
        str(one)
        for one in problems
        if not (isinstance(one, Missing) and any(name in refused for name in one.names))
    ]


def _find_task(
    body: Mapping[str, Json], services: Mapping[str, Service], task_type: TaskType
) -> tuple[Service, Task]:
    name = _text(body, _SERVICE)
    if name is None:
        raise BadRequest("Inference endpoint configuration is missing the [service] setting")
    service = services.get(name)
    if service is None:
        raise BadRequest(f"Unknown service [{name}]")
    task = service.tasks.get(task_type)
    if task is None:
        raise BadRequest(f"The [{name}] service does not support task type [{task_type}]")
    return service, task


def _given_settings(body: Mapping[str, Json], service: Service) -> tuple[Settings, Settings]:
    """Give the service and task settings of a PUT, those in older places moved to theirs."""
    for_service = _object(body, _SERVICE_SETTINGS)
    if for_service is None:
        raise BadRequest(f"Missing required field [{_SERVICE_SETTINGS}]")
    for_task = _object(body, _TASK_SETTINGS) or {}
    if service.adopt is not None:
        return service.adopt(for_service, for_task)
    return for_service, for_task


def _completed(
    endpoint: Endpoint, service: Service, task: Task, chunking: dict[str, Json] | None
) -> Endpoint:
    """Fill in the defaults that are the service's, and put the settings in their order."""
    settings = dict(endpoint.service_settings)
    if isinstance(task, HttpTask):
        if task.default_similarity is not None:
            settings.setdefault("similarity", task.default_similarity)
        requests_per_minute = task.requests_per_minute or service.requests_per_minute
        if requests_per_minute is not None:
            settings.setdefault(_RATE_LIMIT, {"requests_per_minute": requests_per_minute})
    return replace(
        endpoint,
        service_settings=in_order(settings, task),
        chunking_settings=chunking,
    )


def in_order(settings: Settings, task: Task) -> dict[str, Json]:
    """Put settings in the order in which the task declares them, `rate_limit` last."""
    declared = [field.name.partition(".")[0] for field in task.service_settings]
    order = dict.fromkeys(name for name in [*declared, *settings] if name != _RATE_LIMIT)
    return {name: settings[name] for name in [*order, _RATE_LIMIT] if name in settings}


def _parse(fields: tuple[Field, ...], given: Settings, scope: str, purpose: Purpose) -> Parsed:
    return parse_settings(fields, given, scope=scope, purpose=purpose)


def _raise_problems(*problems: list[str]) -> None:
    together = list(dict.fromkeys(problem for some in problems for problem in some))
    if together:
        raise InvalidSettings.of(together)


def _left_over(body: Mapping[str, Json], task_type: TaskType) -> Settings:
    known = {_SERVICE, _SERVICE_SETTINGS, _TASK_SETTINGS, _TASK_TYPE}
    if task_type.is_chunkable:
        known.add(_CHUNKING)
    return {name: value for name, value in body.items() if name not in known}


def _refuse_unknown(service: str, *left_over: Settings) -> None:
    for settings in left_over:
        if settings:
            raise BadRequest(
                f"Configuration contains settings [{java_text_of_settings(settings)}] "
                f"unknown to the [{service}] service"
            )


def _refuse_fixed(settings: Settings) -> None:
    if settings:
        raise BadRequest(
            "Request contained fields which cannot be updated, remove these fields and try again "
            f"[{java_text_of_settings(settings)}]"
        )


def _without_unchanged(given: Settings, stored: Settings) -> Settings:
    return {
        name: value for name, value in given.items() if name not in stored or stored[name] != value
    }


def _text(body: Mapping[str, Json], name: str) -> str | None:
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InvalidSettings.of([_wrong_type(name, value, "String")])


def _object(body: Mapping[str, Json], name: str) -> dict[str, Json] | None:
    value = body.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise InvalidSettings.of([_wrong_type(name, value, "Map")])


def _wrong_type(name: str, value: Json, expected: str) -> str:
    return (
        f"field [{name}] is not of the expected type. The value [{_shown(value)}] "
        f"cannot be converted to a [{expected}]"
    )


def _shown(value: Json) -> str:
    """Print a value in the wrong place; a string may be settings, secrets included."""
    return MASK if isinstance(value, str) else java_text(without_secrets({"": value})[""])
