"""A store in memory, and the parts of the security package around it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from inferry.commands import CreateApiKey, PutRole, PutUser
from inferry.core.access import Access
from inferry.errors import VersionConflict
from inferry.records import Change, Put, Record, RoleDescriptor
from inferry.security.gate import CredentialGate
from inferry.security.lockouts import FailedLogins, Lockouts
from inferry.security.users import Passwords
from inferry.security.writer import SecurityWriter

DAY_S = 24 * 3600.0


class MemoryStore:
    """The store, as a dictionary."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        self.values: dict[str, str] = {}

    async def load(self) -> list[Record]:
        return list(self.records.values())

    async def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            kind, key = _place(change)
            held = self.records.get((kind, key))
            if change.expects is not None and change.expects != (held.revision if held else 0):
                raise VersionConflict(f"[{key}] was changed meanwhile")
            if isinstance(change, Put):
                self.records[kind, key] = change.record
            else:
                del self.records[kind, key]

    async def value(self, name: str, make: Callable[[], str]) -> str:
        return self.values.setdefault(name, make())

    async def keep(self, name: str, value: str) -> None:
        self.values[name] = value

    async def close(self) -> None:
        self.records.clear()


def _place(change: Change) -> tuple[str, str]:
    if isinstance(change, Put):
        return str(change.record.__struct_config__.tag), change.record.key
    return change.kind, change.key


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s

    @property
    def now_ms(self) -> int:
        return int(self.now_s * 1000)


class House:
    """A writer, the records of one API process that it publishes to, and that process's gate."""

    def __init__(self, passwords: Passwords) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.access = Access()
        self.passwords = passwords
        self.writer = SecurityWriter(self.store, self._publish, passwords, now=self.clock)
        self.lockouts = Lockouts(monotonic=self.clock)
        self.logins = FailedLogins(self._publish, monotonic=self.clock)
        self.gate = CredentialGate(
            self.access, passwords, self.lockouts, self.logins.note, now=self.clock
        )

    async def _publish(self, changes: Sequence[Change]) -> None:
        self.access.apply(changes)
        self.lockouts.apply(changes)

    async def add_user(self, username: str, *roles: str, password: str = "s3cret-pass") -> None:
        await self.writer.put_user(PutUser(username, list(roles), password=password))

    async def add_role(self, name: str, *cluster: str) -> None:
        await self.writer.put_role(PutRole(name, RoleDescriptor(cluster=list(cluster))))

    @staticmethod
    def id_of(encoded: str) -> str:
        """Give the id in an encoded key."""
        return base64.b64decode(encoded).decode().partition(":")[0]

    async def add_key(self, owner: str, *cluster: str, **fields: Any) -> str:
        """Make a key limited to `cluster`, if given, and give its encoded form."""
        limits = {"limits": RoleDescriptor(cluster=list(cluster))} if cluster else None
        fields.setdefault("name", "key")
        command = CreateApiKey(owner=owner, role_descriptors=limits, **fields)
        return (await self.writer.create_api_key(command)).encoded


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


@pytest.fixture
def house(passwords: Passwords) -> House:
    return House(passwords)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()
