"""Calls of our own, below `/_inferry`.

What uses an endpoint, so that DELETE can protect it; what API keys used; a new master key.
"""

from __future__ import annotations

from typing import Final

import msgspec

from inferry.api.elastic.endpoints import ACKNOWLEDGED, Acknowledged, actor_of
from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.strict_json import parse_object
from inferry.commands import (
    DeleteReference,
    FetchKeyUsage,
    KeyUsage,
    PutReference,
    Rotated,
    RotateMasterKey,
)
from inferry.core.snapshot import Snapshot
from inferry.errors import IllegalArgument, NotFound
from inferry.protocols import Writer
from inferry.records import ReferenceRecord

_PATH: Final = "/_inferry/references"
_READ: Final = "cluster:monitor/inferry/references/get"
_WRITE: Final = "cluster:admin/inferry/references/"
_ROTATE: Final = "cluster:admin/xpack/security/master_key/rotate"
_MAX_BODY_BYTES: Final = 1024 * 1024


class ReferenceBody(msgspec.Struct, frozen=True):
    """What uses which endpoints. kind: `pipeline` or `index`."""

    inference_ids: list[str]
    kind: str = "pipeline"


class ReferenceItem(msgspec.Struct, frozen=True):
    """A registered reference."""

    name: str
    kind: str
    inference_ids: list[str]


class ReferenceList(msgspec.Struct, frozen=True):
    """All registered references, by name."""

    references: list[ReferenceItem]


class KeyUsageList(msgspec.Struct, frozen=True):
    """API keys with limits, by id, with what they used since midnight UTC."""

    api_keys: list[KeyUsage]


def extension_routes(snapshot: Snapshot, writer: Writer) -> list[Route]:
    """Give the routes of `/_inferry`."""
    calls = _Extensions(snapshot, writer)
    return [*_reference_routes(calls), *_key_routes(calls)]


def _reference_routes(calls: _Extensions) -> list[Route]:
    one = f"{_PATH}/{{name}}"
    return [
        Route(
            "GET",
            _PATH,
            calls.list_references,
            _READ,
            render_error,
            "List what uses endpoints",
            answer_type=ReferenceList,
        ),
        Route(
            "GET",
            one,
            calls.get_reference,
            _READ,
            render_error,
            "Show one thing that uses endpoints",
            answer_type=ReferenceItem,
        ),
        Route(
            "PUT",
            one,
            calls.put_reference,
            f"{_WRITE}put",
            render_error,
            "Register what uses endpoints",
            takes_body=True,
            max_body_bytes=_MAX_BODY_BYTES,
            body_type=ReferenceBody,
            answer_type=Acknowledged,
        ),
        Route(
            "DELETE",
            one,
            calls.delete_reference,
            f"{_WRITE}delete",
            render_error,
            "Forget what used endpoints",
            answer_type=Acknowledged,
        ),
    ]


def _key_routes(calls: _Extensions) -> list[Route]:
    return [
        Route(
            "GET",
            "/_inferry/api_keys/_usage",
            calls.list_key_usage,
            "cluster:monitor/inferry/api_keys/usage",
            render_error,
            "Tell what API keys with limits used today",
            answer_type=KeyUsageList,
        ),
        Route(
            "POST",
            "/_inferry/master_key/_rotate",
            calls.rotate_master_key,
            _ROTATE,
            render_error,
            "Replace the master key and seal every secret with the new one",
            answer_type=Rotated,
        ),
    ]


class _Extensions:
    """The handlers."""

    def __init__(self, snapshot: Snapshot, writer: Writer) -> None:
        self._snapshot = snapshot
        self._writer = writer

    async def list_references(self, request: Request) -> Answer:
        """List what is registered."""
        records = sorted(self._snapshot.references.values(), key=lambda record: record.name)
        return Answer(msgspec.json.encode(ReferenceList([_item(record) for record in records])))

    async def get_reference(self, request: Request) -> Answer:
        """Show one."""
        name = request.path_values["name"]
        record = self._snapshot.references.get(name)
        if record is None:
            raise NotFound(f"Reference not found [{name}]")
        return Answer(msgspec.json.encode(_item(record)))

    async def put_reference(self, request: Request) -> Answer:
        """Register or replace one."""
        body = await request.read(_read)
        name = request.path_values["name"]
        command = PutReference(name, body.kind, body.inference_ids, actor_of(request))
        await self._writer.submit(command)
        return Answer(ACKNOWLEDGED)

    async def delete_reference(self, request: Request) -> Answer:
        """Forget one."""
        command = DeleteReference(request.path_values["name"], actor_of(request))
        await self._writer.submit(command)
        return Answer(ACKNOWLEDGED)

    async def list_key_usage(self, request: Request) -> Answer:
        """Tell what keys with limits used today."""
        used: list[KeyUsage] = await self._writer.submit(FetchKeyUsage())
        return Answer(msgspec.json.encode(KeyUsageList(used)))

    async def rotate_master_key(self, request: Request) -> Answer:
        """Replace the master key."""
        rotated: Rotated = await self._writer.submit(RotateMasterKey())
        return Answer(msgspec.json.encode(rotated))


def _read(body: bytes) -> ReferenceBody:
    given = parse_object(body)
    unknown = sorted(set(given) - set(ReferenceBody.__struct_fields__))
    if unknown:
        raise IllegalArgument(f"unknown field [{unknown[0]}], known are [inference_ids, kind]")
    try:
        return msgspec.convert(given, ReferenceBody)
    except msgspec.ValidationError as error:
        raise IllegalArgument(f"the reference cannot be read: {error}") from error


def _item(record: ReferenceRecord) -> ReferenceItem:
    return ReferenceItem(record.name, record.kind, record.inference_ids)
