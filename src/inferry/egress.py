"""Where we may connect: the one gate of outgoing connections, to providers and to hubs of models.

Names and literal addresses are checked before a connection is tried, and what a name resolves to
is checked by the resolver whose answer is connected to, so that no second look-up can differ.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeAlias
from urllib.parse import urlsplit

from yarl import URL

from inferry.errors import BadRequest
from inferry.hosts import is_allowed_host

Address: TypeAlias = IPv4Address | IPv6Address

# Where clouds hand out credentials to whoever asks from inside, beside the link-local addresses.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
    )
)
_METADATA_NAMES = frozenset(
    [
        *("metadata", "metadata.google.internal", "metadata.goog", "metadata.tencentyun.com"),
        *("instance-data", "instance-data.ec2.internal"),
    ]
)
_LOCAL_NAMES = frozenset(
    ["localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback"]
)
_THIS_HOST = ip_network("0.0.0.0/8")
_UNICAST = ip_network("2000::/3")
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ip_network("::/96")
_TRANSLATED = ip_network("::ffff:0:0:0/96")
_ISATAP = (0x00005EFE, 0x02005EFE)
# Special-purpose blocks that the standard library of some supported version takes for public:
# IANA's registries, and RFC 9637.
_FURTHER_PRIVATE = (ip_network("192.0.0.0/24"), ip_network("192.88.99.0/24"))
_FURTHER_PRIVATE_V6 = (ip_network("2001::/23"), ip_network("3fff::/20"))
_NUMERIC_LABEL = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.IGNORECASE)
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_PATH = re.compile(r"/(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class EgressRules:
    """What the operator allows. allow_hosts: if any, all that can be reached; `*.example.org`."""

    allow_private_networks: bool
    allow_hosts: tuple[str, ...] = ()

    def check_url(self, text: str) -> URL:
        """Give the URL, its path as written, or raise `BadRequest` naming the rule against it."""
        url = _parsed(text)
        host = (url.raw_host or "").rstrip(".").lower()
        if url.scheme not in ("http", "https") or not host:
            raise BadRequest(f"Invalid url for host [{host}]: it must begin with https://")
        if url.raw_user is not None or url.raw_password is not None:
            raise BadRequest(f"Invalid url for host [{host}]: user and password are not allowed")
        is_plain = url.scheme == "http"
        address = _literal(host)
        if address is not None:
            self.check_address(address, host=host, is_plain=is_plain)
        else:
            self._check_name(host)
        if self.allow_hosts and not is_allowed_host(host, self.allow_hosts):
            raise BadRequest(f"Host [{host}] is not among [outbound.allow_hosts]")
        if is_plain and not self.allow_private_networks:
            raise BadRequest(
                f"Host [{host}] cannot be called by plain http: use https, or set "
                "[outbound.allow_private_networks] for hosts of your own network"
            )
        return url

    def check_address(self, address: Address, *, host: str, is_plain: bool) -> None:
        """Raise `BadRequest` unless `address`, which `host` stands for, may be connected to.

        is_plain: by http, which is for private addresses only.
        """
        reached = _reached(address)
        for one in reached:
            reason = _never(one)
            if reason:
                raise BadRequest(f"Host [{host}] is never called: [{one}] is {reason}")
        private = [one for one in reached if _is_private(one)]
        if private and not self.allow_private_networks:
            raise BadRequest(_not_private(host, f"[{private[0]}] is a private address"))
        if is_plain and not private:
            raise BadRequest(
                f"Host [{host}] cannot be called by plain http: [{address}] is a public address, "
                "use https"
            )

    def permitted(self, found: Iterable[Address], *, host: str, is_plain: bool) -> list[Address]:
        """Give those of the addresses of a name that may be connected to.

        Raises what `check_address` says of the last one when there is none.
        """
        allowed: list[Address] = []
        refusal: BadRequest | None = None
        for address in found:
            try:
                self.check_address(address, host=host, is_plain=is_plain)
            except BadRequest as error:
                refusal = error
            else:
                allowed.append(address)
        if refusal is not None and not allowed:
            raise refusal
        return allowed

    def _check_name(self, host: str) -> None:
        """Refuse names that say what they stand for; behind a proxy nothing else tells."""
        if not _NAME.fullmatch(host):
            raise BadRequest(f"Invalid url for host [{host[:256]!a}]: it is no name and no address")
        if host in _METADATA_NAMES:
            raise BadRequest(f"Host [{host}] is never called: it names a metadata service")
        is_local = host in _LOCAL_NAMES or host.endswith(".localhost")
        if is_local and not self.allow_private_networks:
            raise BadRequest(_not_private(host, "it names this machine, a private address,"))


def _parsed(text: str) -> URL:
    try:
        url = URL(text)
        path = urlsplit(text).path
    except ValueError as error:
        raise BadRequest("Invalid url: it cannot be parsed") from error
    # A signature covers the path as it is written, and `URL` makes `:` of `%3A`.
    return url.with_path(path, encoded=True, keep_query=True) if _PATH.fullmatch(path) else url


def _literal(host: str) -> Address | None:
    """Read a literal address; a number in any other notation is refused, not guessed."""
    if "%" in host and ":" in host:
        raise BadRequest(f"Host [{host}] is not called: write addresses without a zone")
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        if _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
            raise BadRequest(
                f"Host [{host}] is not called: write addresses as four decimal numbers"
            ) from None
        return None


def _reached(address: Address) -> list[Address]:
    """Give the addresses that a connection to `address` may end at: itself and those it carries."""
    if isinstance(address, IPv4Address):
        return [address]
    address = IPv6Address(int(address))  # without its zone
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]  # another way to write it
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    carried: list[Address] = []
    if address.sixtofour is not None:
        carried.append(address.sixtofour)
    if address.teredo is not None:
        carried += address.teredo
    if address in _NAT64[0]:
        return [low]
    is_isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    is_compatible = address in _COMPATIBLE and int(low) > 1  # the rest are [::] and [::1]
    if is_isatap or is_compatible or address in _NAT64[1] or address in _TRANSLATED:
        carried.append(low)
    return [address, *carried]


def _is_private(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not address.is_global or any(address in net for net in _FURTHER_PRIVATE)
    return (
        not address.is_global
        or address not in _UNICAST
        or any(address in net for net in _FURTHER_PRIVATE_V6)
    )


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


def _not_private(host: str, reason: str) -> str:
    return (
        f"Host [{host}] cannot be called: {reason} and [outbound.allow_private_networks] is not set"
    )
