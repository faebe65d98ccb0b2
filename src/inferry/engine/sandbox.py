"""What a worker gives up before it reads a model, and what this machine offers for that.

`harden` is done at the start of every worker; `confine` when it is known which model it gets. Both
hold for good, for all threads that are started later.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from inferry.crashes import leave_no_values
from inferry.engine import landlock, seccomp
from inferry.modeling import ModelSource, Protection

MAX_FILE_BYTES = 8 * 1024**3
"""Of a file that a worker writes."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_FIRST_TO_END = 500  # of 1000, in addition to the share of the memory that it takes

# What the interpreter, the C library and the runtimes read beside the packages of Python.
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/openssl.cnf"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm"),
    *("/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm"),
    *("/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"),
)
_SINKS = ("/dev/null",)


def harden() -> None:
    """End with the parent, and before it for want of memory; leave no core; gain no privilege.

    Raises `OSError` when the system refuses. Call it before any thread is started.
    """
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most == resource.RLIM_INFINITY or most > MAX_FILE_BYTES:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    if sys.platform == "linux":
        # The parent's socket closes too, but that is seen only where the event loop still turns.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _volunteer(Path("/proc/self/oom_score_adj"))
        with suppress(OSError):  # where there is no filter, there is none to go around
            seccomp.forbid_rings()
    leave_no_values()  # from here on its files below /proc belong to root


def _volunteer(score: Path) -> None:
    """Be ended before the server where the machine has no memory left."""
    with suppress(OSError):  # in a container this may be read-only
        if int(score.read_text()) < _FIRST_TO_END:
            score.write_text(str(_FIRST_TO_END))


def confine(source: ModelSource, *, cache: Path | None, private: Path | None) -> Protection:
    """Leave this process the files of one model and its own cache, and no way out; tell how far.

    private: a directory of which it may know nothing else. Call it while there is one thread. What
    could not be done is said in what it gives.
    """
    if _threads() > 1:
        return Protection(missing="the worker has threads already, which nothing would hold back")
    os.environ["TMPDIR"] = str(cache or "/nonexistent")
    missing = [*_confine_files(source, cache, private), *_confine_calls()]
    return Protection(missing="; ".join(missing))


def offered() -> Protection:
    """Tell how far a worker of this machine can be confined, without confining anybody."""
    missing = []
    if not landlock.version():
        missing.append("the kernel has no Landlock (Linux 5.13, security module `landlock`)")
    if not seccomp.is_offered():
        missing.append("the library libseccomp.so.2 is not installed, or too old")
    return Protection(missing="; ".join(missing))


def _confine_files(source: ModelSource, cache: Path | None, private: Path | None) -> Iterator[str]:
    """Restrict the file system; give what stands in the way."""
    if not landlock.version():
        yield "the kernel has no Landlock (Linux 5.13, security module `landlock`)"
        return
    own = [] if cache is None else [cache]
    read = [*_libraries(), *_files_of(source)]
    exposed = next((one for one in read if private and private.is_relative_to(one)), None)
    if exposed is not None:
        yield f"[{private}] lies within [{exposed}], which a worker has to read"
        return
    try:
        landlock.restrict(read=read, write=[*map(Path, _SINKS), *own])
    except OSError as error:
        yield str(error.strerror)


def _confine_calls() -> Iterator[str]:
    """Restrict system calls; give what stands in the way."""
    try:
        seccomp.restrict()
    except OSError as error:
        yield str(error.strerror)


def _libraries() -> Iterator[Path]:
    """Give where programs and packages are."""
    for place in dict.fromkeys((*_SYSTEM, sys.prefix, sys.base_prefix, *sys.path)):
        if place and os.path.lexists(place):
            yield Path(place).resolve()


def _files_of(source: ModelSource) -> Iterator[Path]:
    """Give the folder of a model, and where links in it lead, as far as they may."""
    top = source.folder.resolve()
    within = (source.within or top).resolve()
    yield top
    for directory, folders, files in os.walk(top):
        for path in (Path(directory, name) for name in (*folders, *files)):
            if path.is_symlink() and (real := path.resolve()).is_relative_to(within):
                yield real


def _threads() -> int:
    """Count the threads of this process, those that Python does not know included."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 1  # not Linux: there is nothing to be had anyway


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}) was refused")
