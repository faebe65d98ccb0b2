"""The gate of a process, until the server ends."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from inferry.errors import ShuttingDown
from inferry.security.gate import Gate, Login, Principal


class Door:
    """The gate, until it is shut because the server ends: then nobody enters any more.

    warning: why requests are not welcome although they are still taken, empty without a reason.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._is_shut = False
        self.warning = ""

    def shut(self) -> None:
        """Refuse new requests; health is answered without a gate."""
        self._is_shut = True

    def why_not_ready(self) -> str | None:
        """Say why requests are not welcome, None while they are."""
        return "the server is shutting down" if self._is_shut else self.warning or None

    def authenticate(
        self, headers: Mapping[str, str], uri: str, *, address: str
    ) -> Coroutine[Any, Any, Principal]:
        """Ask the gate. Raises `ShuttingDown`."""
        if self._is_shut:
            raise ShuttingDown("the server is shutting down, send the request to another one")
        return self._gate.authenticate(headers, uri, address=address)

    def recall(self, headers: Mapping[str, str]) -> Login | None:
        """Ask the gate; nobody is known any more once it is shut."""
        return None if self._is_shut else self._gate.recall(headers)

    def holds(self, login: Login) -> bool:
        """Ask the gate; no login holds any more once it is shut."""
        return not self._is_shut and self._gate.holds(login)

    def authorize(self, principal: Principal, action: str) -> None:
        """Ask the gate."""
        self._gate.authorize(principal, action)
