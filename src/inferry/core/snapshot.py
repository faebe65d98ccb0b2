"""What an API process answers reads from: every endpoint, encoded once, and no secret.

One writer, the event loop: `apply` is one synchronous step, so that no reader sees half of it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from inferry.core.endpoint_json import EndpointItem, encode_item
from inferry.core.lookup import check_task_type, endpoint_not_found
from inferry.core.preconfigured import preconfigured_endpoints
from inferry.core.regions import encode_region_policy, no_region_policy
from inferry.domain import Endpoint, Origin, TaskType
from inferry.records import (
    Change,
    Drop,
    EndpointRecord,
    Put,
    Record,
    ReferenceRecord,
    RegionPolicyRecord,
)

_HEAD, _TAIL = b'{"endpoints":[', b"]}"
_ITEMS_PER_PART = 256

_decode_item = msgspec.json.Decoder(EndpointItem).decode


class Entry:
    """One endpoint in one revision; a change makes a new entry.

    fragment: its object in lists. runners: a cache of whoever runs it, gone with the entry.
    """

    __slots__ = (
        "_endpoint",
        "_single",
        "created_at_ms",
        "dimensions_set_by_user",
        "fragment",
        "inference_id",
        "origin",
        "revision",
        "runners",
        "service",
        "task_type",
    )

    def __init__(self, record: EndpointRecord) -> None:
        self.inference_id = record.inference_id
        self.task_type = TaskType(record.task_type)
        self.service = record.service
        self.origin = Origin(record.origin)
        self.revision = record.revision
        self.created_at_ms = record.created_at_ms
        self.dimensions_set_by_user = record.dimensions_set_by_user
        self.fragment = encode_item(record)
        self.runners: Any = None
        self._endpoint: Endpoint | None = None
        self._single: bytes | None = None

    def endpoint(self) -> Endpoint:
        """Give the endpoint, decoded on first use; it has no secrets."""
        if self._endpoint is None:
            item = _decode_item(self.fragment)
            self._endpoint = Endpoint(
                inference_id=self.inference_id,
                task_type=self.task_type,
                service=self.service,
                service_settings=item.service_settings,
                task_settings=item.task_settings,
                chunking_settings=item.chunking_settings,
                origin=self.origin,
                revision=self.revision,
                dimensions_set_by_user=self.dimensions_set_by_user,
            )
        return self._endpoint

    def single_answer(self) -> bytes:
        """Give the body of GET of this endpoint, encoded on first use.

        Beside `endpoints`, which the official clients read, it has the flat members of the
        published reference page.
        """
        if self._single is None:
            item = _decode_item(self.fragment)
            self._single = msgspec.json.encode(
                {
                    "endpoints": [msgspec.Raw(self.fragment)],
                    "inference_id": item.inference_id,
                    "task_type": item.task_type,
                    "service": item.service,
                    "service_settings": item.service_settings,
                    "task_settings": item.task_settings,
                }
            )
        return self._single


class _Shelf:
    """Entries by id in code point order, and how many bytes their fragments have together."""

    __slots__ = ("entries", "fragments_bytes", "ids")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.entries: list[Entry] = []
        self.fragments_bytes = 0

    def put(self, entry: Entry) -> None:
        at = bisect_left(self.ids, entry.inference_id)
        if at < len(self.ids) and self.ids[at] == entry.inference_id:
            self.fragments_bytes -= len(self.entries[at].fragment)
            self.entries[at] = entry
        else:
            self.ids.insert(at, entry.inference_id)
            self.entries.insert(at, entry)
        self.fragments_bytes += len(entry.fragment)

    def drop(self, inference_id: str) -> None:
        at = bisect_left(self.ids, inference_id)
        self.fragments_bytes -= len(self.entries[at].fragment)
        del self.ids[at], self.entries[at]


class Snapshot:
    """Endpoints, region policy and references as they are now; the preconfigured ones included."""

    def __init__(self, *, cores: int | None = None) -> None:
        self._by_id: dict[str, Entry] = {}
        self._all = _Shelf()
        self._by_task = {task_type: _Shelf() for task_type in TaskType}
        self._built_in = {
            record.inference_id: record
            for record in preconfigured_endpoints(cores or os.cpu_count())
        }
        self.region_policy: RegionPolicyRecord | None = None
        self.references: dict[str, ReferenceRecord] = {}
        for record in self._built_in.values():
            self._put_endpoint(record)

    def __len__(self) -> int:
        return len(self._by_id)

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over `changes`, in their order; those of other kinds of records are left alone."""
        for change in changes:
            if isinstance(change, Put):
                self._put(change.record)
            else:
                self._drop(change)

    def get(self, inference_id: str) -> Entry | None:
        """Give the entry of an endpoint, None when there is none."""
        return self._by_id.get(inference_id)

    def require(self, inference_id: str, asked: TaskType | None = None) -> Entry:
        """Give the entry of an endpoint for a read.

        Raises `NotFound`, and `BadRequest` when it has another task type than `asked`.
        """
        entry = self._by_id.get(inference_id)
        if entry is None:
            raise endpoint_not_found(inference_id)
        check_task_type(asked, entry.task_type)
        return entry

    def entries(self, task_type: TaskType | None = None) -> Sequence[Entry]:
        """Give the entries, all or of one type, in code point order of their ids."""
        return tuple(self._shelf(task_type).entries)

    def list_answer(self, task_type: TaskType | None = None) -> tuple[Iterable[bytes], int]:
        """Give the body of a list in parts, and its size in bytes.

        The parts are those of this moment, whatever changes before the last one is read.
        """
        shelf = self._shelf(task_type)
        commas = max(0, len(shelf.entries) - 1)
        size = len(_HEAD) + shelf.fragments_bytes + commas + len(_TAIL)
        return _parts(shelf.entries[:]), size

    def region_policy_answer(self) -> bytes:
        """Give the body of GET of the region policy. Raises `NotFound` without one."""
        if self.region_policy is None:
            raise no_region_policy()
        return encode_region_policy(self.region_policy)

    def _shelf(self, task_type: TaskType | None) -> _Shelf:
        return self._all if task_type is None else self._by_task[task_type]

    def _put(self, record: Record) -> None:
        if isinstance(record, EndpointRecord):
            self._put_endpoint(record)
        elif isinstance(record, RegionPolicyRecord):
            self.region_policy = record
        elif isinstance(record, ReferenceRecord):
            self.references[record.name] = record

    def _put_endpoint(self, record: EndpointRecord) -> None:
        entry = Entry(record)
        former = self._by_id.get(entry.inference_id)
        if former is not None and former.task_type is not entry.task_type:
            self._by_task[former.task_type].drop(entry.inference_id)
        self._by_id[entry.inference_id] = entry
        self._all.put(entry)
        self._by_task[entry.task_type].put(entry)

    def _drop(self, drop: Drop) -> None:
        if drop.kind == "endpoint":
            self._drop_endpoint(drop.key)
        elif drop.kind == "region_policy":
            self.region_policy = None
        elif drop.kind == "reference":
            self.references.pop(drop.key, None)

    def _drop_endpoint(self, inference_id: str) -> None:
        if inference_id in self._built_in:
            self._put_endpoint(self._built_in[inference_id])
            return
        entry = self._by_id.pop(inference_id, None)
        if entry is not None:
            self._all.drop(inference_id)
            self._by_task[entry.task_type].drop(inference_id)


def _parts(entries: list[Entry]) -> Iterator[bytes]:
    before = _HEAD
    for start in range(0, len(entries), _ITEMS_PER_PART):
        yield before + b",".join(
            [entry.fragment for entry in entries[start : start + _ITEMS_PER_PART]]
        )
        before = b","
    yield _TAIL if entries else _HEAD + _TAIL
