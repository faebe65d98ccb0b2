"""Adaptive allocations over five hours of load in simulated time, drawn as they follow it.

The traces are those of the tests, where every step is held to a second implementation, written
line by line from the description of Elasticsearch's. Writes `docs/adaptive-allocations.svg`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.processes import ROOT
from bench.report import Plan, Table
from inferry.engine.controller import Bounds, Controller, Work
from tests.engine.loads import RATES, TICKS, Simulated
from tests.engine.reference_scaler import reference_run

_PICTURE = ROOT / "docs/adaptive-allocations.svg"
_LEAST, _MOST = 0, 32
_TICK_S = 10.0
_WIDTH, _HEIGHT, _GAP, _LEFT = 640, 84, 34, 8


@dataclass(frozen=True)
class Hour:
    """A trace, a value per tick. rates: texts a second that come."""

    name: str
    rates: Sequence[float]
    allocations: Sequence[int]
    expected: Sequence[int]


def measure_scaling(plan: Plan) -> list[Table]:
    """Let a controller follow every trace, beside the reference run; and draw them."""
    hours = [_hour(name) for name in RATES]
    _PICTURE.write_text(draw(hours))
    table = Table(
        f"Adaptive allocations, {_LEAST} to {_MOST}, an hour each, drawn in {_PICTURE.name};"
        " ratios are of ticks that equal the reference run's"
    )
    for hour in hours:
        equal = sum(map(int.__eq__, hour.allocations, hour.expected)) / TICKS
        steps = sum(map(int.__ne__, hour.allocations, hour.allocations[1:]))
        figure = f"{min(hour.allocations)} to {max(hour.allocations)} allocations, {steps} changes"
        table.add(hour.name, figure, ratio=equal, floor=1.0, goal=1.0)
    return [table]


def _hour(name: str) -> Hour:
    controller, allocations = Controller(Bounds(_LEAST, _MOST)), 1
    chosen = []
    for tick in Simulated(RATES[name]).ticks():
        work = Work(*tick(allocations))
        allocations = controller.next_allocations(allocations, work, _TICK_S)
        chosen.append(allocations)
    expected = reference_run(Simulated(RATES[name]).ticks(), minimum=_LEAST, maximum=_MOST)
    rates = [RATES[name](number * _TICK_S) for number in range(TICKS)]
    return Hour(name, rates, chosen, expected)


def draw(hours: Sequence[Hour]) -> str:
    """Give a picture as SVG: a strip per trace, load as an area, allocations as lines over it."""
    height = len(hours) * (_HEIGHT + _GAP) + 14
    strips = "\n".join(
        _strip(hour, place * (_HEIGHT + _GAP) + 22) for place, hour in enumerate(hours)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 2 * _LEFT} {height}"'
        ' font-family="sans-serif" font-size="11">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{strips}\n</svg>\n'
    )


def _strip(hour: Hour, top: int) -> str:
    bottom = top + _HEIGHT
    most_texts, most = max(hour.rates), max(*hour.allocations, *hour.expected)
    area = _points(hour.rates, most_texts, bottom)
    ours, reference = (_points(one, most, bottom) for one in (hour.allocations, hour.expected))
    right = _LEFT + _WIDTH
    return (
        f'<text x="{_LEFT}" y="{top - 6}"><tspan font-weight="bold">{hour.name}</tspan>:'
        f" up to {most_texts:.0f} texts a second (grey), up to {most} allocations (blue;"
        " the reference run is dashed over it)</text>\n"
        f'<polygon points="{_LEFT},{bottom} {area} {right},{bottom}" fill="#ddd"/>\n'
        f'<polyline points="{ours}" fill="none" stroke="#1769aa" stroke-width="2.4"/>\n'
        f'<polyline points="{reference}" fill="none" stroke="#ff9d00" stroke-dasharray="3 5"/>\n'
        f'<path d="M{_LEFT} {bottom}H{right}" stroke="#888"/>'
    )


def _points(values: Sequence[float], most: float, bottom: int) -> str:
    """Give a line of steps, the largest value at the top of its strip."""
    points = []
    for number, value in enumerate(values):
        y = bottom - value / most * _HEIGHT
        edges = (_LEFT + edge / len(values) * _WIDTH for edge in (number, number + 1))
        points += [f"{x:.1f},{y:.1f}" for x in edges]
    return " ".join(_without_middles(points))


def _without_middles(points: Sequence[str]) -> list[str]:
    """Leave out the points between two others of the same height."""
    heights = [point.rpartition(",")[2] for point in points]
    last = len(points) - 1
    return [
        point
        for place, point in enumerate(points)
        if place in (0, last) or not heights[place - 1] == heights[place] == heights[place + 1]
    ]
