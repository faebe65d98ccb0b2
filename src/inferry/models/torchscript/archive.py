"""Looks at a TorchScript archive before anything reads it.

It is a zip archive as `torch.jit.save` writes it: below one folder, `data.pkl` and `constants.pkl`
describe the module, `code/` is its source, the other files are numbers. What else might be in a
zip archive, or how it might be packed to do harm, is refused here, by the directory of the archive
and by the names of what its pickles would make. No pickle is loaded.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from inferry.errors import UnusableModel

_MOST_ENTRIES = 200_000
_MOST_INFLATED = 32  # source and its line numbers are deflated, to about a tenth
_FREE_BYTES = 64 * 1024 * 1024
_LARGEST_PICKLE = 256 * 1024 * 1024
_ENTRY = re.compile(
    r"data\.pkl|constants\.pkl|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/\w+|(?:data|constants|tensors)/\d+"
    r"|code/[\w.]+(?:/[\w.]+)*\.py(?:\.debug_pkl)?"
    r"|extra/[\w.-]+(?:/[\w.-]+)*",
    re.ASCII,
)
_KNOWN_NAMES = re.compile(r"(?:__torch__|torch)(?:\.[\w.]+)? \w+|collections OrderedDict", re.ASCII)
_OF_FILES = re.compile(rb"\bfrom_file\b|\.[\s\\]*save\b")
_REQUIRED = ("data.pkl", "constants.pkl")

Refuse = Callable[[str], UnusableModel]


def check_archive(path: Path, refuse: Refuse) -> None:
    """Raise what `refuse` makes of a problem, if there is one."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_size(entries, path.stat().st_size, refuse)
            names = _check_names(entries, refuse)
            top = entries[0].filename.partition("/")[0]
            for name in ("data.pkl", "constants.pkl"):
                _check_pickle(archive, f"{top}/{name}", refuse)
            _check_code(archive, refuse)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise refuse(f"is no TorchScript archive: {error}") from error
    if not any(name.startswith("code/") for name in names):
        raise refuse("has no code, so it is no TorchScript module")


def _check_size(entries: list[zipfile.ZipInfo], size_bytes: int, refuse: Refuse) -> None:
    """Refuse what would inflate beyond measure, or is the same bytes again and again."""
    if not entries:
        raise refuse("is an empty archive")
    if len(entries) > _MOST_ENTRIES:
        raise refuse(f"has [{len(entries)}] entries, at most [{_MOST_ENTRIES}] are read")
    packed = sum(entry.compress_size for entry in entries)
    if packed > size_bytes:
        raise refuse("has entries that share their bytes")
    for entry in entries:
        if entry.flag_bits & 0x1:
            raise refuse(f"has the entry [{entry.filename[:200]}] encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refuse(f"has the entry [{entry.filename[:200]}] in a compression of no use here")
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            raise refuse(f"has the entry [{entry.filename[:200]}] with two different sizes")
    inflated = sum(
        entry.file_size for entry in entries if entry.compress_type == zipfile.ZIP_DEFLATED
    )
    deflated = sum(
        entry.compress_size for entry in entries if entry.compress_type == zipfile.ZIP_DEFLATED
    )
    if inflated > min(_FREE_BYTES, deflated * _MOST_INFLATED + 1024 * 1024):
        raise refuse(f"inflates [{deflated}] bytes to [{inflated}]")


def _check_names(entries: Iterable[zipfile.ZipInfo], refuse: Refuse) -> set[str]:
    """Refuse names outside of the format, and give them without the folder they all are in."""
    names: set[str] = set()
    tops = set()
    for entry in entries:
        top, _, name = entry.filename.partition("/")
        tops.add(top)
        if not _ENTRY.fullmatch(name) or ".." in entry.filename.split("/"):
            raise refuse(f"has the entry [{entry.filename[:200]}], which is not of the format")
        if name in names:
            raise refuse(f"has the entry [{entry.filename[:200]}] twice")
        names.add(name)
    if len(tops) != 1 or tops <= {"", ".", ".."}:
        raise refuse("does not have all of its entries below one folder")
    if missing := [name for name in _REQUIRED if name not in names]:
        raise refuse(
            f"has no {missing}, so it is no TorchScript module; what [torch.save] writes is a"
            " pickle, which could run code, and is never loaded"
        )
    return names


def _check_code(archive: zipfile.ZipFile, refuse: Refuse) -> None:
    """Refuse source that names what reads or writes files; code runs as soon as it is loaded.

    The language has no way to name a function but by its name.
    """
    for entry in archive.infolist():
        if entry.filename.endswith(".py"):
            found = _OF_FILES.search(archive.read(entry))
            if found is not None:
                shown = found[0].decode()
                raise refuse(f"has code that names [{shown}], which is for files")


def _check_pickle(archive: zipfile.ZipFile, name: str, refuse: Refuse) -> None:
    """Refuse a pickle that names anything but parts of the module."""
    if archive.getinfo(name).file_size > _LARGEST_PICKLE:
        raise refuse(f"has a [{name}] of more than [{_LARGEST_PICKLE}] bytes")
    try:
        for opcode, argument, _ in pickletools.genops(archive.read(name)):
            if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4") or (
                opcode.name == "GLOBAL" and not _KNOWN_NAMES.fullmatch(str(argument))
            ):
                shown = str(argument or opcode.name)[:200]
                raise refuse(f"has a [{name}] that names [{shown}], which no module does")
    except (ValueError, UnicodeDecodeError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise refuse(f"has a [{name}] that cannot be read: {error}") from error
