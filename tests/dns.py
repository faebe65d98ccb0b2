"""A name server on loopback that changes its mind, and a resolver that asks it.

RFC 1035, as far as it takes: one question, A (1) and AAAA (28), no compression in questions.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp.abc import AbstractResolver, ResolveResult

_A, _AAAA = 1, 28
_KINDS = {_A: (socket.AF_INET, 4), _AAAA: (socket.AF_INET6, 6)}


class NameServer(asyncio.DatagramProtocol):
    """Answers each look-up of a name with the next of its answers, the last one for ever.

    An answer lists addresses of both families. looked_up: names in the order of their look-ups.
    """

    def __init__(self) -> None:
        self.looked_up: list[str] = []
        self._answers: dict[str, deque[Sequence[str]]] = {}
        self._current: dict[str, Sequence[str]] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def knows(self, name: str, *answers: Sequence[str]) -> None:
        """Set the answers of a name."""
        self._answers[name] = deque(answers)

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr) -> None:
        number, question = data[:2], data[12:]
        name = _name_of(question)
        (kind,) = struct.unpack(">H", question[-4:-2])
        if kind == _A:  # the first question of a look-up
            self.looked_up.append(name)
            waiting = self._answers[name]
            self._current[name] = waiting.popleft() if len(waiting) > 1 else waiting[0]
        parsed = map(ipaddress.ip_address, self._current[name])
        found = [one.packed for one in parsed if one.version == _KINDS[kind][1]]
        records = b"".join(
            struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed for packed in found
        )
        head = number + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
        assert self._transport is not None
        self._transport.sendto(head + question + records, addr)


def _name_of(question: bytes) -> str:
    labels = []
    while question[0]:
        labels.append(question[1 : 1 + question[0]].decode())
        question = question[1 + question[0] :]
    return ".".join(labels)


class LoopbackResolver(AbstractResolver):
    """Asks the server at `port` what it is asked, over UDP, and remembers nothing."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(ipaddress.ip_address(packed)),
                port=port,
                family=address_family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, (address_family, _) in _KINDS.items()
            for packed in await self._ask(host, kind)
        ]

    async def close(self) -> None:
        return

    async def _ask(self, host: str, kind: int) -> list[bytes]:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in host.split("."))
        question = labels + b"\0" + struct.pack(">HH", kind, 1)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            await loop.sock_connect(asking, ("127.0.0.1", self._port))
            await loop.sock_sendall(asking, struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + question)
            reply = await loop.sock_recv(asking, 4096)
        (count,) = struct.unpack(">H", reply[6:8])
        records, packed = reply[12 + len(question) :], []
        for _ in range(count):
            (size,) = struct.unpack(">H", records[10:12])
            packed.append(records[12 : 12 + size])
            records = records[12 + size :]
        return packed


@asynccontextmanager
async def open_name_server() -> AsyncIterator[tuple[NameServer, LoopbackResolver]]:
    """Run a name server, and give a resolver that asks it."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    try:
        yield server, LoopbackResolver(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()
