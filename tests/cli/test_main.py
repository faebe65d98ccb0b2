"""The command tree as a whole: start-up, usage, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inferry import __version__


def test_the_version_is_printed(inferry):
    ran = inferry("--version")

    assert ran.out == f"inferry {__version__}\n"
    assert ran.exit_code == 0


@pytest.mark.parametrize("group", ["endpoints", "models", "keys", "users", "config"])
def test_a_group_without_a_command_shows_its_help(inferry, group):
    ran = inferry(group)

    assert "Usage: inferry" in ran.out + ran.err
    assert ran.exit_code == 2


def test_an_unknown_command_is_a_usage_error(inferry):
    assert inferry("fly").exit_code == 2


def test_help_imports_nothing_heavy():
    heavy = ("rich", "aiohttp", "sqlalchemy", "numpy", "msgspec", "http.client", "uvicorn")
    program = (
        "import sys; from inferry.cli import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print([m for m in {heavy} if m in sys.modules])"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_configuration_that_cannot_be_used_is_a_usage_error(inferry, monkeypatch):
    monkeypatch.setenv("INFERRY_SERVER__PROT", "1")

    ran = inferry("serve")

    assert ran.exit_code == 2
    assert "did you mean [server.port]?" in ran.err


def test_without_authentication_another_address_than_loopback_is_refused(inferry):
    ran = inferry("serve", "--no-auth", "--host", "192.0.2.1")

    assert ran.exit_code == 2
    assert "loopback only" in ran.err
