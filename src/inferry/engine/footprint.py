"""What a worker process takes of its host, and how much of it is too much."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_MOST_THREADS, _MOST_THREADS_PER_CORE = 256, 16  # far more than any runtime starts
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


_MEMORY = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


class Footprint(NamedTuple):
    """Resident memory and threads of a process; zeros of one that has just ended."""

    resident_bytes: int
    threads: int


def footprint_of(pid: int) -> Footprint:
    """Look at a process. Source: proc(5), `statm` and `stat`."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        threads = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17]
    except (OSError, IndexError):
        return Footprint(0, 0)
    return Footprint(int(pages) * _PAGE_BYTES, int(threads))


def excess_of(footprint: Footprint, *, memory_limit: int, cores: int) -> str | None:
    """Say what is too much, None if nothing is. memory_limit: bytes, 0 for no limit."""
    if 0 < memory_limit < footprint.resident_bytes:
        resident = footprint.resident_bytes
        return f"it is above [engine.memory_limit], with [{resident}] of [{memory_limit}] bytes"
    if footprint.threads > _MOST_THREADS + _MOST_THREADS_PER_CORE * cores:
        return f"it starts threads without end, [{footprint.threads}] so far"
    return None


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
