"""Writes API keys, users and roles: the one place that decides about them, in the supervisor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from inferry.commands import (
    Command,
    CreateApiKey,
    DeleteRole,
    DeleteUser,
    InvalidateApiKeys,
    Invalidation,
    NewApiKey,
    PutRole,
    PutUser,
    SetPassword,
    SetUserEnabled,
)
from inferry.errors import IllegalArgument, InvalidRequest
from inferry.key_limits import limits_in
from inferry.protocols import Publish, Store
from inferry.records import (
    ApiKeyRecord,
    Change,
    Drop,
    Put,
    Record,
    RoleDescriptor,
    RoleRecord,
    UserRecord,
)
from inferry.security import api_keys, roles, users
from inferry.security.users import Passwords


class SecurityWriter:
    """Carries out the security commands, one at a time.

    Each checks its rules against the newest records, then writes, remembers and publishes in one
    step, so that a reply means: every API process goes by it. now: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        publish: Publish,
        passwords: Passwords,
        *,
        records: Iterable[Record] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._publish = publish
        self._passwords = passwords
        self._now = now
        self._turn = asyncio.Lock()
        self._keys: dict[str, ApiKeyRecord] = {}
        self._users: dict[str, UserRecord] = {}
        self._roles: dict[str, RoleRecord] = {}
        self._remember([Put(record) for record in records])

    def handlers(self) -> dict[type[Command], Callable[[Any], Awaitable[Any]]]:
        """Give the handler of each command."""
        return {
            CreateApiKey: self.create_api_key,
            InvalidateApiKeys: self.invalidate_api_keys,
            PutUser: self.put_user,
            DeleteUser: self.delete_user,
            SetPassword: self.set_password,
            SetUserEnabled: self.set_user_enabled,
            PutRole: self.put_role,
            DeleteRole: self.delete_role,
        }

    def records(self) -> list[Record]:
        """Give every record of this writer, as it is now."""
        return [*self._keys.values(), *self._users.values(), *self._roles.values()]

    # --- API keys --------------------------------------------------------------------------------

    async def create_api_key(self, asked: CreateApiKey) -> NewApiKey:
        """Make a key and give its secret, this once. Raises `BadRequest`."""
        name = api_keys.check_new_key(asked.name, asked.metadata or {})
        limits_in(asked.metadata or {})
        lasts_ms = asked.expiration and api_keys.parse_expiration_ms(asked.expiration)
        descriptors = asked.role_descriptors or {}
        for descriptor in descriptors.values():
            roles.check_descriptor(descriptor)
        async with self._turn:
            if asked.owner_key_id is not None and not self._is_local(asked.owner_key_id):
                api_keys.check_derived(descriptors)
            secret = api_keys.new_secret()
            now_ms = self._now_ms()
            key = ApiKeyRecord(
                id=secret.key_id,
                name=name,
                digest=api_keys.digest_of(secret.secret),
                owner=asked.owner,
                role_descriptors=descriptors,
                limited_by=self._descriptors_of(asked.owner),
                creation_ms=now_ms,
                expiration_ms=now_ms + lasts_ms if lasts_ms else None,
                metadata=asked.metadata or {},
            )
            await self._commit([Put(key, expects=0)])
        return NewApiKey(key.id, key.name, secret.secret, secret.encoded, key.expiration_ms)

    async def invalidate_api_keys(self, asked: InvalidateApiKeys) -> Invalidation:
        """End keys for good. Raises `InvalidRequest`."""
        api_keys.check_criteria(asked.criteria)
        async with self._turn:
            found = api_keys.select(self._keys.values(), asked.criteria, self._realm_of)
            ending = [key for key in found if key.invalidation_ms is None]
            now_ms = self._now_ms()
            await self._commit(
                [_replaced(key, invalidation_ms=now_ms) for key in ending],
            )
        ended = {key.id for key in ending}
        return Invalidation(
            invalidated=[key.id for key in ending],
            previously_invalidated=[key.id for key in found if key.id not in ended],
        )

    # --- users -----------------------------------------------------------------------------------

    async def put_user(self, asked: PutUser) -> bool:
        """Create or replace a user; tells whether it is new. Raises `BadRequest`."""
        users.check_new_user(asked, is_new=asked.username not in self._users)
        new_hash = await self._new_hash(asked.password, asked.password_hash)
        async with self._turn:
            former = self._users.get(asked.username)
            if former is not None and former.reserved:
                raise IllegalArgument(
                    f"user [{asked.username}] is reserved and only the password can be changed"
                )
            users.check_new_user(asked, is_new=former is None)
            user = UserRecord(
                username=asked.username,
                password_hash=new_hash or (former.password_hash if former else ""),
                roles=asked.roles or [],
                full_name=asked.full_name,
                email=asked.email,
                metadata=asked.metadata,
                enabled=asked.enabled,
                revision=former.revision + 1 if former else 1,
            )
            await self._commit([Put(user, expects=former.revision if former else 0)])
        return former is None

    async def delete_user(self, asked: DeleteUser) -> bool:
        """Remove a user; tells whether there was one. Raises `IllegalArgument`."""
        async with self._turn:
            user = self._users.get(asked.username)
            if user is None:
                return False
            if user.reserved:
                raise IllegalArgument(f"user [{user.username}] is reserved and cannot be deleted")
            await self._commit([Drop("user", user.key, expects=user.revision)])
        return True

    async def set_password(self, asked: SetPassword) -> None:
        """Change a password. Raises `BadRequest`."""
        problems = users.password_problems(asked.password, asked.password_hash)
        if asked.password is None and asked.password_hash is None:
            problems.append("password is missing")
        if problems:
            raise InvalidRequest.of(problems)
        users.check_foreign_hash(asked.password_hash)
        new_hash = await self._new_hash(asked.password, asked.password_hash)
        async with self._turn:
            user = self._existing(asked.username, "user must exist in order to change password")
            await self._commit([_replaced(user, password_hash=new_hash)])

    async def set_user_enabled(self, asked: SetUserEnabled) -> None:
        """Let a user in, or keep it out. Raises `BadRequest`."""
        verb = "enabled" if asked.enabled else "disabled"
        async with self._turn:
            user = self._existing(asked.username, f"only existing users can be {verb}")
            if user.reserved and not asked.enabled:
                raise IllegalArgument(
                    f"user [{user.username}] is reserved and only the password can be changed"
                )
            await self._commit([_replaced(user, enabled=asked.enabled)])

    # --- roles -----------------------------------------------------------------------------------

    async def put_role(self, asked: PutRole) -> bool:
        """Create or replace a role; tells whether it is new. Raises `BadRequest`."""
        roles.check_new_role(asked.name, asked.descriptor)
        async with self._turn:
            former = self._roles.get(asked.name)
            expects = former.revision if former else 0
            role = RoleRecord(asked.name, asked.descriptor, revision=expects + 1)
            await self._commit([Put(role, expects=expects)])
        return former is None

    async def delete_role(self, asked: DeleteRole) -> bool:
        """Remove a role; tells whether there was one. Raises `IllegalArgument`."""
        roles.check_role_removal(asked.name)
        async with self._turn:
            role = self._roles.get(asked.name)
            if role is None:
                return False
            await self._commit([Drop("role", role.key, expects=role.revision)])
        return True

    # --- inside ----------------------------------------------------------------------------------

    async def _commit(self, changes: Sequence[Change]) -> None:
        """Write, remember and publish, in this order."""
        if changes:
            await self._store.write(changes)
            self._remember(changes)
            await self._publish(changes)

    def _remember(self, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case Put(ApiKeyRecord() as key):
                    self._keys[key.id] = key
                case Put(UserRecord() as user):
                    self._users[user.username] = user
                case Put(RoleRecord() as role):
                    self._roles[role.name] = role
                case Drop("user", username):
                    self._users.pop(username, None)
                case Drop("role", name):
                    self._roles.pop(name, None)
                case _:  # endpoints and the like are the registry's
                    continue

    async def _new_hash(self, password: str | None, password_hash: str | None) -> str | None:
        if password is None:
            return password_hash
        return await self._passwords.hash(password)

    def _existing(self, username: str, problem: str) -> UserRecord:
        user = self._users.get(username)
        if user is None:
            raise InvalidRequest.of([problem])
        return user

    def _is_local(self, key_id: str) -> bool:
        """Tell whether a key is the server's own: it acts for the administrator of the host."""
        key = self._keys.get(key_id)
        return key is not None and api_keys.LOCAL_KEY_MARK in key.metadata

    def _descriptors_of(self, username: str) -> dict[str, RoleDescriptor]:
        """Give the roles of a user as they are now; one without roles gets an empty limit."""
        user = self._users.get(username)
        found: dict[str, RoleDescriptor] = {}
        for name in user.roles if user else ():
            role = self._roles.get(name)
            if name in roles.BUILT_IN_ROLES:
                found[name] = roles.BUILT_IN_ROLES[name]
            elif role is not None:
                found[name] = role.descriptor
        return found

    def _realm_of(self, username: str) -> str:
        return users.realm_of(self._users.get(username))

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def _replaced(record: ApiKeyRecord | UserRecord, **changes: object) -> Put:
    """Give the change that replaces `record`, if it is still the newest."""
    newer = msgspec.structs.replace(record, revision=record.revision + 1, **changes)
    return Put(newer, expects=record.revision)
