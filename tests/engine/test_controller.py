"""Allocations follow the load, in simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.engine.controller import Bounds, Controller, Estimate, Work
from tests.engine.loads import RATES, TICKS, Simulated
from tests.engine.reference_scaler import reference_run

INTERVAL_S = 10.0


def controlled(ticks, bounds: Bounds, allocations: int = 1) -> list[int]:
    controller = Controller(bounds)
    chosen = []
    for tick in ticks:
        work = Work(*tick(allocations))
        allocations = controller.next_allocations(allocations, work, INTERVAL_S)
        chosen.append(allocations)
    return chosen


def steady(per_tick: int, *, time_s: float = 0.1, ticks: int = 60):
    return [lambda _: (per_tick, 0, 0, time_s if per_tick else None)] * ticks


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(("least", "most"), [(0, 32), (None, None), (2, 6)])
def test_local_row_006_an_hour_of_load_is_followed_as_elasticsearch_does(name, least, most):
    ours = controlled(Simulated(RATES[name]).ticks(), Bounds(least, most))
    expected = reference_run(Simulated(RATES[name]).ticks(), minimum=least, maximum=most)

    assert len(ours) == TICKS
    assert ours == expected


@given(
    st.lists(
        st.tuples(
            st.integers(-5, 400), st.integers(-50, 50), st.integers(0, 9), st.floats(0.001, 5)
        ),
        max_size=80,
    ),
    st.sampled_from([(0, 32), (None, None), (1, 1), (0, 3), (4, 40)]),
)
def test_local_row_006_whatever_the_counters_say_it_decides_as_elasticsearch_does(counters, bounds):
    least, most = bounds
    ticks = [lambda _, one=one: one for one in counters]

    assert controlled(ticks, Bounds(least, most)) == reference_run(
        ticks, minimum=least, maximum=most
    )


def test_what_is_busy_all_the_time_gets_more():
    assert controlled(steady(400), Bounds())[-1] == 5  # a load of four, busy for at most 0.9


def test_what_is_idle_has_one_and_then_none():
    chosen = controlled(steady(0, ticks=100), Bounds(0, 32))

    assert chosen[:90] == [1] * 90
    assert chosen[90:] == [0] * 10


def test_with_a_minimum_it_never_has_none():
    assert set(controlled(steady(0, ticks=200), Bounds(1, 32))) == {1}


def test_after_a_step_up_it_does_not_step_down_for_five_minutes():
    chosen = controlled(steady(1, ticks=5) + steady(400, ticks=5) + steady(1, ticks=60), Bounds())

    up = max(at for at in range(1, 70) if chosen[at] > chosen[at - 1])
    down = min(at for at in range(1, 70) if chosen[at] < chosen[at - 1])
    assert down - up == 30


def test_a_start_from_zero_counts_as_a_step_up():
    controller = Controller(Bounds(0, 32))
    for _ in range(100):
        controller.next_allocations(0, Work(0, 0, 0, None), INTERVAL_S)

    controller.note_start()

    nothing = [controller.next_allocations(1, Work(0, 0, 0, None), INTERVAL_S) for _ in range(91)]
    assert nothing == [1] * 90 + [0]


def test_an_estimate_follows_a_change_at_once_where_it_looks_for_them():
    looking, trusting = Estimate(finds_changes=True), Estimate(finds_changes=False)
    for estimate in (looking, trusting):
        for value in [1.0] * 50 + [100.0] * 2:
            estimate.add(value, 0.1)

    assert looking.value == pytest.approx(100, abs=1)
    assert trusting.value is not None
    assert trusting.value < 90
