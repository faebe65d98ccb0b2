"""Name resolution that gives only addresses which `egress` allows to connect to."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from inferry.egress import EgressRules
from inferry.errors import BadRequest

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]


class CheckingResolver(AbstractResolver):
    """The pool connects to what this gives. is_plain: the pool's calls go by http."""

    def __init__(self, rules: EgressRules, *, is_plain: bool) -> None:
        self._rules = rules
        self._is_plain = is_plain
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve `host`; raises `BadRequest` when no address of it may be connected to."""
        found = await self._resolver.resolve(host, port, family)
        addresses = {ipaddress.ip_address(one["host"]): one for one in found}
        allowed = self._rules.permitted(addresses, host=host, is_plain=self._is_plain)
        return [addresses[address] for address in allowed]

    async def close(self) -> None:
        """Let go of what the resolver holds."""
        await self._resolver.close()


class AddressRefused(OSError):
    """An address reached the socket although the checks before should have stopped it."""


def open_socket(info: AddressInfo, rules: EgressRules, *, is_plain: bool) -> socket.socket:
    """Make the socket for a connection to `info`, the last check before it is opened."""
    family, kind, protocol, _, place = info
    host = str(place[0])
    try:
        rules.check_address(ipaddress.ip_address(host), host=host, is_plain=is_plain)
    except BadRequest as error:
        raise AddressRefused(str(error)) from error
    return socket.socket(family=family, type=kind, proto=protocol)
