"""Where we may connect: the one gate of outgoing connections.

Names and literal addresses are checked before a connection is tried, and what a name resolves to
is checked by the resolver whose answer is connected to, so that no second look-up can differ.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeAlias

from yarl import URL

from inferry.errors import BadRequest
from inferry.sections import is_allowed_host

Address: TypeAlias = IPv4Address | IPv6Address

# Addresses of clouds that hand out credentials to whoever asks from inside, beside link-local.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
_THIS_HOST = ip_network("0.0.0.0/8")
_NAT64 = ip_network("64:ff9b::/96")
_NUMERIC_LABEL = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EgressRules:
    """What the operator allows. allow_hosts: if any, all that can be reached; `*.example.org`."""

    allow_private_networks: bool
    allow_hosts: tuple[str, ...] = ()

    def check_url(self, text: str) -> URL:
        """Give the parsed URL, or raise `BadRequest` naming the rule that forbids it."""
        url = _parsed(text)
        host = (url.raw_host or "").rstrip(".").lower()
        if url.scheme not in ("http", "https") or not host:
            raise BadRequest(f"Invalid url for host [{host}]: it must begin with https://")
        if url.raw_user is not None or url.raw_password is not None:
            raise BadRequest(f"Invalid url for host [{host}]: user and password are not allowed")
        self._check_name(host)
        if url.scheme == "http" and not self.allow_private_networks:
            raise BadRequest(
                f"Host [{host}] cannot be called by plain http: use https, or set "
                "[outbound.allow_private_networks] for hosts of your own network"
            )
        address = _literal(host)
        if address is not None:
            self.check_address(address, host=host, is_plain=url.scheme == "http")
        return url

    def check_address(self, address: Address, *, host: str, is_plain: bool) -> None:
        """Raise `BadRequest` unless `address`, which `host` stands for, may be connected to.

        is_plain: by http, which is for private addresses only.
        """
        address = _unwrapped(address)
        reason = _never(address)
        if reason:
            raise BadRequest(f"Host [{host}] is never called: [{address}] is {reason}")
        is_private = not address.is_global
        if is_private and not self.allow_private_networks:
            raise BadRequest(
                f"Host [{host}] cannot be called: [{address}] is a private address and "
                "[outbound.allow_private_networks] is not set"
            )
        if is_plain and not is_private:
            raise BadRequest(
                f"Host [{host}] cannot be called by plain http: [{address}] is a public address"
            )

    def _check_name(self, host: str) -> None:
        if self.allow_hosts and not is_allowed_host(host, self.allow_hosts):
            raise BadRequest(f"Host [{host}] is not among [outbound.allow_hosts]")


def _parsed(text: str) -> URL:
    try:
        return URL(text)
    except ValueError as error:
        raise BadRequest("Invalid url: it cannot be parsed") from error


def _literal(host: str) -> Address | None:
    """Read a literal address; a number in any other notation is refused, not guessed."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        if _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
            raise BadRequest(
                f"Host [{host}] is not called: write addresses as four decimal numbers"
            ) from None
        return None


def _unwrapped(address: Address) -> Address:
    """Give the IPv4 address that an IPv6 one carries, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _never(address: Address) -> str:
    if address in _METADATA:
        return "a metadata address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast or address == IPv4Address("255.255.255.255"):
        return "a multicast address"
    if address.is_unspecified or (isinstance(address, IPv4Address) and address in _THIS_HOST):
        return "an unspecified address"
    return ""
