"""The engine as an API process sees it: one connection to the worker of each deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from inferry.concurrency import Nursery
from inferry.domain import Deadline, DenseEmbeddings, InputType, Usage
from inferry.engine.batching import Lane
from inferry.engine.messages import EMBED, Embed, Embedded
from inferry.errors import DeadlineExceeded, IllegalArgument, NotDeployed, WorkerLost
from inferry.ipc import ChannelClosed, Peer, connect_peer
from inferry.records import Change, DeploymentRecord, Drop, Put
from inferry.vectors import FloatVector

_SEARCHES = (InputType.SEARCH, InputType.INTERNAL_SEARCH)

_decode = msgspec.msgpack.Decoder(Embedded).decode


class LocalEngine:
    """Embeds with the deployments of this host, as far as `apply` made them known."""

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

    async def embed(
        self,
        deployment_id: str,
        texts: Sequence[str],
        *,
        input_type: InputType,
        deadline: Deadline,
    ) -> DenseEmbeddings:
        """Embed `texts`, at least one; searches go before everything else.

        Raises `NotDeployed`, `WorkerLost` when the worker ended meanwhile, `QueueFull`,
        `DeadlineExceeded`, and `IllegalArgument` for a text that no tokenizer can read.
        """
        lane = Lane.SEARCH if input_type in _SEARCHES else Lane.INGEST
        body = _encode(Embed(lane, deadline.at, input_type, list(texts)))
        try:
            peer = await self._connected(deployment_id)
            embedded = _decode(await peer.call(EMBED, body))
        except ChannelClosed as error:
            raise WorkerLost(f"the worker of the deployment [{deployment_id}] has ended") from error
        except DeadlineExceeded as error:
            raise deadline.exceeded() from error
        return _embeddings(embedded)

    async def _connected(self, deployment_id: str) -> Peer:
        """Give the connection to a deployment, opened on first use and after it broke."""
        record = self._deployments.get(deployment_id)
        if record is None or record.socket is None:
            raise NotDeployed(f"[{deployment_id}] is not deployed")
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


def _encode(call: Embed) -> bytes:
    try:
        return msgspec.msgpack.encode(call)
    except UnicodeEncodeError as error:
        raise IllegalArgument("a text has a surrogate that stands alone") from error


def _embeddings(embedded: Embedded) -> DenseEmbeddings:
    """Give the rows, which share the memory of the message."""
    stride = 4 * embedded.width
    rows = embedded.rows
    vectors = tuple(
        FloatVector(rows[start : start + stride], embedded.width)
        for start in range(0, len(rows), stride)
    )
    return DenseEmbeddings(
        vectors,
        usage=Usage(input_tokens=embedded.tokens),
        truncated=tuple(embedded.truncated),
    )
