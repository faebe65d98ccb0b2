"""What is published installs into an empty environment and serves there, with authentication on."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """Build wheel and source distribution."""
    folder: Path = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory) -> Path:
    """Install the wheel, as the image does, and give the folder of its programs.

    What it needs comes from the lock alone, each file compared with its hash.
    """
    folder: Path = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin/python"), "-m", "pip"]
    (wheel,) = dist.glob("*.whl")
    lock = ROOT / "requirements" / "base.lock"
    for arguments in (
        ["install", "--quiet", "--require-hashes", "-r", str(lock)],
        ["install", "--quiet", "--no-deps", str(wheel)],
        ["check"],
    ):
        subprocess.run([*pip, *arguments], check=True, capture_output=True)
    return folder / "bin"


def test_the_wheel_holds_types_licence_and_migrations(dist):
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert "inferry/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.startswith("inferry/store/migrations/versions/") for name in names)


def test_the_source_distribution_holds_the_tests_and_no_environment(dist):
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = files.getnames()

    assert any(name.endswith("tests/test_packaging.py") for name in names)
    assert not [name for name in names if "node_modules" in name or "/.venv" in name]


@pytest.fixture
def served(installed, tmp_path) -> Iterator[tuple[str, dict[str, str]]]:
    """Start the installed server; give what it printed and the environment it runs in."""
    environment = {"PATH": f"{installed}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    with subprocess.Popen(
        [installed / "inferry", "serve", "--port", "0"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            printed = ""
            for line in process.stdout:
                printed += line
                if line.lstrip().startswith("curl "):
                    break
            yield printed, environment
        finally:
            process.terminate()


def test_the_installed_server_serves_with_authentication_on(served):
    printed, environment = served
    curl = printed.splitlines()[-1].strip()
    url = curl.split()[-1]

    answer = subprocess.run(
        ["sh", "-c", f"{curl} -sf"], env=environment, capture_output=True, text=True, check=False
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url)
    refused.value.close()

    assert "elastic" in printed
    assert answer.stdout.startswith("[{")
    assert refused.value.code == 401
