"""Connections of downloads, which go only to addresses that passed the gate."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import httpx2

from inferry.egress import Address, EgressRules
from inferry.errors import BadRequest
from inferry.models.downloads import Site

_MAX_REDIRECTS = 5
_READ_TIMEOUT_S = 30.0


class GatedTransport(httpx2.BaseTransport):
    """Looks a name up, checks what it stands for, and connects to that.

    Each origin has connections of its own, so that what one host has proven serves no other.
    """

    def __init__(
        self,
        rules: EgressRules,
        context: ssl.SSLContext,
        look_up: Callable[[str], Iterable[Address]] | None = None,
    ) -> None:
        """look_up: gives the addresses of a name, those of the system if left out."""
        self._rules = rules
        self._context = context
        self._look_up = look_up or _look_up
        self._transports: dict[tuple[str, str, int | None], httpx2.HTTPTransport] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send to the first address that takes a connection. Raises `BadRequest`."""
        url, host = request.url, request.url.host
        is_plain = url.scheme == "http"
        refused: httpx2.TransportError | None = None
        for address in self._rules.permitted(self._look_up(host), host=host, is_plain=is_plain):
            pinned = httpx2.Request(
                request.method,
                url.copy_with(host=str(address)),
                headers=request.headers,  # among them `Host` with the name
                stream=request.stream,
                # The certificate still has to be that of the name.
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return self._transport(url).handle_request(pinned)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                refused = error
        raise refused or httpx2.ConnectError(f"[{host}] has no address")

    def close(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            transport.close()

    def _transport(self, url: httpx2.URL) -> httpx2.HTTPTransport:
        origin = (url.scheme, url.host, url.port)
        if origin not in self._transports:
            self._transports[origin] = httpx2.HTTPTransport(verify=self._context, trust_env=False)
        return self._transports[origin]


def open_site(site: Site) -> httpx2.Client:
    """Make a client for a site: our gate, proxy and certificates, no settings of anybody else.

    It follows a few redirects, each of which the gate looks at, and takes the credential of the
    site nowhere else.
    """
    home = urlsplit(site.url)
    rules = EgressRules(site.allow_private_networks, site.allow_hosts)

    def check(request: httpx2.Request) -> None:
        """Look at a request, also at one that follows a redirect."""
        if home.scheme == "https" and request.url.scheme != "https":
            raise BadRequest(
                f"[{site.url}] leads to [{request.url.host}] by plain http, which is not followed"
            )
        rules.check_url(str(request.url))
        if (request.url.scheme, request.url.netloc.decode()) != (home.scheme, home.netloc):
            request.headers.pop("authorization", None)

    context = ssl.create_default_context()
    if site.ca_file is not None:
        context.load_verify_locations(site.ca_file)
    return httpx2.Client(
        event_hooks={"request": [check]},
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        timeout=httpx2.Timeout(_READ_TIMEOUT_S, connect=site.connect_timeout_s),
        # Through a proxy names are its business.
        transport=None if site.proxy else GatedTransport(rules, context),
        proxy=site.proxy,
        trust_env=False,
        verify=context,
    )


def _look_up(host: str) -> list[Address]:
    """Give the addresses of a name or a literal, in the order of the system."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpx2.ConnectError(f"[{host}] cannot be found") from error
    literals = (str(address[0]).partition("%")[0] for _, _, _, _, address in found)
    return list(dict.fromkeys(map(ipaddress.ip_address, literals)))
