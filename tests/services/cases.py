"""Wire facts of services as files: a request and a reply per service and task.

`<service>/<task>.json` holds cases (a call and a whole reply) and streams (a call and its events).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from inferry.calls import Event, HttpReply
from inferry.domain import (
    Chat,
    ChatChunk,
    Completion,
    ContentItem,
    Deadline,
    DenseEmbeddings,
    ElementType,
    Endpoint,
    InferenceRequest,
    Input,
    Ranking,
    Result,
    SparseEmbeddings,
    TaskType,
    Usage,
)
from inferry.service import HttpTask, Service
from inferry.services.catalog import built_in_services
from inferry.vectors import vectors_to_json

HERE = Path(__file__).parent
SERVICES = {service.name: service for service in built_in_services()}


@dataclass(frozen=True, slots=True)
class Case:
    """A call of an endpoint, and what the file says about it."""

    service: Service
    task_type: TaskType
    request: InferenceRequest
    written: dict[str, Any]

    @property
    def task(self) -> HttpTask:
        """The task of the service that is called."""
        task = self.service.tasks[self.task_type]
        assert isinstance(task, HttpTask)
        return task

    @property
    def reply(self) -> HttpReply:
        """The provider's whole reply."""
        return HttpReply(200, {}, json.dumps(self.written["reply"]).encode())

    @property
    def events(self) -> list[Event]:
        """The events of the provider's stream; one with a name is `{"event": ..., "data": ...}`."""
        return [_event(one) for one in self.written["events"]]

    def __str__(self) -> str:
        return f"{self.service.name} {self.task_type}: {self.written['name']}"


def _event(written: Any) -> Event:
    if isinstance(written, str):
        return Event(written)
    if written.keys() == {"event", "data"}:
        return Event(json.dumps(written["data"]), written["event"])
    return Event(json.dumps(written))


def path_of(service: str, task_type: TaskType) -> Path:
    return HERE / service / f"{task_type}.json"


def cases(kind: str) -> Iterator[Case]:
    """Give the `cases` or the `streams` of every service."""
    for service in SERVICES.values():
        for task_type in service.tasks:
            path = path_of(service.name, task_type)
            if path.exists():
                for written in json.loads(path.read_text()).get(kind, []):
                    yield Case(service, task_type, request_of(service, task_type, written), written)


def request_of(service: Service, task_type: TaskType, written: dict[str, Any]) -> InferenceRequest:
    given = dict(written["endpoint"])
    given["secrets"] = {
        name: _secret(service, value) for name, value in given.get("secrets", {}).items()
    }
    endpoint = Endpoint(inference_id="mine", task_type=task_type, service=service.name, **given)
    asked = dict(written["request"])
    chat = asked.pop("chat", None)
    return InferenceRequest(
        endpoint=endpoint,
        # Cases are made when tests are collected, which may be long before they run.
        deadline=Deadline.after(3600, "1h", "mine"),
        inputs=tuple(_input(given) for given in asked.pop("inputs", [])),
        chat=None if chat is None else msgspec.convert(chat, Chat),
        task_settings={**endpoint.task_settings, **asked.pop("task_settings", {})},
        **asked,
    )


def _secret(service: Service, given: str) -> str:
    """Read a secret that stands in a file of its own."""
    if not given.startswith("file:"):
        return given
    return (HERE / service.name / given.removeprefix("file:")).read_text()


def _input(given: Any) -> Input:
    return given if isinstance(given, str) else msgspec.convert(given, tuple[ContentItem, ...])


def shown(result: Result) -> Any:
    """Print a result as the files write it: absent members left out."""
    match result:
        case DenseEmbeddings():
            vectors = [json.loads(row) for row in vectors_to_json(result.vectors)]
            kind = result.element_type
            element = {} if kind is ElementType.FLOAT else {"element_type": str(kind)}
            cut = {"truncated": list(result.truncated)} if result.truncated else {}
            return {"vectors": vectors, **element, **_usage(result.usage), **cut}
        case SparseEmbeddings():
            return {"items": [dict(item) for item in result.items], **_usage(result.usage)}
        case Ranking():
            documents = _present(msgspec.to_builtins(list(result.documents)))
            return {"documents": documents, **_usage(result.usage)}
        case Completion():
            return {"texts": list(result.texts), **_usage(result.usage)}
        case ChatChunk():
            return _present(msgspec.to_builtins(result))


def _usage(usage: Usage | None) -> dict[str, Any]:
    return {} if usage is None else {"usage": _present(msgspec.to_builtins(usage))}


def _present(value: Any) -> Any:
    """Leave out nulls, and `estimated` where it is false."""
    if isinstance(value, list):
        return [_present(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _present(item)
        for name, item in value.items()
        if item is not None and not (name == "estimated" and item is False)
    }
