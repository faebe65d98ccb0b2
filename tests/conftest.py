"""What every test may rely on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.server import OF_THE_MACHINE

# The usual runs try the same examples every time; `make soak` looks for new ones, and longer.
settings.register_profile("short", derandomize=True, deadline=None, max_examples=100)
settings.register_profile("twenty_thousand", deadline=None, max_examples=1000)
settings.register_profile("soak", deadline=None, max_examples=5000)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path_factory) -> None:
    """Hide the machine's own settings: no variable and no home of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(OF_THE_MACHINE):
            monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Let no test log to the stream of a former one, which is closed by then."""
    yield
    structlog.reset_defaults()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip into a failure where `CI=true`."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr}"
