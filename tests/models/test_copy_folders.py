"""Copies of models: whole or not there, whoever is killed or comes in between."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferry.errors import StoreFailure
from inferry.models.copy_folders import CopyFolders

PROGRAM = """
import sys
from pathlib import Path
from inferry.models.copy_folders import CopyFolders

copies = CopyFolders(Path(sys.argv[1]))
with copies.changing("mine", "write"), copies.filling("mine") as unfinished:
    (unfinished / "half").touch()
    print("filling", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "copies"


def put(directory: Path, model_id: str, *names: str) -> None:
    copies = CopyFolders(directory)
    with copies.changing(model_id, "write"), copies.filling(model_id) as unfinished:
        for name in names:
            (unfinished / name).touch()


def files_in(directory: Path) -> list[str]:
    """List files and empty folders."""
    found = (one for one in directory.rglob("*") if one.is_file() or not any(one.iterdir()))
    return sorted(one.relative_to(directory).as_posix() for one in found)


@contextmanager
def another_process(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process that fills the copy of `mine`; kill it at the end, if not before."""
    command = [sys.executable, "-c", PROGRAM, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"filling\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_copy_takes_the_place_of_the_former_one(directory):
    put(directory, "mine", "old")
    put(directory, "mine", "new")

    assert files_in(directory) == ["mine/new"]


def test_what_fails_leaves_the_former_copy(directory):
    put(directory, "mine", "old")
    copies = CopyFolders(directory)

    with (
        pytest.raises(StoreFailure, match=rf"cannot write \[{directory}/mine\]: no room"),
        copies.changing("mine", "write"),
        copies.filling("mine") as unfinished,
    ):
        (unfinished / "new").touch()
        raise OSError(28, "no room")

    assert files_in(directory) == ["mine/old"]


def test_ids_that_end_like_a_mark_are_ids_of_their_own(directory):
    for model_id in ("mine", "mine@part", "mine@former", "mine.part", "mine@lock"):
        put(directory, model_id, "file")

    put(directory, "mine", "new")

    assert files_in(directory) == [
        *("mine%40former/file", "mine%40lock/file", "mine%40part/file", "mine.part/file"),
        "mine/new",
    ]


def test_what_a_killed_process_left_is_swept_away(directory):
    put(directory, "mine", "old")
    with another_process(directory):
        pass
    assert files_in(directory) == ["mine/old", "mine@lock", "mine@part/half"]

    CopyFolders(directory).sweep()

    assert files_in(directory) == ["mine/old"]


def test_what_a_living_process_fills_is_left_to_it(directory):
    with another_process(directory) as process:
        CopyFolders(directory).sweep()
        process.communicate(timeout=60)

    assert files_in(directory) == ["mine/half"]


@pytest.mark.parametrize("look", ["sweep", "mend", "changing"])
def test_a_copy_that_was_cut_off_on_its_way_out_is_back_with_the_next_look(directory, look):
    put(directory, "mine", "old")
    (directory / "mine").rename(directory / "mine@former")
    (directory / "mine@part").mkdir()
    copies = CopyFolders(directory)

    match look:
        case "sweep":
            copies.sweep()
        case "mend":
            copies.mend(directory / "mine")
        case "changing":
            with copies.changing("mine", "look at"):
                pass

    assert files_in(directory) == ["mine/old"]


def test_a_former_copy_goes_when_another_has_its_place(directory):
    put(directory, "mine", "new")
    (directory / "mine@former").mkdir()

    CopyFolders(directory).sweep()

    assert files_in(directory) == ["mine/new"]


def test_no_other_folder_is_mended(directory, tmp_path):
    (tmp_path / "theirs@former").mkdir()

    CopyFolders(directory).mend(tmp_path / "theirs")

    assert not (tmp_path / "theirs").exists()


def test_those_who_change_the_same_copy_wait_for_each_other(directory):
    found: list[list[str]] = []

    def make(name: str) -> None:
        copies = CopyFolders(directory)
        for _ in range(20):
            with copies.changing("mine", "write"), copies.filling("mine") as unfinished:
                (unfinished / name).touch()
                found.append(files_in(unfinished))

    threads = [threading.Thread(target=make, args=(f"by-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [len(names) for names in found] == [1] * 120
    assert len(files_in(directory)) == 1


def test_a_removed_copy_leaves_nothing(directory):
    put(directory, "mine", "file")
    copies = CopyFolders(directory)

    for _ in range(2):
        with copies.changing("mine", "delete"):
            copies.remove("mine")

    assert files_in(directory) == []
