"""References to secrets that are kept outside the store: `${env:...}` and `${file:...}`.

Whoever may create an endpoint may name one, so only what the operator set apart for this can be
reached: variables with a prefix of their own, and files below one directory.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path

from inferry.errors import IllegalArgument

ENVIRONMENT_PREFIX = "INFERRY_SECRET_"
MAX_FILE_BYTES = 64 * 1024
_VARIABLE = re.compile(rf"\$\{{env:({ENVIRONMENT_PREFIX}[A-Za-z0-9_]+)\}}")
_FILE = re.compile(r"\$\{file:([A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*)\}")
_RULE = (
    f"a secret that begins with [${{] is a reference, either [${{env:{ENVIRONMENT_PREFIX}<NAME>}}] "
    "or [${file:<NAME>}] with a file below [secrets.path]"
)


class SecretReferences:
    """Checks and resolves references.

    environment: of the supervisor. path: the directory of files, None refuses them. forbidden:
    directories whose files are never read, the data directory first of all.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        path: Path | None = None,
        forbidden: tuple[Path, ...] = (),
    ) -> None:
        self._environment = environment
        self._path = path
        self._forbidden = forbidden

    def check(self, name: str, value: str) -> None:
        """Refuse a value that looks like a reference and breaks a rule. Raises `IllegalArgument`.

        Whether the reference leads anywhere shows when it is resolved.
        """
        if not value.startswith("${") or _VARIABLE.fullmatch(value):
            return
        match = _FILE.fullmatch(value)
        if match is None:
            raise IllegalArgument(f"[{name}] holds a reference that is not allowed: {_RULE}")
        if self._path is None:
            raise IllegalArgument(
                f"[{name}] refers to a file, and [secrets.path] is not set: set it to the "
                "directory that holds such files"
            )
        if any(part in (".", "..") for part in match[1].split("/")):
            raise IllegalArgument(
                f"[{name}] refers to a file outside of [secrets.path]: [.] and [..] are not allowed"
            )

    def resolve(self, name: str, value: str) -> str:
        """Give the secret itself; a value that is no reference stands for itself.

        Raises `IllegalArgument` when the reference breaks a rule or leads nowhere.
        """
        self.check(name, value)
        if match := _VARIABLE.fullmatch(value):
            found = self._environment.get(match[1])
            if not found:
                raise IllegalArgument(
                    f"[{name}] refers to the variable [{match[1]}], which the server does not have"
                )
            return found
        if match := _FILE.fullmatch(value):
            return self._read(name, match[1])
        return value

    def _read(self, name: str, file_name: str) -> str:
        """Read a file. Symbolic links are followed only inside the directory (mounted volumes)."""
        assert self._path is not None, "check() came first"
        try:
            root = self._path.resolve(strict=True)
            file = (root / file_name).resolve(strict=True)
            if not file.is_relative_to(root) or self._is_forbidden(file):
                raise IllegalArgument(
                    f"[{name}] refers to the file [{file_name}], which leads out of [secrets.path]"
                )
            status = file.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
                raise IllegalArgument(
                    f"[{name}] refers to [{file_name}], which is no file of at most "
                    f"[{MAX_FILE_BYTES}] bytes"
                )
            text = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            raise IllegalArgument(
                f"[{name}] refers to the file [{file_name}], which the server cannot read"
            ) from error
        if not text:
            raise IllegalArgument(f"[{name}] refers to the file [{file_name}], which is empty")
        return text

    def _is_forbidden(self, file: Path) -> bool:
        return any(file.is_relative_to(directory.resolve()) for directory in self._forbidden)
