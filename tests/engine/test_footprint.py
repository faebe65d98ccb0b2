"""What a worker may take of its host, and how much memory where nobody says it."""

from __future__ import annotations

import os

import pytest

from inferry.engine import footprint
from inferry.engine.footprint import Footprint, excess_of, footprint_of, usual_memory_limit

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


def test_files_of_all_folders_count_with_what_they_take_of_the_disk(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "written").write_bytes(b"x" * MIB)
    with (tmp_path / "empty").open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)

    found = footprint_of(os.getpid(), tmp_path)

    assert found.files == 3
    assert MIB <= found.file_bytes < 2 * MIB
    assert footprint_of(os.getpid(), tmp_path / "nowhere").files == 0


@pytest.mark.parametrize(("files", "size"), [(1001, 0), (1, 17 * 1024 * MIB)])
def test_too_many_or_too_large_files_are_too_much(files, size):
    footprint = Footprint(files=files, file_bytes=size)

    assert "keeps files without end" in str(excess_of(footprint, memory_limit=0, cores=1))
    assert excess_of(Footprint(files=1000), memory_limit=0, cores=1) is None
