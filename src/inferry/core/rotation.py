"""Gives the store another master key while it is used.

Each step leaves a state in which every secret can be opened, also after a crash: the new key is on
the disk beside the former one before anything is sealed with it, everything is sealed anew in one
transaction, and only then is the former key removed. What a crash cut off ends with the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from inferry.commands import Rotated
from inferry.core.ledger import Ledger
from inferry.errors import SecretsUnreadable, VersionConflict
from inferry.protocols import MasterKeys
from inferry.records import EndpointRecord
from inferry.telemetry import get_logger


class Rotation:
    """Changes the master key of the endpoints in `ledger`; call it where nothing cancels it."""

    def __init__(self, ledger: Ledger, keys: MasterKeys) -> None:
        self._ledger = ledger
        self._keys = keys
        self._turn = asyncio.Lock()

    async def run(self) -> Rotated:
        """Make a new key, seal everything with it, and remove the former one.

        Raises `SecretsUnreadable` when the key is not ours to replace, `StoreFailure`.
        """
        async with self._turn:
            await asyncio.to_thread(self._keys.renew)
            return await self._finish()

    async def resume(self) -> None:
        """End a rotation that was cut off."""
        async with self._turn:
            if self._keys.has_former:
                rotated = await self._finish()
                get_logger().info("the master key was replaced", resealed=rotated.resealed)

    async def _finish(self) -> Rotated:
        """Seal anew what former keys sealed, then remove these."""
        # Who read an endpoint before there was a new key may yet write it back: let them end.
        await self._ledger.locks.settle()
        while True:
            resealed, unreadable = await asyncio.to_thread(
                self._reseal, list(self._ledger.endpoints_with_secrets())
            )
            try:
                await self._ledger.replace_secrets(resealed)
                break
            except VersionConflict:  # an endpoint changed meanwhile
                continue
        await asyncio.to_thread(self._keys.retire)
        return Rotated(len(resealed), unreadable)

    def _reseal(self, records: Iterable[EndpointRecord]) -> tuple[list[EndpointRecord], list[str]]:
        """Give the endpoints that change, and the ids of endpoints that no key of ours opens."""
        resealed: list[EndpointRecord] = []
        unreadable: list[str] = []
        for record in records:
            try:
                sealed = self._keys.reseal(record.secrets or b"", owner=record.inference_id)
            except SecretsUnreadable:
                unreadable.append(record.inference_id)
                continue
            if sealed is not None:
                resealed.append(msgspec.structs.replace(record, secrets=sealed))
        return resealed, unreadable
