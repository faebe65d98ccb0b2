"""What stands before anything runs: the data directory, its lock, and the sockets.

Beside that, what an API process is told when it starts.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from inferry.config import Config
from inferry.errors import InferenceError
from inferry.telemetry import MULTIPROC_VARIABLE

# What a child may know of our environment: where programs, texts and certificates are, and the way
# out. Everything else, every secret above all, stays here.
_INHERITED = (
    *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME", "NO_COLOR", "PYTHONPATH", "PYTHONUTF8"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
# What is freed goes back to the system. The C library raises its threshold with the first large
# body, and keeps the next ones: a few at once, and a process holds hundreds of megabytes for good.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2"}
LOCAL_KEY_FILE = "local-api-key"
_LOCK_FILE = "lock"
_PORT_PATIENCE_S = 3.0
"""How long children of a server that was killed may take to let go of its port."""


class StartRefused(InferenceError):
    """The server cannot start here; the message says what to change."""


class Bootstrap(msgspec.Struct, frozen=True):
    """What an API process is told when it starts, beside the records.

    config: without the secrets that only the supervisor needs.
    """

    config: Config
    cluster_uuid: str
    node_name: str


def config_of_children(config: Config) -> Config:
    """Give `config` without the secrets that only the supervisor needs."""
    replace = msgspec.structs.replace
    return replace(
        config,
        auth=replace(config.auth, admin_password=None),
        store=replace(config.store, url=None),
        models=replace(config.models, hub_token=None),
    )


def environment_of_children(
    environment: Mapping[str, str], *, metrics_directory: Path | None = None
) -> dict[str, str]:
    """Choose what of `environment` the processes that we start may see.

    metrics_directory: where API processes share counters, None for a process of another kind.
    """
    inherited = {name: environment[name] for name in _INHERITED if name in environment}
    if metrics_directory is None:
        return inherited
    return inherited | _ALLOCATOR | {MULTIPROC_VARIABLE: str(metrics_directory)}


def prepare_data_dir(directory: Path) -> None:
    """Make the data directory, readable by its owner only. Raises `StartRefused`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise StartRefused(
            f"cannot use the data directory [{directory}]: {error.strerror}; "
            "choose another one with --data-dir"
        ) from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the data directory, so that a second server refuses to use it.

    The system drops the lock with the process, however that ends. Raises `StartRefused`.
    """
    with os.fdopen(_open_private(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = file.read().strip() or "unknown"
            raise StartRefused(
                f"the data directory [{directory}] is in use by another server "
                f"(process [{owner}]); stop that one or choose another with --data-dir"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _open_private(path: Path, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read_private(path: Path) -> str | None:
    """Give what `write_private` wrote, None without the file. Raises `StartRefused`."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StartRefused(f"cannot read [{path}]: {error}; it can be deleted") from error


def write_private(path: Path, text: str) -> None:
    """Put a line into a file that only its owner reads; it is whole or not there at all."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(_open_private(unfinished, flags), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def bind(host: str, port: int, *, only_loopback: bool) -> list[socket.socket]:
    """Bind every address of `host` to one port (0: a free one); nothing listens yet.

    only_loopback: refuse a name that stands for another address. Raises `StartRefused`.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise StartRefused(f"[server.host] is [{host}]: {error.strerror}") from error
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
    with ExitStack() as undo:
        bound: list[socket.socket] = []
        for family, address in addresses:
            where = str(address[0])
            if only_loopback and not ipaddress.ip_address(where.partition("%")[0]).is_loopback:
                raise StartRefused(
                    "without authentication the server listens on loopback only, "
                    f"but [{host}] is [{where}]"
                )
            taken = bound[0].getsockname()[1] if bound else port
            one = _bind(family, (where, taken, *address[2:]), is_optional=bool(bound))
            if one is not None:
                bound.append(undo.enter_context(one))
        undo.pop_all()
        return bound


def _bind(
    family: int, address: tuple[str | int, ...], *, is_optional: bool
) -> socket.socket | None:
    """Bind one address, patient with a server that was killed a moment ago.

    is_optional: give None where the system does not have the address, as with IPv6 switched off.
    """
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    give_up_at = time.monotonic() + _PORT_PATIENCE_S
    while True:
        try:
            one.bind(address)
            return one
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < give_up_at:
                time.sleep(0.05)
                continue
            one.close()
            if error.errno == errno.EADDRNOTAVAIL and is_optional:
                return None
            raise StartRefused(
                f"cannot listen on [{address[0]}:{address[1]}]: {error.strerror}"
            ) from error
