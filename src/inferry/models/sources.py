"""Where a model comes from, as configuration and command line write it.

intfloat/multilingual-e5-small          a repository of the hub, at its revision `main`
intfloat/multilingual-e5-small@v1.0     at another one: a branch, a tag or a commit
https://huggingface.co/intfloat/...     the same, as the address of its page
/srv/models/e5, ~/models/e5             a folder of this machine
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from inferry.errors import IllegalArgument

_NAME = r"[A-Za-z0-9](?:\w|[.-](?=\w))*"
_HUB_ID = re.compile(
    rf"(?P<repository>{_NAME}/{_NAME})(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_ID = 96


@dataclass(frozen=True, slots=True)
class HubId:
    """A repository of a hub. revision: a branch, a tag or a commit."""

    repository: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.repository + ("" if self.revision == "main" else f"@{self.revision}")

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Source: TypeAlias = HubId | Folder


def parse_hub_id(text: str) -> HubId | None:
    """Read `organisation/name` or `organisation/name@revision`; None for anything else."""
    match = _HUB_ID.fullmatch(text)
    if not match or len(match["repository"]) > _LONGEST_ID or ".." in text:
        return None
    if match["repository"].endswith(".git"):
        return None
    return HubId(match["repository"], match["revision"] or "main")


def parse_source(text: str, *, hub_url: str) -> Source:
    """Read where a model comes from. Raises `IllegalArgument`, which says what would be right."""
    if text.startswith(("/", "~/")):
        return Folder(Path(text).expanduser())
    hub = hub_url.rstrip("/") + "/"
    if text.startswith(hub):
        text = text.removeprefix(hub).rstrip("/").replace("/tree/", "@")
    elif "://" in text:
        raise IllegalArgument(
            f"[{text}] is a package repository; its packages are TorchScript modules, which cannot"
            f" be run. Give a hub id (organisation/name), a page of [{hub_url}] or a folder"
        )
    hub_id = parse_hub_id(text)
    if hub_id is None:
        raise IllegalArgument(
            f"a model comes from a hub id (organisation/name) or an absolute folder, got [{text}]"
        )
    return hub_id
