"""`/openapi.json`: OpenAPI 3.1, generated from the route table and the types of its bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any, Final, get_args

import msgspec

from inferry.api.elastic_errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.parameters import EVERYWHERE

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_UNWORDLY: Final = re.compile(r"[^a-z0-9]+")
_FLAGS: Final = frozenset({"pretty", "human", "error_trace", "dry_run", "force"})
_ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        "status": {"type": "integer"},
    },
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
        )
    ]


def describe(routes: Iterable[Route], *, version: str) -> dict[str, Any]:
    """Give the OpenAPI document about `routes`."""
    shown = [route for route in routes if route.summary]
    kinds = [kind for route in shown for kind in (route.body_type, route.answer_type) if kind]
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
        "responses": {
            "200": _success(route, schema_of),
            "default": {
                "description": "What went wrong.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
        "security": [] if route.is_open else [{name: []} for name in _SECURITY_SCHEMES],
    }
    if route.action is not None:
        operation["description"] = f"Needs a privilege that grants `{route.action}`."
    if route.takes_body:
        schema = _schema(route.body_type, schema_of) if route.body_type else {"type": "object"}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def _operation_id(route: Route) -> str:
    words = f"{route.method} {route.path.replace('*', 'star')}"
    return _UNWORDLY.sub("_", words.lower()).strip("_")


def _success(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "It is done."}
    if route.answer_type is not None:
        schema = _schema(route.answer_type, schema_of)
        success["content"] = {"application/json": {"schema": schema}}
    return success


def _members(kind: Any) -> tuple[Any, ...]:
    """List the types of a union, which msgspec describes only one by one."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _schema(kind: Any, schema_of: dict[Any, Any]) -> dict[str, Any]:
    schemas: list[dict[str, Any]] = [schema_of[member] for member in _members(kind)]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _parameter(name: str, place: str) -> dict[str, Any]:
    kind = "boolean" if name in _FLAGS else "string"
    schema: dict[str, Any] = {"type": kind}
    if name == "format":
        schema["enum"] = ["json"]
    return {"name": name, "in": place, "required": place == "path", "schema": schema}
