"""How much memory a worker may have where nobody says it."""

from __future__ import annotations

import pytest

from inferry.engine import footprint
from inferry.engine.footprint import usual_memory_limit

MIB = 1024 * 1024


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Be a machine of 8 GiB; gives the directory of its control groups."""
    (tmp_path / "meminfo").write_text("MemTotal:        8388608 kB\nMemFree:  100 kB\n")
    (tmp_path / "own").write_text("0::/outer/inner\n")
    groups = tmp_path / "cgroup"
    (groups / "outer" / "inner").mkdir(parents=True)
    monkeypatch.setattr(footprint, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(footprint, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(footprint, "_GROUPS", groups)
    return groups


def test_it_is_three_quarters_of_the_machine(machine):
    (machine / "outer" / "memory.max").write_text("max\n")

    assert usual_memory_limit() == 6144 * MIB


@pytest.mark.parametrize("group", ["outer", "outer/inner"])
def test_or_of_the_least_control_group_around(machine, group):
    (machine / group / "memory.max").write_text(f"{1024 * MIB}\n")

    assert usual_memory_limit() == 768 * MIB


def test_there_is_none_where_nothing_is_known(machine):
    (machine.parent / "meminfo").unlink()

    assert usual_memory_limit() == 0
