"""What is installed in production is known to the byte, and may do there no more than it needs.

Locks are made by `make lock`, for every platform and Python at once.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # of schemathesis
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
_HASH = re.compile(r" --hash=sha256:[0-9a-f]{64}")

# By these, data becomes code.
_RUNS_DATA = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


@dataclass(frozen=True, slots=True)
class Locked:
    """A line of a lock."""

    requirement: Requirement
    hashes: int

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        (pinned,) = self.requirement.specifier
        assert pinned.operator == "==", self.requirement
        return pinned.version


@cache
def locked(name: str) -> tuple[Locked, ...]:
    """Read a lock."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(
        Locked(Requirement(_HASH.sub("", line)), len(_HASH.findall(line))) for line in lines
    )


def wanted(name: str) -> Iterator[Requirement]:
    """Give what a lock has to hold at least."""
    if name == "build":
        yield from map(Requirement, PROJECT["build-system"]["requires"])
        return
    yield from map(Requirement, PROJECT["project"]["dependencies"])
    yield from map(Requirement, EXTRAS.get(name, []))


every_lock = pytest.mark.parametrize("name", ["base", "build", *EXTRAS])


@every_lock
def test_a_lock_fits_what_the_project_asks_for(name):
    versions = defaultdict(list)
    for one in locked(name):
        versions[one.name].append(one.version)

    missing = [
        str(requirement)
        for requirement in wanted(name)
        if not versions[canonicalize_name(requirement.name)]
        or not all(
            map(requirement.specifier.contains, versions[canonicalize_name(requirement.name)])
        )
    ]

    assert not missing, "say `make lock`"


@every_lock
def test_everything_in_a_lock_has_a_version_and_hashes(name):
    assert all(one.version and one.hashes and not one.requirement.url for one in locked(name))


def test_locks_can_be_installed_beside_each_other():
    versions = defaultdict(set)
    for name in ("base", *EXTRAS):
        for one in locked(name):
            versions[one.name, str(one.requirement.marker)].add(one.version)

    assert not {place: found for place, found in versions.items() if len(found) > 1}


def test_what_builds_the_packages_is_what_is_locked_for_it():
    assert PROJECT["dependency-groups"]["build"] == PROJECT["build-system"]["requires"]


# --- what runs -----------------------------------------------------------------------------------


def test_no_module_turns_data_into_code():
    found = [
        f"{file.relative_to(ROOT)}: {ast.unparse(node)}"
        for file in sorted((ROOT / "src").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if _turns_data_into_code(node)
    ]

    assert not found


def _turns_data_into_code(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(alias.name.split(".")[0] in _RUNS_DATA for alias in names)
        case ast.ImportFrom(module=str(module)):
            return module.split(".")[0] in _RUNS_DATA
        case ast.Call(func=ast.Name(id="eval" | "exec" | "compile")):
            return True
        case ast.keyword(arg="trust_remote_code"):
            return True
        case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
            return True
        case ast.keyword(arg="weights_only", value=ast.Constant(value=False)):
            return True
    return False


# --- where it runs -------------------------------------------------------------------------------


@pytest.fixture
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return dict(services["inferry"])


def test_a_container_is_read_only_without_rights_and_on_loopback(compose):
    assert compose["read_only"] is True
    assert compose["cap_drop"] == ["ALL"]
    assert "cap_add" not in compose
    assert compose["security_opt"] == ["no-new-privileges:true"]
    assert compose["user"] == "65532:65532"
    assert compose["pids_limit"]
    assert compose["mem_limit"]
    assert all(port.startswith("127.0.0.1:") for port in compose["ports"])


def test_a_container_gets_secrets_as_files_and_never_as_variables(compose):
    given = compose["environment"]

    secret = [name for name in given if re.search("PASSWORD|KEY|TOKEN|SECRET", name)]

    assert secret
    assert all(given[name].startswith("/run/secrets/") for name in secret)


def test_an_image_installs_by_hash_and_runs_as_nobody():
    stages = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")
    installs = re.findall(r"pip [^&\n]*install [^&]*", stages[1].replace("\\\n", ""))

    assert len(stages) == 3
    assert all("--require-hashes" in one or "--no-deps" in one for one in installs)
    assert "pip uninstall" in stages[2]
    assert re.search(r"^USER 65532:65532$", stages[2], re.MULTILINE)
    assert not re.search(r"^ADD |apt-get|curl|wget", stages[2], re.MULTILINE)


@pytest.mark.parametrize(
    "setting",
    [
        *("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes"),
        *("PrivateDevices=yes", "CapabilityBoundingSet=", "RestrictNamespaces=yes"),
        *("StateDirectoryMode=0700", "LimitCORE=0", "SystemCallFilter=@system-service"),
    ],
)
def test_a_service_of_systemd_is_held_down(setting):
    assert setting in (DEPLOY / "inferry.service").read_text().splitlines()


def test_a_service_of_systemd_may_confine_its_workers():
    """Under a filter of its own, the calls that make another have to be let through."""
    unit = (DEPLOY / "inferry.service").read_text()
    allowed = re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE)[1].split()

    assert {"seccomp", "landlock_create_ruleset", "landlock_restrict_self"} <= set(allowed)
    assert not re.search("^(MemoryDenyWriteExecute|ProcSubset)=", unit, re.MULTILINE)
