"""Write `docs/services/matrix.md` from a run: `python -m tests.services.matrix`.

A column is a kind of test of `test_matrix.py` and `test_service_faults.py`, a cell the tests of one
task of one service in it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from inferry.domain import TaskType
from tests.services.cases import SERVICES
from tests.services.offers import IN_REGION, OFFERS, RETRIED, SPLIT, STREAMED, Offer

Cell: TypeAlias = tuple[str, str]

TARGET = Path(__file__).parents[2] / "docs/services/matrix.md"
_FAULTS = "test_service_faults"


@dataclass(frozen=True, slots=True)
class Column:
    """What is tried. test: how its tests begin. offers: those that have it."""

    title: str
    test: str
    offers: Sequence[Offer] = tuple(OFFERS)


COLUMNS = (
    Column("PUT", "test_put"),
    Column("region", "test_region", IN_REGION),
    Column("infer", "test_infer"),
    Column("stream", "test_stream", STREAMED),
    Column("error rows", "test_error_row"),
    Column("retry", "test_retry", RETRIED),
    Column("limit", "test_limit"),
    Column("split", "test_split", SPLIT),
    Column("secret marker", "test_secret_marker"),
    Column("faults", _FAULTS),
)
CELLS = [(str(offer), column.title) for column in COLUMNS for offer in column.offers]
_ID = re.compile(r"(?P<file>test_\w+)\.py::(?P<test>\w+)\[(?P<cell>.+)\]$")
_HEAD = """# What is proven of every service

<!-- Written by `python -m tests.services.matrix` from a run; a test holds its cells. -->

Every task of every service is called at a provider on loopback that speaks its vendor's format.
`-`: not offered upstream (no stream, no limit of inputs per call, no region in its settings).

- **PUT**: the endpoint is created with one probe, what it measured is stored, no secret is
  answered; what is required and missing, and what is not known, is named.
- **region**: an endpoint outside the region policy is neither created nor probed.
- **infer**, **stream**: every input is answered in its place; a stream says what the whole answer
  says.
- **error rows**: each row of the service's table of statuses gives its words and its number of
  attempts.
- **retry**, **limit**: `Retry-After` is obeyed; the endpoints of one account share a rate limit.
- **split**: more inputs than a call takes; the order stays, only the part that failed is sent
  again.
- **secret marker**: a provider that echoes all it was sent; no secret in an error, a log line, a
  text.
- **faults**: connections that break, answers that are cut, stalled, empty, too large or no JSON,
  redirects, streams that break or fall silent, callers who leave.

The formats themselves are held against the SDKs of the vendors (`python -m tests.oracles` prints
with which), which proves them for those versions, not how a provider behaves today.
"""


class Collector:
    """A plugin of pytest that remembers the cells with a test that passed, and one that failed."""

    def __init__(self) -> None:
        self.passed: set[Cell] = set()
        self.failed: set[Cell] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a phase of a test ended."""
        cell = cell_of(report.nodeid)
        if cell is not None and (report.when == "call" or report.failed):
            (self.passed if report.passed else self.failed).add(cell)


def cell_of(nodeid: str) -> Cell | None:
    """Give the offer and the column of a test, None where it is of none."""
    match = _ID.search(nodeid)
    if match is None:
        return None
    names = sorted(map(str, OFFERS), key=len, reverse=True)  # one may be the end of another
    offer = next((name for name in names if name in match["cell"]), None)
    test = _FAULTS if match["file"] == _FAULTS else match["test"]
    title = next((column.title for column in COLUMNS if test.startswith(column.test)), None)
    return (offer, title) if offer and title else None


def table(passed: Container[Cell], failed: Container[Cell] = ()) -> str:
    """Give the page."""
    lines = [
        f"| service | task | {' | '.join(column.title for column in COLUMNS)} |",
        f"| --- | --- |{' :-: |' * len(COLUMNS)}",
    ]
    for offer in OFFERS:
        cells = [_shown((str(offer), column.title), passed, failed) for column in COLUMNS]
        name = offer.service.name
        lines.append(f"| [{name}]({name}.md) | {offer.task_type} | {' | '.join(cells)} |")
    absent = [
        f"- {name}: {', '.join(kind for kind in TaskType if kind not in service.tasks)}"
        for name, service in sorted(SERVICES.items())
        if service.auth is not None
    ]
    return "\n".join(
        [_HEAD, *lines, "", "Task types that are not offered upstream:", "", *absent, ""]
    )


def _shown(cell: Cell, passed: Container[Cell], failed: Container[Cell]) -> str:
    if cell in failed:
        return "**fails**"
    if cell in passed:
        return "passes"
    return "**no test**" if cell in CELLS else "-"


def main() -> int:
    """Run the tests of the matrix and write the page."""
    collector = Collector()
    files = [Path(__file__).parent / name for name in ("test_matrix.py", f"{_FAULTS}.py")]
    code = pytest.main(["-q", *map(str, files)], plugins=[collector])
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(table(collector.passed, collector.failed))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
