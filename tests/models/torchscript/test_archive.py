"""Archives of modules are looked at before anything reads them."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest

from inferry.errors import UnusableModel
from inferry.models.torchscript.archive import check_archive

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
EMPTY_PICKLE = b"\x80\x02}."


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/opened",)


def usual() -> dict[str, bytes]:
    return {
        "m/data.pkl": b"\x80\x02c__torch__.model\nModel\n.",
        "m/constants.pkl": EMPTY_PICKLE,
        "m/code/__torch__/model.py": b"class Model(Module):\n  pass\n" * 20,
        "m/code/__torch__/model.py.debug_pkl": b"\x80\x02." * 50,
        "m/constants/0": b"\0" * 64,
        "m/.data/version": b"3\n",
        "m/byteorder": b"little",
    }


def write(
    path: Path, entries: dict[str, bytes] | list[tuple[str, bytes]], compression: int = STORED
) -> Path:
    pairs = entries.items() if isinstance(entries, dict) else entries
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in pairs:
            archive.writestr(name, content)
    return path


def check(path: Path) -> None:
    check_archive(path, lambda problem: UnusableModel(f"the module {problem}"))


@pytest.mark.parametrize("compression", [STORED, DEFLATED])
def test_an_archive_of_the_format_passes(tmp_path, compression):
    check(write(tmp_path / "m.pt", usual(), compression))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../evil", "is not of the format"),
        ("m/../../evil", "is not of the format"),
        ("/etc/passwd", "is not of the format"),
        ("m/code/../../evil.py", "is not of the format"),
        ("m/evil.so", "is not of the format"),
        ("m/code/evil.sh", "is not of the format"),
        ("n/version", "below one folder"),
        ("m\\evil", "is not of the format"),
    ],
)
def test_an_entry_outside_of_the_format_is_refused(tmp_path, name, problem):
    with pytest.raises(UnusableModel, match=problem):
        check(write(tmp_path / "m.pt", usual() | {name: b"x"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_is_there_twice_is_refused(tmp_path):
    entries = [*usual().items(), ("m/constants.pkl", b"other")]

    with pytest.raises(UnusableModel, match="twice"):
        check(write(tmp_path / "m.pt", entries))


def test_what_inflates_beyond_measure_is_refused(tmp_path):
    bomb = usual() | {"m/constants/1": b"\0" * 80_000_000}

    with pytest.raises(UnusableModel, match="inflates"):
        check(write(tmp_path / "m.pt", bomb, DEFLATED))


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path = write(tmp_path / "m.pt", usual() | {"m/constants/1": b"\0" * 100_000})
    with zipfile.ZipFile(path, "a") as archive:
        shared = archive.getinfo("m/constants/1")
        for number in range(2, 40):
            twin = zipfile.ZipInfo(f"m/constants/{number}")
            twin.compress_size = twin.file_size = shared.file_size
            twin.CRC, twin.header_offset = shared.CRC, shared.header_offset
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]

    with pytest.raises(UnusableModel, match="share their bytes"):
        check(path)


@pytest.mark.parametrize("where", ["m/data.pkl", "m/constants.pkl"])
def test_a_pickle_that_would_run_something_is_refused_and_not_loaded(tmp_path, where):
    payload = pickle.dumps(Payload(), protocol=2)

    with pytest.raises(UnusableModel, match="posix system"):
        check(write(tmp_path / "m.pt", usual() | {where: payload}))

    assert not Path("/tmp/opened").exists()


def test_a_pickle_of_a_newer_protocol_is_refused(tmp_path):
    payload = pickle.dumps(Payload(), protocol=4)

    with pytest.raises(UnusableModel, match="which no module does"):
        check(write(tmp_path / "m.pt", usual() | {"m/data.pkl": payload}))


def test_what_torch_save_writes_is_refused_as_a_pickle(tmp_path):
    entries = {"archive/data.pkl": EMPTY_PICKLE, "archive/data/0": b"\0", "archive/version": b"3"}

    with pytest.raises(UnusableModel, match="never loaded"):
        check(write(tmp_path / "m.pt", entries))


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip archive at all", b"\x80\x02K\x01."])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "m.pt").write_bytes(content)

    with pytest.raises(UnusableModel, match="is no TorchScript archive"):
        check(tmp_path / "m.pt")


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    path = write(tmp_path / "m.pt", usual())
    whole = path.read_bytes()

    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UnusableModel):
            check(path)


@pytest.mark.parametrize(
    "code",
    [
        b"x = torch.from_file('/etc/passwd')",
        b"y = ops.aten.from_file(path)",
        b"t = torch\n    (t).  save(x, '/tmp/x')",
        b"torch.\\\n  save(x, path)",
    ],
)
def test_code_that_names_what_is_for_files_is_refused(tmp_path, code):
    entries = {**usual(), "m/code/__torch__/other.py": b"def f(self):\n    " + code}

    with pytest.raises(UnusableModel, match="which is for files"):
        check(write(tmp_path / "m.pt", entries))
