"""Write the checklists from a run: which rows pass, and which wait.

`python -m tests.wire.report [wire] [local]` writes `docs/checklist.md` and
`docs/local-checklist.md`. A test says by its name which row it is for: `test_row_007_...` of the
wire, `test_rows_185_186_...` for two, `test_local_row_007_...` of local models.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Checklist:
    """A page. rows: their number. names: of its tests. waits: rows of what is not here yet."""

    page: str
    head: str
    rows: int
    names: str
    waits: Mapping[int, str] = field(default_factory=dict)

    @property
    def pattern(self) -> re.Pattern[str]:
        """Find the rows and the behaviour in the name of a test."""
        return re.compile(rf"{self.names}s?_((?:\d{{3}}_)+)(\w+)")


CHECKLISTS = {
    "wire": Checklist(
        "checklist.md",
        "# Checklist of the wire\n\n"
        "One row per behaviour that a client of the Elasticsearch Inference API can observe."
        " Written by\n`python -m tests.wire.report` from a run against a real server, with one API"
        " process and with two.\n",
        236,
        "test_row",
    ),
    "local": Checklist(
        "local-checklist.md",
        "# Checklist of local models\n\n"
        "What built-in, uploaded and local models have to do, and the tests that hold it. Written"
        " by\n`python -m tests.wire.report` from a run of all suites, with the real `eland`, with"
        " PyTorch and\nsentence-transformers as references.\n",
        13,
        "test_local_row",
        waits={8: "waits for chunking"},
    ),
}


@dataclass
class Row:
    """What the run said about a row. waits: for what, where the tests still must fail."""

    behaviours: list[str] = field(default_factory=list)
    passed: int = 0
    failed: int = 0
    waits: list[str] = field(default_factory=list)

    @property
    def result(self) -> str:
        """Say how it ended, the worst first."""
        if self.failed:
            return "**fails**"
        if self.waits:
            return ", ".join(dict.fromkeys(self.waits))
        return "passes" if self.passed else "no test"


class Collector:
    """A plugin of pytest that remembers the outcome of every test with a row in its name."""

    def __init__(self, checklist: Checklist) -> None:
        self.checklist = checklist
        self.rows = {number: Row() for number in range(1, checklist.rows + 1)}
        for number, reason in checklist.waits.items():
            self.rows[number].waits.append(reason)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a phase of a test ended."""
        match = self.checklist.pattern.match(report.nodeid.rpartition("::")[2])
        if match is None or (report.when != "call" and report.passed):
            return
        for number in map(int, match[1].strip("_").split("_")):
            self._note(self.rows[number], match[2].replace("_", " "), report)

    def _note(self, row: Row, behaviour: str, report: pytest.TestReport) -> None:
        if behaviour not in row.behaviours:
            row.behaviours.append(behaviour)
        reason = getattr(report, "wasxfail", None)
        if reason is not None and report.skipped:
            row.waits.append(reason)
        elif report.passed:
            row.passed += 1
        else:
            row.failed += 1


def table(checklist: Checklist, rows: Mapping[int, Row]) -> str:
    """Give the whole page."""
    lines = [
        f"| {number} | {'; '.join(row.behaviours)} | {row.result} |" for number, row in rows.items()
    ]
    results = [row.result for row in rows.values()]
    passing = results.count("passes")
    waiting = sum(result.startswith("waits") for result in results)
    rest = len(results) - passing - waiting
    columns = "| row | behaviour | result |\n| ---: | --- | --- |\n"
    summary = f"{passing} rows pass, {waiting} wait for what is not here yet, {rest} neither.\n"
    return f"{checklist.head}\n{columns}{chr(10).join(lines)}\n\n{summary}"


def main() -> int:
    """Run every test of a row and write the pages."""
    parser = argparse.ArgumentParser(prog="python -m tests.wire.report", description=__doc__)
    parser.add_argument("lists", nargs="*", choices=[*CHECKLISTS], help="default: both")
    chosen = parser.parse_args().lists or list(CHECKLISTS)
    collectors = [Collector(CHECKLISTS[name]) for name in chosen]
    names = " or ".join(one.checklist.names for one in collectors)
    code = pytest.main(["-q", "-k", names, "-m", "not soak", "tests"], plugins=collectors)
    for one in collectors:
        (_DOCS / one.checklist.page).write_text(table(one.checklist, one.rows))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
