"""What a dialect asks, and how it becomes a request: settings merged, precedence settled."""

from __future__ import annotations

import msgspec

from inferry.core.runners.runner import Runners
from inferry.domain import (
    Chat,
    Deadline,
    InferenceRequest,
    Input,
    InputType,
    Json,
    Receipt,
    Settings,
    TaskType,
    no_settings,
)
from inferry.errors import BadRequest, InvalidRequest, InvalidSettings
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask, Service, Task

_TAKES_INPUT_TYPE = (TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING)
# Clients send these two out of habit, to services that have no use for them too.
_ALWAYS_ACCEPTED = (InputType.UNSPECIFIED, InputType.INGEST, InputType.SEARCH)


class Ask(msgspec.Struct, frozen=True):
    """One call as a dialect read it; the endpoint is not known yet.

    task_settings: those of the request. input_type: None or unspecified leaves it to the settings.
    extra: parameters outside the unified schema. timeout: seconds, and as the caller wrote it.
    dialect: for the metrics. receipt: filled in while the call runs.
    """

    inputs: tuple[Input, ...] = ()
    query: Input | None = None
    input_type: InputType | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    task_settings: Settings = msgspec.field(default_factory=no_settings)
    chat: Chat | None = None
    extra: Settings = msgspec.field(default_factory=no_settings)
    timeout: tuple[float, str] | None = None
    dialect: str = "elastic"
    receipt: Receipt = msgspec.field(default_factory=Receipt)


def settle(ask: Ask, runners: Runners, deadline: Deadline) -> InferenceRequest:
    """Give the request that `ask` means for the endpoint of `runners`.

    A field of the request's root wins over its task settings, and those over the stored ones.
    Raises `InvalidSettings` for a request-time setting out of its range, `InvalidRequest` for an
    input type or a parameter that the service does not know, `BadRequest` for a wrong number of
    inputs.
    """
    endpoint, service, task = runners.endpoint, runners.service, runners.task
    _check_extra(ask.extra, service, task)
    if endpoint.task_type is TaskType.COMPLETION and len(ask.inputs) != 1:
        raise BadRequest(f"{service.title} completions only accepts 1 input")
    settings = _merged(ask.task_settings, endpoint.task_settings, task)
    top_n, return_documents = ask.top_n, ask.return_documents
    if endpoint.task_type is TaskType.RERANK:
        top_n = _stored_top_n(settings) if top_n is None else top_n
        if return_documents is None:
            return_documents = _stored_return_documents(settings)
    return InferenceRequest(
        endpoint=endpoint,
        deadline=deadline,
        inputs=ask.inputs,
        task_settings=settings,
        query=ask.query,
        input_type=_input_type(ask, settings, service, task, endpoint.task_type),
        top_n=top_n,
        return_documents=return_documents,
        chat=ask.chat,
        extra=ask.extra,
        receipt=ask.receipt,
    )


def _check_extra(extra: Settings, service: Service, task: Task) -> None:
    is_forwarded = isinstance(task, HttpTask) and task.forwards_extra
    if extra and not is_forwarded:
        name = min(extra)
        raise InvalidRequest(
            f"field [{name}] is not supported by the [{service.name}] service", param=name
        )


def _merged(given: Settings, stored: Settings, task: Task) -> Settings:
    """Lay the settings of the request over the stored ones, key by key."""
    if not given:
        return stored
    parsed = parse_settings(
        task.task_settings, given, scope="task_settings", purpose=Purpose.REQUEST
    )
    if parsed.problems:
        raise InvalidSettings.of(parsed.problems)
    return {**stored, **parsed.values} if parsed.values else stored


def _stored_top_n(settings: Settings) -> int | None:
    value = settings.get("top_n")
    return value if isinstance(value, int) else None


def _stored_return_documents(settings: Settings) -> bool | None:
    value = settings.get("return_documents")
    return value if isinstance(value, bool) else None


def _input_type(
    ask: Ask, settings: Settings, service: Service, task: Task, task_type: TaskType
) -> InputType:
    given = ask.input_type
    if given is None or given is InputType.UNSPECIFIED:
        stored: Json = settings.get("input_type")
        return InputType(stored) if isinstance(stored, str) else InputType.UNSPECIFIED
    if (
        task_type in _TAKES_INPUT_TYPE
        and given not in _ALWAYS_ACCEPTED
        and given not in task.input_types
    ):
        raise InvalidRequest.of([f"Input type [{given}] is not supported for [{service.name}]"])
    return given
