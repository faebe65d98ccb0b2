"""API keys, users and roles, as an API process holds them: decoded, in memory, never stale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inferry.records import ApiKeyRecord, Change, Put, Record, RoleRecord, UserRecord


class Access:
    """The records that decide who may enter.

    Records are immutable, so the identity of one tells whether it changed. version: raised
    whenever any of them changes.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.version = 0
        self._keys: dict[str, ApiKeyRecord] = {}
        self._users: dict[str, UserRecord] = {}
        self._roles: dict[str, RoleRecord] = {}
        self.apply([Put(record) for record in records])

    def apply(self, changes: Sequence[Change]) -> None:
        """Take `changes` over, in one step; those of other kinds of records are left out."""
        for change in changes:
            if isinstance(change, Put):
                self._put(change.record)
            else:
                self._drop(change.kind, change.key)

    def user(self, username: str) -> UserRecord | None:
        """Give a user."""
        return self._users.get(username)

    def role(self, name: str) -> RoleRecord | None:
        """Give a role that an administrator defined."""
        return self._roles.get(name)

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """Give an API key."""
        return self._keys.get(key_id)

    def users(self) -> list[UserRecord]:
        """List the users by name."""
        return [self._users[name] for name in sorted(self._users)]

    def roles(self) -> list[RoleRecord]:
        """List the roles that administrators defined, by name."""
        return [self._roles[name] for name in sorted(self._roles)]

    def api_keys(self) -> list[ApiKeyRecord]:
        """List the API keys, oldest first."""
        return sorted(self._keys.values(), key=lambda key: (key.creation_ms, key.id))

    def _put(self, record: Record) -> None:
        match record:
            case ApiKeyRecord():
                self._keys[record.id] = record
            case UserRecord():
                self._users[record.username] = record
            case RoleRecord():
                self._roles[record.name] = record
            case _:  # endpoints and the like are the snapshot's
                return
        self.version += 1

    def _drop(self, kind: str, key: str) -> None:
        dropped: Record | None = None
        match kind:
            case "api_key":
                dropped = self._keys.pop(key, None)
            case "user":
                dropped = self._users.pop(key, None)
            case "role":
                dropped = self._roles.pop(key, None)
        if dropped is not None:
            self.version += 1
