"""`/openapi.json`: OpenAPI 3.1, generated from the route table and the types of its bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Final, get_args

import msgspec

from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.http.media_types import EVENT_STREAM, JSON
from inferry.api.parameters import EVERYWHERE
from inferry.domain import TaskType

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_UNWORDLY: Final = re.compile(r"[^a-z0-9]+")
_FLAG: Final = {"enum": [True, False, ""], "description": "Without a value it is true."}
_DURATION: Final = {
    "type": "string",
    "pattern": "^(-1|0|[0-9]{1,18}(nanos|micros|ms|s|m|h|d))$",
}
_PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "task_type": {"type": "string", "enum": [*TaskType, "any"]},
    "timeout": _DURATION,
    "master_timeout": _DURATION,
    "format": {"type": "string", "enum": ["json"]},
    **dict.fromkeys(("pretty", "human", "error_trace", "dry_run", "force"), _FLAG),
    **dict.fromkeys(("owner", "active_only", "with_limited_by"), _FLAG),
}
_ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        "status": {"type": "integer"},
    },
}
_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_TEXT: Final = {"type": "string"}
_EVENTS: Final = {
    "description": "Server-sent events, each with one JSON document in a single `data` line; after "
    "the last one comes `[DONE]`, or an error instead."
}
_SECURITY_SCHEMES: Final = {
    "basic": {"type": "http", "scheme": "basic"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`ApiKey` and the `encoded` member of the answer that created the key.",
    },
}


def openapi_routes(described: Sequence[Route], *, version: str) -> list[Route]:
    """Give the route of the document about `described`. version: of this server."""
    written: list[bytes] = []  # once, when somebody asks: most processes never do

    async def show(request: Request) -> Answer:
        if not written:
            written.append(msgspec.json.encode(describe(described, version=version)))
        return Answer(written[0], content_type="application/json")

    return [
        Route(
            "GET",
            "/openapi.json",
            show,
            "cluster:monitor/inferry/openapi",
            render_error,
            "Describe every call",
            has_media_types=False,
            answer_type=dict[str, Any],
        )
    ]


def describe(routes: Iterable[Route], *, version: str) -> dict[str, Any]:
    """Give the OpenAPI document about `routes`."""
    shown = [route for route in routes if route.summary]
    kinds = [kind for route in shown for kind in _kinds(route)]
    members = list(dict.fromkeys(member for kind in kinds for member in _members(kind)))
    schemas, components = msgspec.json.schema_components(
        members, ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(members, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "inferry", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR_SCHEMA},
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    """Describe one call."""
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "parameters": [
            *(_parameter(name, "path") for name in _PLACEHOLDER.findall(route.path)),
            *(_parameter(name, "query") for name in sorted(route.parameters | EVERYWHERE)),
        ],
        "responses": _responses(route, schema_of),
        "security": [] if route.is_open else [{name: []} for name in _SECURITY_SCHEMES],
    }
    if route.action is not None:
        operation["description"] = f"Needs a privilege that grants `{route.action}`."
    if route.takes_body:
        schema = _schema(route.body_type, schema_of)
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


def _operation_id(route: Route) -> str:
    words = f"{route.method} {route.path.replace('*', 'star')}"
    return _UNWORDLY.sub("_", words.lower()).strip("_")


def _responses(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    """Describe the answers, per status."""
    good = {name: {"schema": _TEXT} for name in route.media_types}
    wrong = {JSON: {"schema": _ERROR}}
    if JSON in good:
        good[JSON] = {"schema": _schema(route.answer_type, schema_of)}
    if EVENT_STREAM in good:
        good[EVENT_STREAM] = wrong[EVENT_STREAM] = {"schema": _EVENTS}
    responses: dict[str, Any] = {"200": {"description": "It is done.", "content": good}}
    for status, kind in route.further_answers.items():
        also = [_schema(kind, schema_of), _ERROR]
        responses[str(status)] = {
            "description": "It is not as wished.",
            "content": {JSON: {"schema": {"anyOf": also}}},
        }
    for statuses, whose in (("4XX", "the request"), ("5XX", "the server or a provider")):
        responses[statuses] = {"description": f"A fault of {whose}.", "content": wrong}
    return responses


def _kinds(route: Route) -> Iterator[Any]:
    """Give the types that the description of a call needs schemas of."""
    if route.body_type is not None:
        yield route.body_type
    if JSON in route.media_types:
        yield route.answer_type
    yield from route.further_answers.values()


def _members(kind: Any) -> tuple[Any, ...]:
    """List the types of a union, which msgspec describes only one by one."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _schema(kind: Any, schema_of: dict[Any, Any]) -> dict[str, Any]:
    schemas: list[dict[str, Any]] = [schema_of[member] for member in _members(kind)]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _parameter(name: str, place: str) -> dict[str, Any]:
    schema = _PARAMETERS.get(name, _TEXT)
    shown = {"name": name, "in": place, "required": place == "path", "schema": schema}
    if name == "filter_path":
        shown["description"] = "Leaves out members of the answer, of those that are required too."
    return shown
