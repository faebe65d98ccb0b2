"""Secrets of endpoints on their way between callers, the vault and the provider.

The vault may read files for references, so that its work is done in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inferry.core.reserve import put_in_reserve, split_reserve
from inferry.errors import InferenceError, SecretsUnreadable
from inferry.protocols import Vault
from inferry.records import EndpointRecord
from inferry.service import Task


class Sealer:
    """Seals, merges and opens the secrets of endpoints; an endpoint without any has none sealed.

    reserve_s: how long secrets that are replaced are kept beside the newer ones. clock: seconds
    since the epoch.
    """

    def __init__(self, vault: Vault, *, reserve_s: float, clock: Callable[[], float]) -> None:
        self._vault = vault
        self._reserve_s = reserve_s
        self._clock = clock

    async def seal(
        self, secrets: dict[str, str], owner: str
    ) -> tuple[bytes | None, dict[str, str]]:
        """Give `secrets` sealed for the endpoint `owner`, and resolved."""
        return await asyncio.to_thread(self._seal, secrets, owner)

    async def open(self, record: EndpointRecord) -> dict[str, str]:
        """Give the resolved secrets of an endpoint. Raises what the vault raises."""
        if record.secrets is None:
            return {}
        return await asyncio.to_thread(self._vault.open, record.secrets, owner=record.inference_id)

    async def reseal(
        self, record: EndpointRecord, sent: dict[str, str], task: Task
    ) -> tuple[bytes | None, dict[str, str]]:
        """Lay the secrets that were sent over the stored ones; give them sealed and resolved.

        When the stored ones can no longer be opened, the sent ones take their place, if none that
        `task` requires is missing.
        """
        return await asyncio.to_thread(self._reseal, record, sent, task)

    async def holds(self, record: EndpointRecord, sent: dict[str, str]) -> bool:
        """Tell whether the stored secrets are already those that were sent."""
        if not sent:
            return True
        try:
            stored = await self.open(record)
        except InferenceError:
            return False  # they cannot be opened: these replace them
        return sent.items() <= stored.items()

    def _seal(self, secrets: dict[str, str], owner: str) -> tuple[bytes | None, dict[str, str]]:
        if not secrets:
            return None, {}
        sealed = self._vault.seal(secrets, owner=owner)
        return sealed, self._vault.open(sealed, owner=owner)

    def _reserve(self, record: EndpointRecord, sent: dict[str, str]) -> dict[str, str]:
        """Give what is kept of the stored secrets that `sent` replaces."""
        if record.secrets is None or not sent or not self._reserve_s:
            return {}
        stored = self._vault.open(record.secrets, owner=record.inference_id)
        until_ms = int((self._clock() + self._reserve_s) * 1000)
        return put_in_reserve(stored, sent, until_ms=until_ms)

    def _reseal(
        self, record: EndpointRecord, sent: dict[str, str], task: Task
    ) -> tuple[bytes | None, dict[str, str]]:
        owner, stored = record.inference_id, record.secrets
        if stored is None:
            return self._seal(sent, owner)
        try:
            # Also when nothing was sent: what a former master key sealed must not be written back.
            sealed = self._vault.merge(stored, sent | self._reserve(record, sent), owner=owner)
            return sealed, split_reserve(self._vault.open(sealed, owner=owner))[0]
        except SecretsUnreadable:
            required = {
                field.name for field in task.service_settings if field.secret and field.required
            }
            if not sent or not required <= sent.keys():
                raise
            return self._seal(sent, owner)
