"""The files of uploaded models, on a real file system."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from inferry.errors import AlreadyExists, InvalidRequest, StoreFailure
from inferry.modeling import cache_of_folder
from inferry.records import Announced, StoredFile
from inferry.store.blobs import Incoming, Uploads

PARTS = (b"one", b"two", b"three")
WHOLE = b"".join(PARTS)
ANNOUNCED = Announced(len(PARTS), len(WHOLE))


class Disk:
    """Both places below one directory."""

    def __init__(self, directory: Path) -> None:
        self.incoming = Incoming(directory / "incoming")
        self.uploads = self.uploads_of(directory, self.incoming)
        self.directory = directory
        self.uploads.create("m", {"model_type": "pytorch"})

    @staticmethod
    def uploads_of(directory: Path, incoming: Incoming) -> Uploads:
        return Uploads(directory / "uploads", incoming, directory / "graphs")

    def put(
        self,
        part: int,
        content: bytes | None = None,
        announced: Announced = ANNOUNCED,
        *,
        is_first: bool = False,
    ) -> StoredFile | None:
        staged = self.incoming.stage(PARTS[part] if content is None else content)
        return self.uploads.take_part("m", part, staged, announced, is_first=is_first)

    def files(self) -> list[str]:
        found = (one for one in self.directory.rglob("*") if one.is_file())
        return sorted(str(one.relative_to(self.directory)) for one in found)


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


def test_parts_in_any_order_become_one_file(disk):
    assert [disk.put(2), disk.put(0)] == [None, None]

    whole = disk.put(1)

    name = f"{hashlib.sha256(WHOLE).hexdigest()}.pt"
    assert whole == StoredFile(name.removesuffix(".pt"), len(WHOLE))
    assert (disk.uploads.folder("m") / name).read_bytes() == WHOLE
    disk.uploads.drop_parts("m")
    assert disk.files() == [f"uploads/m/{name}", "uploads/m/metadata.json"]


def test_a_part_is_a_file_named_by_its_digest(disk):
    disk.put(0)

    digest = hashlib.sha256(b"one").hexdigest()
    assert disk.files() == ["uploads/m/metadata.json", f"uploads/m/parts/00000-{digest}"]


def test_a_part_that_differs_from_the_one_before_is_refused_and_the_first_stays(disk):
    disk.put(0)
    before = disk.files()

    with pytest.raises(AlreadyExists):
        disk.put(0, b"other")

    disk.uploads.sweep({"m"})
    assert disk.files() == before


@pytest.mark.parametrize("cut", range(len(PARTS)))
def test_an_upload_cut_after_any_part_goes_on_where_it_stopped(disk, cut):
    for part in range(cut + 1):
        disk.put(part)
    after_a_new_start = Disk.uploads_of(disk.directory, disk.incoming)
    after_a_new_start.sweep({"m"})

    results = [disk.put(part) for part in range(len(PARTS))]

    assert results[-1] is not None
    assert results[-1].sha256 == hashlib.sha256(WHOLE).hexdigest()


def test_a_first_part_takes_the_place_of_what_a_crash_left(disk):
    disk.put(0, b"of a crash", Announced(1, 10), is_first=True)
    disk.put(0, is_first=True)
    disk.put(1)

    whole = disk.put(2)

    assert whole is not None
    assert [one.stem for one in disk.uploads.folder("m").glob("*.pt")] == [whole.sha256]


@pytest.mark.parametrize("cut", range(len(PARTS)))
def test_an_upload_cut_after_any_part_leaves_nothing_once_it_is_deleted(disk, cut):
    for part in range(cut + 1):
        disk.put(part)

    disk.uploads.remove("m")

    assert disk.files() == []


def test_what_workers_made_of_a_model_goes_with_it(disk):
    made = cache_of_folder(disk.directory / "graphs", disk.uploads.folder("m"))
    made.mkdir(parents=True)
    (made / "graph.xml").touch()

    disk.uploads.remove("m")

    assert disk.files() == []


def test_a_last_part_of_another_length_than_announced_is_refused_and_the_right_one_taken(disk):
    disk.put(0)
    disk.put(1)

    with pytest.raises(InvalidRequest) as refusal:
        disk.put(2, b"longer than announced")

    assert str(refusal.value) == (
        "[total_definition_length] is [11], but all [3] model definition parts have [27] bytes"
        " together"
    )
    assert not list(disk.uploads.folder("m").glob("*.pt"))
    assert disk.put(2) is not None


def test_a_start_sweeps_away_what_belongs_to_no_model(disk):
    disk.put(0)
    disk.incoming.stage(b"of a process that died")
    (disk.uploads.folder("m") / "definition.part").write_bytes(b"half")

    disk.uploads.sweep({"m"})
    kept = disk.files()
    disk.uploads.sweep(set())

    assert len(kept) == 2  # configuration and part
    assert disk.files() == []


def test_a_full_disk_leaves_nothing_of_what_came(disk, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = disk.files()
    monkeypatch.setattr("os.fsync", fail)

    with pytest.raises(StoreFailure, match="No space left on device"):
        disk.incoming.stage(b"a part")

    assert disk.files() == before


def test_a_disk_that_fills_up_while_parts_are_joined_leaves_the_parts(disk, monkeypatch):
    disk.put(0)
    disk.put(1)
    staged = disk.incoming.stage(PARTS[2])
    synced = os.fsync
    left = iter([synced])  # the name of the part, but not the whole

    def fail(descriptor: int) -> None:
        sync = next(left, None)
        if sync is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StoreFailure):
        disk.uploads.take_part("m", 2, staged, ANNOUNCED, is_first=False)
    monkeypatch.setattr("os.fsync", synced)

    assert len(disk.files()) == 4  # configuration and three parts
    assert disk.put(2) is not None


def test_files_are_read_by_their_owner_only(disk):
    disk.put(0)

    assert (disk.directory / "incoming").stat().st_mode & 0o077 == 0
    assert (disk.uploads.folder("m") / "parts").stat().st_mode & 0o077 == 0
