"""The catalogue of `GET _inference/_services`, generated from the declarations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inferry.domain import Json, TaskType
from inferry.fields import Field, FieldType
from inferry.service import Service

_SHOWN_TYPES: Mapping[FieldType, str] = {"url": "str", "long": "int", "float": "str"}


def services_answer(
    services: Mapping[str, Service], task_type: TaskType | None = None
) -> list[dict[str, Json]]:
    """Describe the listed services, sorted by name; with `task_type` only those that offer it."""
    shown = [
        service
        for service in services.values()
        if service.listed and (task_type is None or task_type in service.tasks)
    ]
    return [_entry(service) for service in sorted(shown, key=lambda one: one.name.lower())]


def _entry(service: Service) -> dict[str, Json]:
    offered: list[Json] = [task.value for task in TaskType if task in service.tasks]
    fields: dict[str, Field] = {}
    tasks_of: dict[str, list[Json]] = {}
    for task, field in _listed_fields(service):
        fields.setdefault(field.name, field)
        tasks_of.setdefault(field.name, []).append(task.value)
    configurations: dict[str, Json] = {
        name: _configuration(fields[name], tasks_of[name]) for name in sorted(fields)
    }
    return {
        "service": service.name,
        "name": service.title,
        "task_types": offered,
        "configurations": configurations,
    }


def _listed_fields(service: Service) -> Iterator[tuple[TaskType, Field]]:
    for task_type in TaskType:
        task = service.tasks.get(task_type)
        if task is None:
            continue
        for field in (*task.service_settings, *task.task_settings):
            if field.listed and (not field.task_types or task_type in field.task_types):
                yield task_type, field


def _configuration(field: Field, task_types: list[Json]) -> dict[str, Json]:
    required = field.required if field.shown_required is None else field.shown_required
    shown: dict[str, Json] = {
        "description": field.help,
        "label": field.label,
        "required": required,
        "sensitive": field.secret,
        "updatable": field.updatable,
        "type": _SHOWN_TYPES.get(field.type, field.type),
        "supported_task_types": task_types,
    }
    if field.shown_default is None:
        return shown
    return {"default_value": field.shown_default, **shown}
