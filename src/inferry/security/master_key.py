"""The master key: from the environment, or from a file that the first start makes.

While a key is being replaced there are several, the newest first: parted by commas in the variable,
one a line in the file.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from inferry.errors import SecretsUnreadable

VARIABLE = "INFERRY_MASTER_KEY"
FILE_NAME = "master.key"
KEY_BYTES = 32


def load_master_keys(data_dir: Path, environment: Mapping[str, str]) -> list[bytes]:
    """Give the keys of `INFERRY_MASTER_KEY`, else of `<data_dir>/master.key`, made if missing.

    Raises `SecretsUnreadable` when it cannot be used, with what to do.
    """
    text = environment.get(VARIABLE)
    if text:
        return [_decode(one, VARIABLE) for one in text.split(",")]
    file = data_dir / FILE_NAME
    try:
        return _read(file)
    except FileNotFoundError:
        key = secrets.token_bytes(KEY_BYTES)
        keep_master_keys(data_dir, [key])
        return [key]
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsUnreadable(f"cannot read the master key [{file}]: {error}") from error


def _read(file: Path) -> list[bytes]:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, encoding="ascii") as opened:
        if os.fstat(opened.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretsUnreadable(
                f"others may read the master key [{file}]: say `chmod 600 {file}`"
            )
        lines = opened.read(4096).split() or [""]
        return [_decode(line, str(file)) for line in lines]


def keep_master_keys(data_dir: Path, keys: Sequence[bytes]) -> None:
    """Put keys into the file: complete on the disk before anything can be sealed with a new one.

    Raises `SecretsUnreadable` when it cannot be written.
    """
    file = data_dir / FILE_NAME
    unfinished = file.with_suffix(".new")
    try:
        descriptor = os.open(
            unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "wb") as opened:
            os.fchmod(opened.fileno(), 0o600)
            opened.writelines(base64.b64encode(key) + b"\n" for key in keys)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.rename(file)
        _sync_directory(file.parent)
    except OSError as error:
        raise SecretsUnreadable(f"cannot write the master key [{file}]: {error}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decode(text: str, origin: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise SecretsUnreadable(
            f"[{origin}] must hold {KEY_BYTES} bytes in base64; "
            "`openssl rand -base64 32` makes a new key"
        )
    return key
