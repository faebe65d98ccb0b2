"""Write `docs/checklist.md` from a run: which rows of the wire's checklist pass, and which wait.

`python -m tests.wire.report`. A test says by its name which row it is for: `test_row_007_...`, or
`test_rows_185_186_...` for two.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROWS = 236
TARGET = Path(__file__).parents[2] / "docs" / "checklist.md"
_ROW = re.compile(r"test_rows?_((?:\d{3}_)+)(\w+)")
_HEAD = """# Checklist of the wire

One row per behaviour that a client of the Elasticsearch Inference API can observe. Written by
`python -m tests.wire.report` from a run against a real server, with one API process and with two.

| row | behaviour | result |
| ---: | --- | --- |
"""


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

    def __init__(self) -> None:
        self.rows = {number: Row() for number in range(1, ROWS + 1)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a phase of a test ended."""
        match = _ROW.match(report.nodeid.rpartition("::")[2])
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


def table(rows: dict[int, Row]) -> str:
    """Give the whole page."""
    lines = [
        f"| {number} | {'; '.join(row.behaviours)} | {row.result} |" for number, row in rows.items()
    ]
    results = [row.result for row in rows.values()]
    passing = results.count("passes")
    waiting = sum(result.startswith("waits") for result in results)
    rest = len(results) - passing - waiting
    summary = f"{passing} rows pass, {waiting} wait for what is not here yet, {rest} neither.\n"
    return f"{_HEAD}{chr(10).join(lines)}\n\n{summary}"


def main() -> int:
    """Run every test of a row and write the page."""
    collector = Collector()
    code = pytest.main(["-q", "-k", "test_row", "tests"], plugins=[collector])
    TARGET.write_text(table(collector.rows))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
