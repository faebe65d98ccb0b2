"""A worker whose model does what a text names: `python -m tests.engine.hostile_worker`.

What a deed fails with comes back as its vector, 0 for success. The files it wants are where a
server has them: the model is `models/m` of the data directory. No deed does harm to the machine
that runs the tests where nothing holds it back.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import resource
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inferry.engine import worker
from inferry.modeling import Answer, Encoded, ModelSource, RuntimeOptions
from inferry.priorities import LOW
from tests.engine.fake_models import DIMENSIONS, FakeModel, prepare

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_PTRACE_ATTACH, _CLONE_NEWUSER, _KEYCTL_GET_KEYRING = 16, 0x10000000, 0
_NUMBERS = {"x86_64": {"bpf": 321, "keyctl": 250}, "aarch64": {"bpf": 280, "keyctl": 219}}


def system(name: str, *arguments: int) -> None:
    """Make a call by number, for which there is no function."""
    number = _NUMBERS[os.uname().machine][name]
    if _LIBC.syscall(number, *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)


def native(name: str, *arguments: Any) -> None:
    """Call a function of the C library."""
    if getattr(_LIBC, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def read(path: Path) -> None:
    with path.open("rb") as file:
        file.read(16)


def write(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def read_through_link(link: Path, target: Path) -> None:
    link.symlink_to(target)
    read(link)


def elsewhere(top: Path) -> Path:
    """Name a file beside the data directory, which must not come to be."""
    return top.with_name(f"{top.name}.hostile")


def write_much(path: Path) -> None:
    """Make a file longer than any model, which takes no room yet."""
    with path.open("ab") as file:
        os.truncate(file.fileno(), 1 << 50)


def hoard() -> None:
    kept = [bytearray(os.urandom(1024)) * 1024]
    while True:
        kept.append(kept[0].copy())


def swarm() -> None:
    forever = threading.Event()
    while True:
        threading.Thread(target=forever.wait, daemon=True).start()


def litter(cache: Path) -> None:
    """Make more files than any runtime, and wait for what comes of it."""
    for number in range(2000):
        (cache / f"{number}").touch()
    threading.Event().wait()


def spin() -> None:
    while True:
        pass


def look_for_dumps() -> None:
    """Fail when a dump of this process may be written."""
    if _LIBC.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(-1, "it may be dumped")


def count_descriptors() -> None:
    """Fail with the number of descriptors that are neither the worker's nor its event loop's."""
    ours = ("anon_inode:[event", "socket:", "pipe:", "/proc/self")
    held = [one for one in Path("/proc/self/fd").iterdir() if int(one.name) > 2]
    foreign = [one for one in held if one.exists() and not str(one.readlink()).startswith(ours)]
    if foreign:
        raise OSError(len(foreign), "descriptors of somebody else")


def deeds(folder: Path, cache: Path) -> dict[str, Callable[[], Any]]:
    """Give everything it tries, by its text."""
    top = folder.parents[1]
    key, other, parent = top / "master.key", top / "models" / "other" / "weights", os.getppid()
    return {
        # What a model has to be able to do.
        "read its own model": lambda: read(folder / "weights"),
        "write its own cache": lambda: write(cache / "kept"),
        "start a thread": lambda: threading.Thread(target=int).start(),
        "give way": lambda: os.setpriority(os.PRIO_PROCESS, 0, LOW),
        "import a package": lambda: __import__("tokenizers"),
        "hold nothing else": count_descriptors,
        "leave no dump": look_for_dumps,
        # The network and other processes.
        "open a local socket": lambda: socket.socket(socket.AF_UNIX),
        "open a pair of sockets": socket.socketpair,
        "list interfaces": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "fork": os.fork,
        "start a program": lambda: subprocess.run(["/bin/true"], check=True),
        "signal the server": lambda: os.kill(parent, 0),
        "signal another process": lambda: os.kill(1, 0),
        "give way no more": lambda: os.setpriority(os.PRIO_PROCESS, 0, 0),
        "go before all others": lambda: os.setpriority(os.PRIO_PROCESS, 0, -LOW),
        "have the server give way": lambda: os.setpriority(os.PRIO_PROCESS, parent, LOW),
        "have all of a user give way": lambda: os.setpriority(os.PRIO_USER, 0, LOW),
        "be idle": lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
        "limit the server": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
        "raise a limit": lambda: resource.prlimit(0, resource.RLIMIT_CORE, (0, 0)),
        "open a way into a process": lambda: os.pidfd_open(parent),
        "make a file of memory": lambda: os.memfd_create("x"),
        "type into the terminal": lambda: fcntl.ioctl(2, termios.TIOCSTI, b"x"),
        "have dumps again": lambda: native("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0),
        "have the kernel signal": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, parent),
        # Files.
        "read the master key": lambda: read(key),
        "read the local key": lambda: read(top / "local-api-key"),
        "read the database": lambda: read(top / "inferry.db"),
        "read another model": lambda: read(other),
        "read another cache": lambda: read(cache.parent / "other" / "kept"),
        "list the data directory": lambda: list(top.iterdir()),
        "list models": lambda: list(folder.parent.iterdir()),
        "read accounts": lambda: read(Path("/etc/passwd")),
        "read the server's variables": lambda: read(Path(f"/proc/{parent}/environ")),
        "read the server's memory": lambda: read(Path(f"/proc/{parent}/mem")),
        "follow a link": lambda: read_through_link(cache / "link", key),
        "link the key into its cache": lambda: os.link(key, cache / "key"),
        "move the key into its cache": lambda: key.rename(cache / "key"),
        "write its own model": lambda: write(folder / "weights"),
        "write the database": lambda: write(top / "inferry.db"),
        "write elsewhere": lambda: write(Path("/tmp/hostile")),
        "write shared memory": lambda: write(Path("/dev/shm/hostile")),
        "delete the database": (top / "inferry.db").unlink,
        "empty the database": lambda: os.truncate(top / "inferry.db", 0),
        "empty the database slyly": lambda: os.open(top / "inferry.db", os.O_RDONLY | os.O_TRUNC),
        "show the key to others": lambda: key.chmod(0o644),
        "give the key away": lambda: os.chown(key, 65534, 65534),
        "fill the disk": lambda: write_much(cache / "much"),
        # What ends it.
        "open a socket": lambda: socket.socket(socket.AF_INET),
        "open a socket of IPv6": lambda: socket.socket(socket.AF_INET6),
        "execute": lambda: os.execv("/bin/true", ["true"]),
        "trace the server": lambda: native("ptrace", _PTRACE_ATTACH, parent, None, None),
        "mount": lambda: native("mount", None, b"/nowhere", b"tmpfs", 0, None),
        "leave for a namespace": lambda: native("unshare", _CLONE_NEWUSER),
        "change its user": lambda: os.setuid(0),
        "change its root": lambda: os.chroot("/"),
        "load into the kernel": lambda: system("bpf", 0, 0, 0),
        "read the keyring": lambda: system("keyctl", _KEYCTL_GET_KEYRING, -4, 0),
        "hoard": hoard,
        "swarm": swarm,
        "litter": lambda: litter(cache),
        "spin": spin,
    }


class HostileModel(FakeModel):
    """Answers a text with the error number of what it names."""

    def __init__(self, source: ModelSource, options: RuntimeOptions) -> None:
        super().__init__()
        assert options.cache_dir is not None
        self._deeds = deeds(source.folder, options.cache_dir)

    def run(self, batch: Sequence[Encoded], *, is_wide: bool = False) -> list[Answer]:
        outcomes = [self._do(bytes(one.ids).decode()) for one in batch]
        return [struct.pack("<4f", *[outcome] * DIMENSIONS) for outcome in outcomes]

    def _do(self, text: str) -> int:
        try:
            self._deeds.get(text, int)()
        except OSError as error:
            return error.errno or -1
        return 0


if __name__ == "__main__":
    worker._CHECK_EVERY_S = 0.0  # each check runs a text, however lately one has run
    control, listening = map(int, sys.argv[1:])
    worker.run_worker(control, listening, HostileModel, prepare=prepare, run=asyncio.run)
