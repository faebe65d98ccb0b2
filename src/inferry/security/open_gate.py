"""The gate of a server without authentication."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from inferry.errors import NotAuthorized
from inferry.hosts import is_loopback
from inferry.security.gate import Login, Principal
from inferry.security.privileges import Rights


class OpenGate:
    """Everyone on this machine may do everything.

    Only names of this machine are accepted in `Host`: else a web page that has its own name
    resolve to a loopback address could use the server through the browser of whoever visits it.
    """

    def __init__(self) -> None:
        everyone = Principal("_anonymous", kind="anonymous", rights=Rights(["all"]))
        self._login = Login(everyone)

    async def authenticate(
        self, headers: Mapping[str, str], uri: str, *, address: str
    ) -> Principal:
        """Give the anonymous caller. Raises `NotAuthorized` for a foreign `Host`."""
        host = headers.get("host", "")
        if host and not _is_of_this_machine(host):
            raise NotAuthorized(
                "without authentication the server answers under the names of this machine only, "
                f"such as [localhost], got [{host[:256]}] in [Host]"
            )
        return self._login.principal

    def recall(self, headers: Mapping[str, str]) -> Login | None:
        """Give the anonymous caller; None for a foreign `Host`."""
        host = headers.get("host", "")
        return self._login if not host or _is_of_this_machine(host) else None

    def holds(self, login: Login) -> bool:
        """Tell that it does."""
        return True

    def authorize(self, principal: Principal, action: str) -> None:
        """Allow it."""


@lru_cache(maxsize=64)
def _is_of_this_machine(host: str) -> bool:
    """Tell whether a `Host` header, with or without port, names a loopback address."""
    name, colon, port = host.rpartition(":")
    return is_loopback((name if colon and port.isdigit() else host).lower())
