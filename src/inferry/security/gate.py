"""Who may enter: authentication of a request, authorisation of an action.

The texts of refusals are those of Elasticsearch, since callers look for parts of them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias

from inferry.commands import KeyCriteria, NoteFailedLogin
from inferry.errors import NotAuthenticated, NotAuthorized
from inferry.key_limits import KeyHolder, limits_in
from inferry.records import ApiKeyRecord, RoleDescriptor, RoleRecord, UserRecord
from inferry.security.api_keys import belongs, decode_secret, end_of, rights_of, select
from inferry.security.lockouts import Lockouts, locked_out, pair_of
from inferry.security.privileges import PRIVILEGES, Rights, granted_by
from inferry.security.roles import BUILT_IN_ROLES, cluster_privileges
from inferry.security.users import Passwords, realm_of

MAX_REMEMBERED = 10_000
NO_RIGHTS = Rights()

NoteFailure: TypeAlias = Callable[[NoteFailedLogin], Awaitable[float]]
"""Counts a failed login and gives the seconds that the pair is locked out, 0 if it is not."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    roles: names of effective roles, sorted; missing_roles: assigned ones that do not exist.
    api_key_id, api_key_name: set when an API key was used; `username` is then its owner.
    rights: what it may do, as of its authentication. holder: set for an API key with limits.
    """

    username: str
    roles: tuple[str, ...] = ()
    missing_roles: tuple[str, ...] = ()
    kind: Literal["realm", "api_key", "token", "anonymous"] = "realm"
    api_key_id: str | None = None
    api_key_name: str | None = None
    rights: Rights = field(default=NO_RIGHTS, repr=False, compare=False)
    holder: KeyHolder | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """Whom credentials proved, and what that rests on: `Gate.holds` tells whether it still stands.

    version: of the access records. ends_ms: when an API key expires. record: whose they are.
    """

    principal: Principal
    version: int = 0
    ends_ms: int | None = None
    record: UserRecord | ApiKeyRecord | None = None


class Gate(Protocol):
    """Decides for each request who it is and whether the action is allowed."""

    async def authenticate(
        self, headers: Mapping[str, str], uri: str, *, address: str
    ) -> Principal:
        """Give the caller, who is at `address`. headers: names in lower case.

        Raises `NotAuthenticated` in the wire's words, `LockedOut` after too many failures, and
        `QueueFull` when too many passwords wait.
        """

    def recall(self, headers: Mapping[str, str]) -> Login | None:
        """Give a caller whose credentials were verified before, without waiting; else None."""

    def holds(self, login: Login) -> bool:
        """Tell whether `recall` would give this login again, for the same headers.

        While it holds, so does everything that `authorize` said of its principal.
        """

    def authorize(self, principal: Principal, action: str) -> None:
        """Return if `principal` may do `action`, else raise `NotAuthorized` in the wire's words.

        Passes also who may do it on own API keys only; such a call goes on to `authorize_others`.
        """


class AccessRecords(Protocol):
    """The records that the gate reads; the identity of one tells whether it changed."""

    version: int

    def user(self, username: str) -> UserRecord | None:
        """Give a user."""

    def role(self, name: str) -> RoleRecord | None:
        """Give a role that an administrator defined."""

    def roles(self) -> Sequence[RoleRecord]:
        """List the roles that administrators defined."""

    def api_key(self, key_id: str) -> ApiKeyRecord | None:
        """Give an API key."""

    def api_keys(self) -> Sequence[ApiKeyRecord]:
        """List the API keys."""


class CredentialGate:
    """The gate of a server with authentication.

    Verified credentials are remembered under a digest with a key of this process, so that the
    usual request costs a digest and a look-up, and no more than a comparison on a connection that
    brought them before; whether they still hold is asked every time.
    note: counts a failed login for the host. now: seconds since the epoch.
    """

    def __init__(
        self,
        access: AccessRecords,
        passwords: Passwords,
        lockouts: Lockouts,
        note: NoteFailure,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._passwords = passwords
        self._lockouts = lockouts
        self._note = note
        self._now = now
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._logins: dict[bytes, Login] = {}

    async def authenticate(
        self, headers: Mapping[str, str], uri: str, *, address: str
    ) -> Principal:
        """Give the caller, see `Gate`."""
        header = headers.get("authorization")
        if header is None:
            raise NotAuthenticated(
                f"missing authentication credentials for REST request [{uri}]",
                reason="no credentials",
            )
        digest = self._digest(header)
        known = self._recall(digest)
        if known is not None:
            if known.principal.kind == "realm":
                self._check_lockout(known.principal.username, address)
            return known.principal
        scheme, _, content = header.strip().partition(" ")
        match scheme.lower():
            case "apikey":
                login = self._check_key(content.strip())
            case "bearer":
                if decode_secret(content.strip()) is None:
                    raise _refusal()
                login = self._check_key(content.strip())
            case "basic":
                login = await self._check_password(content.strip(), uri, digest, address)
            case _:
                raise _refusal()
        self._remember(digest, login)
        return login.principal

    def recall(self, headers: Mapping[str, str]) -> Login | None:
        """Give a known caller, see `Gate`."""
        header = headers.get("authorization")
        known = None if header is None else self._recall(self._digest(header))
        return known if known is not None and self.holds(known) else None

    def holds(self, login: Login) -> bool:
        """Tell whether a login still stands, see `Gate`."""
        if login.version != self._access.version:
            return False
        if login.principal.kind == "realm" and self._lockouts:
            return False  # a lockout depends on the address, which is not asked here
        return login.ends_ms is None or login.ends_ms > self._now_ms()

    def authorize(self, principal: Principal, action: str) -> None:
        """Return if allowed, see `Gate`."""
        if not principal.rights.allow(action, on_own=True):
            raise NotAuthorized(_unauthorized(principal, action), action=action)

    def authorize_others(self, principal: Principal, action: str) -> None:
        """As `authorize`, but also on API keys that are not the caller's own."""
        if not principal.rights.allow(action):
            raise NotAuthorized(_unauthorized(principal, action), action=action)

    def role(self, name: str) -> RoleDescriptor | None:
        """Give a role, built-in or defined."""
        built_in = BUILT_IN_ROLES.get(name)
        if built_in is not None:
            return built_in
        record = self._access.role(name)
        return None if record is None else record.descriptor

    def roles(self) -> dict[str, RoleDescriptor]:
        """Give all roles, built-in and defined, by name."""
        defined = {record.name: record.descriptor for record in self._access.roles()}
        return defined | dict(BUILT_IN_ROLES)

    def privilege_names(self) -> list[str]:
        """List the names of cluster privileges."""
        return sorted(PRIVILEGES)

    def find_api_keys(self, criteria: KeyCriteria) -> list[ApiKeyRecord]:
        """Give the keys that meet every criterion, oldest first."""
        keys: Iterable[ApiKeyRecord] = self._access.api_keys()
        if criteria.ids is not None:
            found = (self._access.api_key(key_id) for key_id in criteria.ids)
            keys = {key.id: key for key in found if key is not None}.values()
        return select(keys, criteria, self.realm_name)

    def realm_name(self, username: str) -> str:
        """Name the realm of a user."""
        return realm_of(self._access.user(username))

    def is_active(self, key: ApiKeyRecord) -> bool:
        """Tell whether a key can still be used."""
        return end_of(key, self._now_ms()) is None

    # --- remembered credentials ------------------------------------------------------------------

    def _digest(self, header: str) -> bytes:
        digest = self._keyed.copy()  # half the price of one that takes in the key every time
        digest.update(header.encode("utf-8", "surrogatepass"))
        return digest.digest()

    def _recall(self, digest: bytes) -> Login | None:
        """Give whom these credentials proved before, if they still do."""
        login = self._logins.get(digest)
        if login is None:
            return None
        if login.version == self._access.version:
            renewed: Login | None = login
        else:
            renewed = self._renew(login)
        if renewed is None or (renewed.ends_ms is not None and renewed.ends_ms <= self._now_ms()):
            del self._logins[digest]
            return None
        self._logins[digest] = renewed
        return renewed

    def _renew(self, login: Login) -> Login | None:
        """Give what a login is worth now that some record has changed, None if it was its own."""
        match login.record:
            case ApiKeyRecord(id=key_id) as key if self._access.api_key(key_id) is key:
                return replace(login, version=self._access.version)
            case UserRecord(username=username) as user if self._access.user(username) is user:
                return self._user_login(user)
        return None

    def _remember(self, digest: bytes, login: Login) -> None:
        if len(self._logins) >= MAX_REMEMBERED:
            del self._logins[next(iter(self._logins))]
        self._logins[digest] = login

    # --- credentials seen for the first time -----------------------------------------------------

    def _check_key(self, encoded: str) -> Login:
        given = decode_secret(encoded)
        if given is None:
            raise _refusal(detail="API key: the credentials are not an encoded API key")
        key = self._access.api_key(given.key_id)
        if key is None:
            # Its id may be a secret in the wrong place, so that the audit log does not get it.
            detail = f"API key: unable to find apikey with id {given.key_id}"
            raise _refusal("unknown API key", detail=detail)
        if not belongs(given, key):
            detail = f"API key: invalid credentials for API key [{key.id}]"
            raise _refusal("wrong secret of an API key", detail=detail, key=key)
        end = end_of(key, self._now_ms())
        if end is not None:
            raise _refusal("an API key that has ended", detail=f"API key: {end}", key=key)
        limits = limits_in(key.metadata)
        principal = Principal(
            key.owner,
            kind="api_key",
            api_key_id=key.id,
            api_key_name=key.name,
            rights=rights_of(key),
            holder=None if limits is None else KeyHolder(key.id, key.owner, limits),
        )
        return Login(principal, self._access.version, key.expiration_ms, key)

    async def _check_password(self, encoded: str, uri: str, digest: bytes, address: str) -> Login:
        try:
            decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise _refusal() from error
        username, colon, password = decoded.partition(":")
        if not colon:
            raise _refusal()

        def is_known() -> bool:
            self._check_lockout(username, address)
            return self._recall(digest) is not None

        self._check_lockout(username, address)
        while True:
            user = self._access.user(username)
            is_right = await self._passwords.verify(password, user, is_known=is_known)
            if self._access.user(username) is user:
                break  # else the user changed meanwhile, and it was the former one's password
        if not is_right or user is None:
            left_s = await self._note(NoteFailedLogin(pair_of(username, address)))
            if left_s > 0:
                raise locked_out(username, address, left_s)
            raise NotAuthenticated(
                f"unable to authenticate user [{username}] for REST request [{uri}]",
                user=username,
                reason="wrong user or password",
            )
        return self._user_login(user)

    def _check_lockout(self, username: str, address: str) -> None:
        """Refuse who failed too often. Raises `LockedOut`."""
        if not self._lockouts:
            return
        left_s = self._lockouts.left_s(pair_of(username, address))
        if left_s > 0:
            raise locked_out(username, address, left_s)

    def _user_login(self, user: UserRecord) -> Login:
        descriptors = {name: self.role(name) for name in sorted(set(user.roles))}
        found = {name: one for name, one in descriptors.items() if one is not None}
        principal = Principal(
            user.username,
            roles=tuple(found),
            missing_roles=tuple(name for name in descriptors if name not in found),
            rights=Rights(cluster_privileges(found.values())),
        )
        return Login(principal, self._access.version, record=user)

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def _refusal(
    reason: str = "unreadable credentials",
    *,
    detail: str | None = None,
    key: ApiKeyRecord | None = None,
) -> NotAuthenticated:
    """Refuse credentials other than a password. key: whose secret or time was wrong."""
    return NotAuthenticated(
        "unable to authenticate with provided credentials and anonymous access is not allowed "
        "for this request",
        detail=detail,
        user="" if key is None else key.owner,
        api_key_id=None if key is None else key.id,
        reason=reason,
    )


def _unauthorized(principal: Principal, action: str) -> str:
    """Word the refusal: who, by which roles, and what would allow it."""
    if principal.api_key_id is not None:
        who = f"API key id [{principal.api_key_id}] of user [{principal.username}]"
    else:
        who = f"user [{principal.username}] with effective roles [{','.join(principal.roles)}]"
        if principal.missing_roles:
            who += f" (assigned roles [{','.join(principal.missing_roles)}] were not found)"
    return (
        f"action [{action}] is unauthorized for {who}, this action is granted by the cluster "
        f"privileges [{','.join(granted_by(action))}]"
    )
