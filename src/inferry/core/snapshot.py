"""What an API process answers reads from: every endpoint, encoded once, and no secret.

One writer, the event loop: `apply` is one synchronous step, so that no reader sees half of it.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from inferry.core.deployment_settings import LOCAL_SERVICES, deployment_of, settings_when_live
from inferry.core.endpoint_json import EndpointItem, encode_item
from inferry.core.lookup import check_task_type, endpoint_not_found
from inferry.core.preconfigured import preconfigured_endpoints
from inferry.core.regions import encode_region_policy, no_region_policy
from inferry.domain import Endpoint, Origin, TaskType
from inferry.records import (
    Change,
    DeploymentRecord,
    Drop,
    EndpointRecord,
    Put,
    Record,
    ReferenceRecord,
    RegionPolicyRecord,
)

_HEAD, _TAIL = b'{"endpoints":[', b"]}"
_MOST_PER_BLOCK = 512

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


class _Block:
    """Some entries in code point order of their ids; a change makes a new block."""

    __slots__ = ("_joined", "entries", "ids")

    def __init__(self, ids: list[str], entries: list[Entry]) -> None:
        self.ids = ids
        self.entries = entries
        self._joined: bytes | None = None

    def joined(self) -> bytes:
        """Give the fragments of the entries, with commas between them; joined on first use."""
        if self._joined is None:
            self._joined = b",".join([entry.fragment for entry in self.entries])
        return self._joined


class _Shelf:
    """Entries in code point order of their ids, in blocks.

    A change costs one block, however many there are, and a reader who holds the blocks of a moment
    is not disturbed. size_bytes: of all fragments together.
    """

    __slots__ = ("blocks", "count", "firsts", "size_bytes")

    def __init__(self) -> None:
        self.blocks: list[_Block] = []
        self.firsts: list[str] = []
        self.count = 0
        self.size_bytes = 0

    def put(self, entry: Entry) -> None:
        at = self._block_of(entry.inference_id)
        if at < 0:
            self._replace(slice(0, 0), [_Block([entry.inference_id], [entry])])
            self._count(1, len(entry.fragment))
            return
        ids, entries = self.blocks[at].ids[:], self.blocks[at].entries[:]
        place = bisect_left(ids, entry.inference_id)
        if place < len(ids) and ids[place] == entry.inference_id:
            self._count(0, len(entry.fragment) - len(entries[place].fragment))
            entries[place] = entry
        else:
            self._count(1, len(entry.fragment))
            ids.insert(place, entry.inference_id)
            entries.insert(place, entry)
        half = len(ids) // 2 if len(ids) > _MOST_PER_BLOCK else len(ids)
        parts = [_Block(ids[:half], entries[:half]), _Block(ids[half:], entries[half:])]
        self._replace(slice(at, at + 1), parts)

    def drop(self, inference_id: str) -> None:
        at = self._block_of(inference_id)
        ids, entries = self.blocks[at].ids[:], self.blocks[at].entries[:]
        place = bisect_left(ids, inference_id)
        self._count(-1, -len(entries[place].fragment))
        del ids[place], entries[place]
        self._replace(slice(at, at + 1), [_Block(ids, entries)])

    def _block_of(self, inference_id: str) -> int:
        """Find the block that an id is in, or belongs into; -1 when there is none yet."""
        found = bisect_right(self.firsts, inference_id) - 1
        return max(found, 0) if self.blocks else -1

    def _replace(self, place: slice, blocks: list[_Block]) -> None:
        filled = [block for block in blocks if block.ids]
        self.blocks[place] = filled
        self.firsts[place] = [block.ids[0] for block in filled]

    def _count(self, more: int, more_bytes: int) -> None:
        self.count += more
        self.size_bytes += more_bytes


class Snapshot:
    """Endpoints, region policy and references as they are now; the preconfigured ones included.

    What a deployment has now is laid over the settings of the endpoints that it runs.
    """

    def __init__(self, *, cores: int | None = None) -> None:
        self._by_id: dict[str, Entry] = {}
        self._all = _Shelf()
        self._by_task = {task_type: _Shelf() for task_type in TaskType}
        self._built_in = {
            record.inference_id: record
            for record in preconfigured_endpoints(cores or os.cpu_count())
        }
        self._deployments: dict[str, DeploymentRecord] = {}
        self._local: dict[str, EndpointRecord] = {}  # as they are stored
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
        return tuple(entry for block in self._shelf(task_type).blocks for entry in block.entries)

    def list_answer(self, task_type: TaskType | None = None) -> tuple[Iterable[bytes], int]:
        """Give the body of a list in parts, and its size in bytes.

        The parts are those of this moment, whatever changes before the last one is read.
        """
        shelf = self._shelf(task_type)
        commas = max(0, shelf.count - 1)
        size = len(_HEAD) + shelf.size_bytes + commas + len(_TAIL)
        return _parts(shelf.blocks[:]), size

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
        elif isinstance(record, DeploymentRecord):
            self._deployments[record.key] = record
            self._show_again(record.key)
        elif isinstance(record, RegionPolicyRecord):
            self.region_policy = record
        elif isinstance(record, ReferenceRecord):
            self.references[record.name] = record

    def _put_endpoint(self, record: EndpointRecord) -> None:
        entry = Entry(self._with_deployment(record))
        former = self._by_id.get(entry.inference_id)
        if former is not None and former.task_type is not entry.task_type:
            self._by_task[former.task_type].drop(entry.inference_id)
        self._by_id[entry.inference_id] = entry
        self._all.put(entry)
        self._by_task[entry.task_type].put(entry)

    def _with_deployment(self, record: EndpointRecord) -> EndpointRecord:
        """Lay what the deployment of an endpoint has now over its settings, if one runs it."""
        if record.service not in LOCAL_SERVICES:
            return record
        self._local[record.inference_id] = record
        settings = record.service_settings
        deployment = self._deployments.get(deployment_of(record.inference_id, settings))
        if deployment is None:
            return record
        live = settings_when_live(settings, deployment)
        return msgspec.structs.replace(record, service_settings=live)

    def _show_again(self, deployment_id: str) -> None:
        """Encode anew the endpoints that a deployment runs: it has changed."""
        for inference_id, record in list(self._local.items()):
            if deployment_of(inference_id, record.service_settings) == deployment_id:
                self._put_endpoint(record)

    def _drop(self, drop: Drop) -> None:
        if drop.kind == "endpoint":
            self._drop_endpoint(drop.key)
        elif drop.kind == "deployment":
            self._deployments.pop(drop.key, None)
            self._show_again(drop.key)
        elif drop.kind == "region_policy":
            self.region_policy = None
        elif drop.kind == "reference":
            self.references.pop(drop.key, None)

    def _drop_endpoint(self, inference_id: str) -> None:
        if inference_id in self._built_in:
            self._put_endpoint(self._built_in[inference_id])
            return
        self._local.pop(inference_id, None)
        entry = self._by_id.pop(inference_id, None)
        if entry is not None:
            self._all.drop(inference_id)
            self._by_task[entry.task_type].drop(inference_id)


def _parts(blocks: list[_Block]) -> Iterator[bytes]:
    yield _HEAD
    for number, block in enumerate(blocks):
        if number:
            yield b","
        yield block.joined()
    yield _TAIL
