"""Which files a confined process reaches, by Landlock of the Linux kernel.

A rule set names directories and files and what may be done below them; everything else of the file
system can no longer be opened, made, moved or removed, whoever the process runs as. Other processes
cannot be traced, nor their memory or environment be read.

Called by number, since the C library has no functions for it; the numbers are the same on every
architecture. Source: https://docs.kernel.org/userspace-api/landlock.html. No package on PyPI is
finished and kept: `landlock` is a development version, `py-landlock` and `landlockpy` are new.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FIRST_VERSION = (1 << 13) - 1
_FILES = {1: 0, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
"""What each version can watch over beside the first, which has all that stands in front of it."""
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 3  # binding and connecting, from version 4 on
_SCOPES = 3  # abstract sockets and signals, from version 6 on

_READ = _READ_FILE | _READ_DIR
_NEVER = _EXECUTE | _IOCTL_DEV | 1 << 6 | 1 << 11  # and devices, of characters and of blocks


class _RulesetAttributes(ctypes.Structure):
    """`struct landlock_ruleset_attr`."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    """`struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """Give the version of Landlock that the kernel has, 0 for none."""
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    except OSError:
        return 0


def restrict(*, read: Iterable[Path], write: Iterable[Path]) -> None:
    """Leave this thread, and what it starts from now on, `read` and `write` only; for good.

    read: files and directories that may be read, with all below. write: those in which files may be
    made, changed and removed as well. What is not there is left out. Nothing may be executed. Call
    it while there is one thread, after `no_new_privs`. Raises `OSError` where it cannot be done.
    """
    known = version()
    watched = _OF_FIRST_VERSION
    for since, access in _FILES.items():
        watched |= access if since <= known else 0
    attributes = _RulesetAttributes(
        watched, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0
    )
    ruleset = _call(
        _CREATE_RULESET,
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
        ctypes.c_uint32(0),
    )
    try:
        for path in read:
            _allow(ruleset, path, _READ)
        for path in write:
            _allow(ruleset, path, watched & ~_NEVER)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: int) -> None:
    """Allow `access` below `path`."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _OF_A_FILE
        rule = _PathBeneath(access, place)
        _call(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    """Make a system call. Raises `OSError`."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    result: int = syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"Landlock: {os.strerror(failure)}")
    return result
