"""Where a model comes from, as configuration and command line write it.

intfloat/multilingual-e5-small          a repository of the hub, at its revision `main`
intfloat/multilingual-e5-small@v1.0     at another one: a branch, a tag or a commit
https://huggingface.co/intfloat/...     the same, as the address of its page
https://mirror.example.org/models       a package repository, also `file:///srv/packages`; of it the
                                        package that is called as the model, without a leading dot
https://mirror.example.org/models/elser_model_2.metadata.json    another package of it
/srv/models/e5, ~/models/e5             a folder of this machine
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from inferry.errors import IllegalArgument

_NAME = r"[A-Za-z0-9](?:\w|[.-](?=\w))*"
_HUB_ID = re.compile(
    rf"(?P<repository>{_NAME}/{_NAME})(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_ID = 96
_PACKAGE = re.compile(r"[a-z0-9](?:[a-z0-9_\-.]{0,125}[a-z0-9])?")
_DESCRIPTION = ".metadata.json"


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


@dataclass(frozen=True, slots=True)
class Package:
    """A package of a repository of model packages. repository: its URL, without a last slash."""

    repository: str
    name: str

    def __str__(self) -> str:
        return f"{self.repository}/{self.name}{_DESCRIPTION}"

    @property
    def folder_name(self) -> str:
        """Name its folder: packages of the same name differ by repository."""
        digest = hashlib.sha256(self.repository.encode()).hexdigest()
        return f"{self.name}@{digest[:16]}"

    @property
    def is_local(self) -> bool:
        """Whether its repository is a folder of this machine."""
        return self.repository.startswith("file:")

    @property
    def folder(self) -> Path:
        """Give the folder that is the repository, of one that is."""
        return Path(unquote(urlsplit(self.repository).path))


Source: TypeAlias = HubId | Folder | Package


def parse_hub_id(text: str) -> HubId | None:
    """Read `organisation/name` or `organisation/name@revision`; None for anything else."""
    match = _HUB_ID.fullmatch(text)
    if not match or len(match["repository"]) > _LONGEST_ID or ".." in text:
        return None
    if match["repository"].endswith(".git"):
        return None
    return HubId(match["repository"], match["revision"] or "main")


def parse_source(text: str, *, hub_url: str, model_id: str) -> Source:
    """Read where a model comes from. Raises `IllegalArgument`, which says what would be right."""
    if text.startswith(("/", "~/")):
        return Folder(Path(text).expanduser())
    hub = hub_url.rstrip("/") + "/"
    if text.startswith(hub):
        text = text.removeprefix(hub).rstrip("/").replace("/tree/", "@")
    elif "://" in text:
        return parse_package(text, model_id)
    hub_id = parse_hub_id(text)
    if hub_id is None:
        raise IllegalArgument(
            "a model comes from a hub id (organisation/name), a package repository (a URL) or an"
            f" absolute folder, got [{text}]"
        )
    return hub_id


def parse_package(url: str, model_id: str) -> Package:
    """Read the URL of a repository, or of the description of one of its packages.

    What is wrong with it is told without the URL, which may hold a secret then. Raises
    `IllegalArgument`.
    """
    try:
        parts = urlsplit(url)
        is_local = parts.scheme == "file"
        is_readable = parts.scheme in ("http", "https", "file") and is_local != bool(parts.hostname)
    except ValueError:
        is_readable = False
    if not is_readable:
        raise IllegalArgument(
            f"the package repository of the model [{model_id}] must be an http, https or file URL"
        )
    if "@" in parts.netloc or parts.query or parts.fragment or parts.path != parts.path.strip():
        raise IllegalArgument(
            f"the URL of the package repository of the model [{model_id}] must have no user,"
            " password, query and fragment"
        )
    repository, name = url.rstrip("/"), model_id.removeprefix(".")
    if url.endswith(_DESCRIPTION):
        repository, _, description = url.rpartition("/")
        name = description.removesuffix(_DESCRIPTION)
    if not _PACKAGE.fullmatch(name):
        raise IllegalArgument(
            f"[{name}] is no name of a package, which has lower-case letters, digits and [_-.]"
        )
    return Package(repository, name)
