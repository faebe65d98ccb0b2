"""Users: the rules for names and passwords, and slow password hashes.

Hashes are argon2id (RFC 9106) in their usual text form: 19 MiB, two passes, one lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from inferry.commands import PutUser
from inferry.errors import IllegalArgument, InvalidRequest, QueueFull
from inferry.priorities import give_way
from inferry.records import UserRecord
from inferry.security.roles import metadata_problems, name_problems

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
MIN_PASSWORD_LENGTH = 6
MAX_PASSWORD_LENGTH = 1024
RESERVED_REALM = "reserved"
NATIVE_REALM = "default_native"

# Checked for users that do not exist, so that they take as long. Nobody knows its password.
NOBODY_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$KioqKioqKioqKioqKioqKg"
    "$MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA"
)
# What the hash of another program may ask of us.
_MAX_MEMORY_KIB = 128 * 1024
_MAX_PASSES = 10
_MAX_LANES = 4


class Passwords:
    """Makes and checks password hashes in threads, a few at a time.

    parallel: hashes computed at once, each takes 19 MiB. waiting: calls that may wait; more are
    refused with `QueueFull`, so that a flood of wrong passwords cannot fill the memory.
    """

    def __init__(self, *, parallel: int = 2, waiting: int = 500) -> None:
        self._slots = asyncio.Semaphore(parallel)
        # Threads of our own: a cancelled call frees its slot while its thread still computes.
        # Requests go before passwords.
        self._threads = ThreadPoolExecutor(
            parallel, thread_name_prefix="password", initializer=give_way
        )
        self._room = parallel + waiting

    async def hash(self, password: str) -> str:
        """Give the hash to store."""
        async with self._turn():
            return await self._run(lambda: _hasher().hash(password))

    async def verify(
        self, password: str, user: UserRecord | None, *, is_known: Callable[[], bool]
    ) -> bool:
        """Tell whether `password` lets `user` in; as slow for None and for disabled users.

        is_known: asked when the turn has come; if it says yes, or raises, nothing is computed. So
        the many connections that a client opens at once cost one hash, not one each.
        """
        stored = NOBODY_HASH if user is None else user.password_hash
        async with self._turn():
            is_right = is_known() or await self._run(lambda: _is_of(password, stored))
        return is_right and user is not None and user.enabled

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._room <= 0:
            raise QueueFull("too many passwords wait to be checked, try again later")
        self._room -= 1
        try:
            async with self._slots:
                yield
        finally:
            self._room += 1

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def realm_of(user: UserRecord | None) -> str:
    """Name the realm of a user; that of one who is gone was the native one."""
    return RESERVED_REALM if user is not None and user.reserved else NATIVE_REALM


def check_new_user(asked: PutUser, *, is_new: bool) -> None:
    """Refuse a user that cannot be stored. Raises `BadRequest`."""
    problems = name_problems("User", asked.username)
    if asked.roles is None:
        problems.append("roles are missing")
    problems += metadata_problems(asked.metadata)
    problems += password_problems(asked.password, asked.password_hash)
    if is_new and asked.password is None and asked.password_hash is None:
        problems.append("password must be specified unless you are updating an existing user")
    if problems:
        raise InvalidRequest.of(problems)
    check_foreign_hash(asked.password_hash)


def password_problems(password: str | None, password_hash: str | None) -> list[str]:
    """Say what is wrong with a new password, given as itself or as a hash."""
    if password is None:
        return []
    problems: list[str] = []
    if password_hash is not None:
        problems.append("only one of [password, password_hash] can be specified")
    if len(password) < MIN_PASSWORD_LENGTH:
        problems.append(f"passwords must be at least [{MIN_PASSWORD_LENGTH}] characters long")
    if len(password) > MAX_PASSWORD_LENGTH:
        problems.append(f"passwords must be at most [{MAX_PASSWORD_LENGTH}] characters long")
    return problems


def check_foreign_hash(password_hash: str | None) -> None:
    """Refuse a hash that we cannot check at a reasonable price. Raises `IllegalArgument`."""
    if password_hash is None:
        return
    from argon2 import Type, extract_parameters
    from argon2.exceptions import InvalidHashError

    try:
        cost = extract_parameters(password_hash)
    except (InvalidHashError, ValueError) as error:
        raise IllegalArgument(
            "The provided password hash is not a hash or it could not be resolved to a supported "
            "hash algorithm. The supported password hash algorithms are [argon2id]"
        ) from error
    if (
        cost.type is not Type.ID
        or cost.memory_cost > _MAX_MEMORY_KIB
        or cost.time_cost > _MAX_PASSES
        or cost.parallelism > _MAX_LANES
    ):
        raise IllegalArgument(
            f"[password_hash] must be argon2id with at most [{_MAX_MEMORY_KIB}] KiB, "
            f"[{_MAX_PASSES}] passes and [{_MAX_LANES}] lanes"
        )


def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


def _is_of(password: str, stored: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(stored, password)
    except (InvalidHashError, VerificationError):
        return False
