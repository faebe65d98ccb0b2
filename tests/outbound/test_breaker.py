"""A provider that fails every call is left alone for a while."""

from __future__ import annotations

from inferry.outbound.breaker import Breaker


def broken(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(10):
        assert breaker.blocked_s(now) == 0
        breaker.failed(now)
    return breaker


def test_ten_failures_in_a_row_open_it() -> None:
    assert broken().blocked_s(1.0) == 4.0


def test_a_success_between_failures_starts_the_count_anew() -> None:
    breaker = Breaker()

    for _ in range(3):
        for _ in range(9):
            breaker.failed(0.0)
        breaker.succeeded()

    assert breaker.blocked_s(0.0) == 0


def test_after_the_pause_one_call_tries_while_the_others_wait() -> None:
    breaker = broken()

    assert breaker.blocked_s(5.0) == 0
    assert breaker.blocked_s(5.0) == 5.0


def test_a_good_try_closes_it() -> None:
    breaker = broken()
    breaker.blocked_s(5.0)

    breaker.succeeded()

    assert breaker.blocked_s(5.0) == 0


def test_every_failed_try_doubles_the_pause_up_to_a_minute() -> None:
    breaker, now, pauses = broken(), 5.0, []

    for _ in range(6):
        assert breaker.blocked_s(now) == 0
        breaker.failed(now)
        pauses.append(breaker.blocked_s(now))
        now += pauses[-1]

    assert pauses == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
