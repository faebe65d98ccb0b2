"""Services come from this package and from installed ones; a broken package harms nobody else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from inferry.services.catalog import GROUP, load_services, services_of
from inferry.services.openai import SERVICE


def entry(value: str, name: str = "acme") -> EntryPoint:
    return EntryPoint(name, value, GROUP)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Make the module `acme_services` importable, with the given text."""

    def make(text: str) -> None:
        (tmp_path / "acme_services.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "acme_services", raising=False)

    return make


def test_the_built_in_services_are_there_in_order():
    names = list(load_services())

    assert {"elasticsearch", "elser", "openai"} <= set(names)
    assert names == sorted(names)


def test_a_package_adds_a_service(package):
    package(
        "from dataclasses import replace\n"
        "from inferry.services.openai import SERVICE\n"
        "ACME = replace(SERVICE, name='acme')\n"
    )

    assert services_of([entry("acme_services:ACME")]) == {"acme": replace(SERVICE, name="acme")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("OTHER = 1", "has no attribute 'ACME'"),
        ("ACME = 1", "it is no Service"),
        ("from inferry.services.openai import SERVICE as ACME", "the name [openai] is taken"),
    ],
)
def test_a_package_that_is_broken_is_logged_and_left_out(package, capsys, text, reason):
    package(text)

    found = services_of([entry("acme_services:ACME")], taken=frozenset({"openai"}))

    assert found == {}
    logged = capsys.readouterr()
    assert "service left out" in logged.out + logged.err
    assert reason in logged.out + logged.err


def test_loading_the_services_imports_nothing_heavy():
    code = (
        "import sys; from inferry.services.catalog import load_services; load_services();"
        "heavy = {'numpy', 'orjson', 'aiohttp', 'structlog', 'botocore', 'cryptography'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
