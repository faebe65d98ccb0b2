"""Pauses between attempts, and how many there may be."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from inferry.outbound.retry import RetryBudget, RetryPolicy, retry_after_s

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("attempt", "shortest", "longest"), [(1, 1.0, 2.0), (2, 2.0, 4.0), (3, 4.0, 5.0), (9, 5.0, 5.0)]
)
def test_pauses_double_from_one_to_five_seconds(attempt, shortest, longest) -> None:
    policy = RetryPolicy()

    assert policy.delay_s(attempt, 0.0) == shortest
    assert policy.delay_s(attempt, 1.0) == longest


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("nan", None), ("inf", None)],
)
def test_retry_after_is_read_as_seconds(value, seconds) -> None:
    assert retry_after_s({"retry-after": value}, NOW) == seconds


def test_retry_after_is_read_as_a_date() -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + 9, UTC), usegmt=True)

    assert retry_after_s({"retry-after": date}, NOW) == 9.0
    assert retry_after_s({"retry-after": date}, NOW + 60) == 0.0
    assert retry_after_s({"retry-after": date.replace("GMT", "-0000")}, NOW) == 9.0


def test_without_the_header_there_is_no_retry_after() -> None:
    assert retry_after_s({}, NOW) is None


def test_a_budget_runs_out_and_fills_with_time_and_good_calls() -> None:
    budget = RetryBudget(0.0, capacity=2.0)

    assert [budget.spend(0.0) for _ in range(3)] == [True, True, False]
    assert budget.spend(1.0)
    assert not budget.spend(1.0)
    for _ in range(5):
        budget.earn()
    assert budget.spend(1.0)
