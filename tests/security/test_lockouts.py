"""Failed logins: how many there may be in a minute, whom they concern, and what they cost."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Sequence

import pytest

from inferry.commands import NoteFailedLogin
from inferry.concurrency import run_all
from inferry.errors import LockedOut, NotAuthenticated
from inferry.records import Change
from inferry.security import users
from inferry.security.gate import Principal
from inferry.security.lockouts import (
    MAX_FAILURES,
    MAX_PAIRS,
    WINDOW_S,
    FailedLogins,
    Lockouts,
    pair_of,
)

URI = "/"
HERE, THERE = "192.0.2.1", "192.0.2.2"
RIGHT, WRONG = "s3cret-pass", "wrong-pass"


@pytest.fixture(autouse=True)
def hashes(monkeypatch) -> list[str]:
    """Compare passwords without slow hashes, and list those that were looked at."""
    looked_at: list[str] = []

    def is_of(password: str, stored: str) -> bool:
        looked_at.append(password)
        return password == RIGHT and stored != users.NOBODY_HASH

    monkeypatch.setattr(users, "_is_of", is_of)
    return looked_at


def headers_of(username: str, password: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
    return {"authorization": f"Basic {encoded}"}


async def enter(house, password: str, *, user: str = "ann", address: str = HERE) -> Principal:
    principal: Principal = await house.gate.authenticate(
        headers_of(user, password), URI, address=address
    )
    return principal


async def fail(house, times: int, *, user: str = "ann", address: str = HERE) -> list[type]:
    """Try wrong passwords one after the other and give what each met."""
    met: list[type] = []
    for _ in range(times):
        with pytest.raises((NotAuthenticated, LockedOut)) as refused:
            await enter(house, WRONG, user=user, address=address)
        met.append(type(refused.value))
    return met


async def test_from_the_hundredth_failure_on_the_answer_is_to_wait(house):
    await house.add_user("ann")

    met = await fail(house, MAX_FAILURES + 1)

    assert met == [NotAuthenticated] * (MAX_FAILURES - 1) + [LockedOut] * 2


async def test_the_right_password_is_taken_after_ninety_nine_failures(house):
    await house.add_user("ann")
    await fail(house, MAX_FAILURES - 1)

    assert (await enter(house, RIGHT)).username == "ann"


async def test_nothing_is_hashed_for_a_pair_that_is_locked_out(house, hashes):
    await house.add_user("ann")
    await fail(house, MAX_FAILURES)
    hashes.clear()

    with pytest.raises(LockedOut) as refused:
        await enter(house, RIGHT)

    assert hashes == []
    assert refused.value.retry_after_s == WINDOW_S
    assert str(refused.value) == (
        "too many failed attempts to authenticate user [ann] from [192.0.2.1], try again in [60s]"
    )


async def test_a_lockout_ends_with_the_minute_in_which_the_failures_were(house):
    await house.add_user("ann")
    await fail(house, MAX_FAILURES // 2)
    house.clock.now_s += 20
    await fail(house, MAX_FAILURES // 2)

    house.clock.now_s += 39
    with pytest.raises(LockedOut) as refused:
        await enter(house, RIGHT)
    house.clock.now_s += 1

    assert refused.value.retry_after_s == 1
    assert (await enter(house, RIGHT)).username == "ann"


async def test_failures_of_any_minute_count_not_of_the_clock_s(house):
    await house.add_user("ann")
    await fail(house, MAX_FAILURES - 1)
    house.clock.now_s += WINDOW_S - 1

    assert await fail(house, 1) == [LockedOut]


async def test_slow_failures_lock_nobody_out(house):
    await house.add_user("ann")

    for _ in range(5):
        assert LockedOut not in await fail(house, MAX_FAILURES - 1)
        house.clock.now_s += WINDOW_S


async def test_another_address_and_another_user_still_enter(house):
    await house.add_user("ann")
    await house.add_user("bob")
    await fail(house, MAX_FAILURES)

    assert (await enter(house, RIGHT, address=THERE)).username == "ann"
    assert (await enter(house, RIGHT, user="bob")).username == "bob"


async def test_users_that_do_not_exist_are_locked_out_in_the_same_way(house):
    met = await fail(house, MAX_FAILURES, user="nobody")

    assert met == [NotAuthenticated] * (MAX_FAILURES - 1) + [LockedOut]


async def test_a_remembered_login_does_not_let_a_locked_out_pair_guess_on(house):
    await house.add_user("ann")
    await enter(house, RIGHT)
    login = house.gate.recall(headers_of("ann", RIGHT))
    assert house.gate.holds(login)
    await fail(house, MAX_FAILURES)

    assert not house.gate.holds(login)
    assert house.gate.recall(headers_of("ann", RIGHT)) is None
    with pytest.raises(LockedOut):
        await enter(house, RIGHT)
    assert (await enter(house, RIGHT, address=THERE)).username == "ann"


async def test_api_keys_are_not_throttled(house):
    await house.add_user("ann")
    key = {"authorization": f"ApiKey {await house.add_key('ann')}"}
    wrong = {"authorization": "ApiKey " + base64.b64encode(b"id:wrong").decode()}
    await fail(house, MAX_FAILURES)

    for _ in range(2 * MAX_FAILURES):
        with pytest.raises(NotAuthenticated):
            await house.gate.authenticate(wrong, URI, address=HERE)

    assert (await house.gate.authenticate(key, URI, address=HERE)).username == "ann"
    assert house.gate.recall(key) is not None


async def test_failures_at_once_are_counted_each(house, hashes):
    await house.add_user("ann")

    async def attempt() -> type:
        try:
            await enter(house, WRONG)
        except (NotAuthenticated, LockedOut) as refused:
            return type(refused)
        return Principal

    met = await run_all(attempt() for _ in range(4 * MAX_FAILURES))

    assert met.count(NotAuthenticated) == MAX_FAILURES - 1
    assert len(hashes) < MAX_FAILURES + 4  # those that were under way may still end


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),  # one subscriber
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_addresses_that_one_client_can_choose_from_count_as_one(one, other):
    assert pair_of("ann", one) == pair_of("ann", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ann", "192.0.2.1"), ("ann", "192.0.2.2")),
        (("ann", "2001:db8::1"), ("ann", "2001:db8:0:1::1")),
        (("ann", "192.0.2.1"), ("Ann", "192.0.2.1")),
        (("ann", ""), ("ann", "unknown")),
    ],
)
def test_other_users_and_networks_count_apart(one, other):
    assert pair_of(*one) != pair_of(*other)


async def test_a_process_that_starts_learns_who_is_locked_out(house):
    await house.add_user("ann")
    await fail(house, MAX_FAILURES)

    found = [(record.pair, record.until_s) for record in house.logins.records()]

    assert found == [(pair_of("ann", HERE), house.clock.now_s + WINDOW_S)]
    house.clock.now_s += WINDOW_S
    assert list(house.logins.records()) == []
    assert not house.lockouts


@pytest.mark.parametrize("pairs", [5 * MAX_PAIRS, pytest.param(1_000_000, marks=pytest.mark.soak)])
async def test_any_number_of_pairs_takes_bounded_memory(pairs):
    async def nobody(changes: Sequence[Change]) -> None:
        raise AssertionError(changes)

    logins = FailedLogins(nobody, monotonic=lambda: 0.0)
    tracemalloc.start()
    try:
        for number in range(pairs):
            await logins.note(NoteFailedLogin(number.to_bytes(16)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(logins._failures) == MAX_PAIRS
    assert held < 10_000_000


def test_what_is_over_is_forgotten():
    now = 0.0
    lockouts = Lockouts(monotonic=lambda: now)
    assert not lockouts
    assert lockouts.left_s(b"nobody") == 0
