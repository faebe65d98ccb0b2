"""What a worker process takes of its host, and how much of it is too much."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

_MOST_THREADS, _MOST_THREADS_PER_CORE = 256, 16  # far more than any runtime starts
_MOST_FILES = 1000  # a runtime keeps a few
_MOST_FILE_BYTES = 16 * 1024**3
_BLOCK_BYTES = 512  # of `st_blocks`, whatever the file system's are
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MEMORY = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


class Footprint(NamedTuple):
    """Resident memory and threads of a process, and what its folder holds.

    Memory and threads of one that has just ended are none; of files no more are counted than are
    too many.
    """

    resident_bytes: int = 0
    threads: int = 0
    files: int = 0
    file_bytes: int = 0


def footprint_of(pid: int, folder: Path | None) -> Footprint:
    """Look at a process and at the folder it writes to. Source: proc(5), `statm` and `stat`."""
    files, file_bytes = (0, 0) if folder is None else _files_in(folder)
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        threads = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17]
    except (OSError, IndexError):
        return Footprint(files=files, file_bytes=file_bytes)
    return Footprint(int(pages) * _PAGE_BYTES, int(threads), files, file_bytes)


def _files_in(folder: Path) -> tuple[int, int]:
    """Count the files and folders below a folder, and the bytes that they take on the disk."""
    files, blocks, waiting = 0, 0, [str(folder)]
    while waiting and files <= _MOST_FILES:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:  # some go while we look
            for entry in islice(entries, _MOST_FILES + 1 - files):
                files += 1
                blocks += entry.stat(follow_symlinks=False).st_blocks
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return files, blocks * _BLOCK_BYTES


def excess_of(footprint: Footprint, *, memory_limit: int, cores: int) -> str | None:
    """Say what is too much, None if nothing is. memory_limit: bytes, 0 for no limit."""
    if 0 < memory_limit < footprint.resident_bytes:
        resident = footprint.resident_bytes
        return f"it is above [engine.memory_limit], with [{resident}] of [{memory_limit}] bytes"
    if footprint.threads > _MOST_THREADS + _MOST_THREADS_PER_CORE * cores:
        return f"it starts threads without end, [{footprint.threads}] so far"
    if _is_too_much(footprint.files, footprint.file_bytes):
        size = footprint.file_bytes
        return f"it keeps files without end, [{footprint.files}] with [{size}] bytes so far"
    return None


def is_overfull(folder: Path) -> bool:
    """Tell whether the folder that a worker writes to is a danger to the disk."""
    return _is_too_much(*_files_in(folder))


def _is_too_much(files: int, file_bytes: int) -> bool:
    return files > _MOST_FILES or file_bytes > _MOST_FILE_BYTES


def usual_memory_limit() -> int:
    """Give three quarters of the memory that this process may have, in bytes; 0 if that is unknown.

    Source: proc(5), `meminfo`, and `memory.max` of its control group and of those around that.
    """
    try:
        fields = dict(line.split(":") for line in _MEMORY.read_text().splitlines())
        least = int(fields["MemTotal"].split()[0]) * 1024
        own = _OWN_GROUP.read_text().strip().rpartition("::/")[2]
    except (OSError, ValueError, KeyError):
        return 0
    for group in (_GROUPS / own, *(_GROUPS / own).parents):
        with suppress(OSError, ValueError):  # it has none, or says `max`
            least = min(least, int((group / "memory.max").read_text()))
    return least * 3 // 4
