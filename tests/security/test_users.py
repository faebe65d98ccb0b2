"""Passwords, and the rules for users."""

from __future__ import annotations

import asyncio
import threading

import argon2
import pytest

from inferry.commands import PutUser
from inferry.concurrency import run_all
from inferry.errors import IllegalArgument, InvalidRequest, QueueFull
from inferry.records import UserRecord
from inferry.security import users
from inferry.security.users import NOBODY_HASH, Passwords, check_foreign_hash, check_new_user


def never() -> bool:
    return False


def user_with(password_hash: str, *, enabled: bool = True) -> UserRecord:
    return UserRecord("ann", password_hash, [], enabled=enabled)


async def test_a_password_is_hashed_with_argon2id_at_the_cost_that_is_recommended(passwords):
    hashed = await passwords.hash("s3cret-pass")

    cost = argon2.extract_parameters(hashed)
    assert cost.type is argon2.Type.ID
    assert (cost.memory_cost, cost.time_cost, cost.parallelism) == (19 * 1024, 2, 1)
    assert "s3cret" not in hashed


async def test_only_the_right_password_lets_in(passwords):
    user = user_with(await passwords.hash("s3cret-pass"))

    assert await passwords.verify("s3cret-pass", user, is_known=never)
    assert not await passwords.verify("s3cret-pas", user, is_known=never)


async def test_a_disabled_user_is_not_let_in(passwords):
    user = user_with(await passwords.hash("s3cret-pass"), enabled=False)

    assert not await passwords.verify("s3cret-pass", user, is_known=never)


async def test_an_unknown_user_costs_as_much_as_a_known_one(passwords, monkeypatch):
    checked = []

    def note(_: str, stored: str) -> bool:
        checked.append(stored)
        return False

    monkeypatch.setattr(users, "_is_of", note)

    await passwords.verify("x", None, is_known=never)

    of_nobody, of_somebody = map(argon2.extract_parameters, (*checked, await passwords.hash("x")))
    assert of_nobody == of_somebody


async def test_nobody_is_never_let_in(passwords):
    assert not await passwords.verify("", None, is_known=never)
    assert not await passwords.verify("", user_with(NOBODY_HASH), is_known=never)


async def test_a_damaged_hash_lets_nobody_in(passwords):
    assert not await passwords.verify("s3cret-pass", user_with("nonsense"), is_known=never)


async def test_at_most_two_passwords_are_checked_at_once(passwords, monkeypatch):
    lock, running, most = threading.Lock(), 0, 0
    both = threading.Barrier(2, timeout=10)

    def check(_: str, __: str) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1
        return False

    monkeypatch.setattr(users, "_is_of", check)

    await run_all(passwords.verify("x", None, is_known=never) for _ in range(6))

    assert most == 2


async def test_too_many_waiting_passwords_are_refused_at_once(monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(users, "_is_of", lambda *_: go_on.wait(10))
    passwords = Passwords(parallel=1, waiting=1)

    async def verify() -> str:
        try:
            await passwords.verify("x", None, is_known=never)
        except QueueFull:
            go_on.set()
            return "refused"
        return "checked"

    outcomes = await run_all(verify() for _ in range(3))

    assert outcomes == ["checked", "checked", "refused"]
    passwords.close()


async def test_a_password_that_became_known_while_waiting_is_not_checked_again(
    passwords, monkeypatch
):
    monkeypatch.setattr(users, "_is_of", lambda *_: pytest.fail("checked"))

    assert await passwords.verify("x", user_with("any"), is_known=lambda: True)


async def test_a_cancelled_check_frees_its_place():
    passwords = Passwords(parallel=1, waiting=0)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await passwords.verify("x", None, is_known=never)

    assert not await passwords.verify("x", None, is_known=never)
    passwords.close()


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (PutUser("ann", [], password="12345"), "passwords must be at least [6] characters long"),
        (PutUser("ann", [], password="x" * 1025), "passwords must be at most [1024] characters"),
        (PutUser("ann", None, password="123456"), "roles are missing"),
        (PutUser("ann", []), "password must be specified unless you are updating an existing user"),
        (PutUser("ann", [], password="123456", password_hash="x"), "only one of [password"),
        (PutUser(" ann", [], password="123456"), "User names must be at least [1]"),
        (PutUser("a" * 508, [], password="123456"), "User names must be at least [1]"),
        (PutUser("ann", [], password="123456", metadata={"_a": 1}), "metadata keys may not start"),
    ],
)
def test_a_user_that_breaks_a_rule_is_refused(asked, problem):
    with pytest.raises(InvalidRequest) as refused:
        check_new_user(asked, is_new=True)

    assert problem in str(refused.value)


def test_an_existing_user_needs_no_password():
    check_new_user(PutUser("ann", []), is_new=False)


async def test_a_hash_of_another_program_is_taken_if_it_is_argon2id(passwords):
    check_foreign_hash(await passwords.hash("s3cret-pass"))


@pytest.mark.parametrize(
    "foreign",
    [
        "plain",
        "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        "$argon2i$v=19$m=19456,t=2,p=1$KioqKioqKioqKioqKioqKg$MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw",
        "$argon2id$v=19$m=4194304,t=2,p=1$KioqKioqKioqKioqKioqKg$MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw",
        "$argon2id$v=19$m=19456,t=99,p=1$KioqKioqKioqKioqKioqKg$MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw",
    ],
)
def test_a_hash_that_is_none_or_too_costly_is_refused(foreign):
    with pytest.raises(IllegalArgument):
        check_foreign_hash(foreign)


def test_a_password_does_not_show_in_the_repr_of_a_command():
    assert "s3cret" not in repr(PutUser("ann", [], password="s3cret-pass"))
