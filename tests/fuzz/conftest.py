"""Tells at the end how many requests were generated, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

FIGURES = pytest.StashKey[dict[str, Mapping[object, int]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin without figures."""
    config.stash[FIGURES] = {}


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> dict[str, Mapping[object, int]]:
    """Give where a test puts its counts under a name of its own."""
    return request.config.stash[FIGURES]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the counts, and their sum."""
    found = config.stash[FIGURES]
    if not found:
        return
    terminalreporter.section("generated requests")
    for name, counts in found.items():
        shown = ", ".join(f"{key}: {count}" for key, count in sorted(counts.items(), key=str))
        terminalreporter.line(f"{name} ({sum(counts.values())}): {shown}")
    total = sum((Counter(counts) for counts in found.values()), Counter()).total()
    terminalreporter.line(f"together: {total}")
