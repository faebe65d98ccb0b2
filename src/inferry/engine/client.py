"""The engine as an API process sees it: one connection to the worker of each deployment."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from inferry.concurrency import Nursery
from inferry.domain import (
    Deadline,
    DenseEmbeddings,
    InputType,
    Json,
    LocalResult,
    RankedDocument,
    Ranking,
    SparseEmbeddings,
    TaskAnswers,
    TaskType,
    Usage,
)
from inferry.engine.jobs import Lane
from inferry.engine.messages import INFER, Infer, Inferred
from inferry.errors import DeadlineExceeded, IllegalArgument, NotDeployed, WorkerLost
from inferry.ipc import ChannelClosed, Peer, connect_peer
from inferry.records import Change, DeploymentRecord, Drop, Put
from inferry.vectors import FloatVector

_SEARCHES = (InputType.SEARCH, InputType.INTERNAL_SEARCH)

_decode = msgspec.msgpack.Decoder(Inferred).decode
_decode_weights = msgspec.msgpack.Decoder(dict[str, float]).decode
_decode_members = msgspec.msgpack.Decoder(dict[str, Any]).decode
_SCORE = struct.Struct("<d")


class LocalEngine:
    """Runs texts on the deployments of this host, as far as `apply` made them known."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._deployments: dict[str, DeploymentRecord] = {}
        self._peers: dict[str, Peer] = {}
        self._connecting = asyncio.Lock()

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over the deployments among `changes`."""
        for change in changes:
            if isinstance(change, Put) and isinstance(change.record, DeploymentRecord):
                self._deployments[change.record.key] = change.record
            elif isinstance(change, Drop) and change.kind == "deployment":
                self._deployments.pop(change.key, None)

    async def infer(
        self,
        deployment_id: str,
        texts: Sequence[str],
        *,
        query: str | None = None,
        config: Mapping[str, Json] | None = None,
        input_type: InputType,
        deadline: Deadline,
    ) -> LocalResult:
        """Run `texts`, at least one; searches and rankings go before everything else.

        Raises `NotDeployed`, also of what rests or did not start again when its worker had ended,
        `WorkerLost` when one takes its place, `QueueFull`, `DeadlineExceeded`, and
        `IllegalArgument` for a text that no tokenizer can read.
        """
        is_search = query is not None or input_type in _SEARCHES
        lane = Lane.SEARCH if is_search else Lane.INGEST
        settings = None if config is None else dict(config)
        body = _encode(Infer(lane, deadline.at, input_type, list(texts), query, settings))
        try:
            peer = await self._connected(deployment_id)
            inferred = _decode(await peer.call(INFER, body))
        except ChannelClosed as error:
            if (record := self._deployments.get(deployment_id)) and record.socket is None:
                raise _not_deployed(deployment_id) from error
            raise WorkerLost(f"the worker of the deployment [{deployment_id}] has ended") from error
        except DeadlineExceeded as error:
            raise deadline.exceeded() from error
        return _result(inferred)

    async def _connected(self, deployment_id: str) -> Peer:
        """Give the connection to a deployment, opened on first use and after it broke."""
        record = self._deployments.get(deployment_id)
        if record is None or record.socket is None:
            raise _not_deployed(deployment_id)
        peer = self._peers.get(record.socket)
        if peer is None or peer.is_closed:
            async with self._connecting:
                peer = self._peers.get(record.socket)
                if peer is None or peer.is_closed:
                    self._forget_closed()
                    path = Path(record.socket)
                    peer = await connect_peer(path, nursery=self._nursery)
                    self._peers[record.socket] = peer
        return peer

    def _forget_closed(self) -> None:
        self._peers = {path: peer for path, peer in self._peers.items() if not peer.is_closed}


def _not_deployed(deployment_id: str) -> NotDeployed:
    return NotDeployed(f"[{deployment_id}] is not deployed")


def _encode(call: Infer) -> bytes:
    try:
        return msgspec.msgpack.encode(call)
    except UnicodeEncodeError as error:
        raise IllegalArgument("a text has a surrogate that stands alone") from error


def _result(inferred: Inferred) -> LocalResult:
    """Give what the answers mean; vectors share the memory of the message.

    Tuples are made of lists. Of an iterator Python makes one of ten places and cuts it, so that it
    is never taken from the memory of those that ended, of which 2,000 of each length are kept.
    """
    usage, truncated = Usage(input_tokens=inferred.tokens), tuple(inferred.truncated)
    match inferred.task_type:
        case None:
            members = tuple([_decode_members(answer) for answer in inferred.answers])
            return TaskAnswers(members, usage, truncated)
        case TaskType.SPARSE_EMBEDDING:
            items = tuple([_decode_weights(answer) for answer in inferred.answers])
            return SparseEmbeddings(items, usage, truncated)
        case TaskType.RERANK:
            documents = [
                RankedDocument(index, *_SCORE.unpack(answer))
                for index, answer in enumerate(inferred.answers)
            ]
            return Ranking(tuple(documents), usage, truncated)
        case _:
            vectors = tuple([FloatVector(row, len(row) // 4) for row in inferred.answers])
            return DenseEmbeddings(vectors, usage=usage, truncated=truncated)
