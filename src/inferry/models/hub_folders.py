"""Folders with what was downloaded: our own, and the cache that other programs share.

    OURS/organisation--name/refs/main        the commit that a branch or tag stood for
    OURS/organisation--name/COMMIT/          whole and checked: it appears with its last file
    OURS/organisation--name/COMMIT.part/     what a download has so far

The shared cache is that of huggingface_hub, which fills a snapshot file by file
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache). It is only read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from inferry.errors import UnusableModel
from inferry.modeling import ModelSource
from inferry.models.file_lock import locked_by
from inferry.models.folder import ModelFolder
from inferry.models.selection import missing_files
from inferry.models.sources import HubId

_UNFINISHED = ".part"


class _Listing(msgspec.Struct):
    """What a repository has at a commit, as newer releases of huggingface_hub note it."""

    files: dict[str, msgspec.Raw]


class HubFolders:
    """What we downloaded. Methods that change something are called within `locked`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, hub_id: HubId) -> Path | None:
        """Give the folder of a model, None when it has to be downloaded first."""
        top = self._top(hub_id)
        commit = hub_id.revision if hub_id.is_commit else _read(_ref(top, hub_id))
        folder = top / commit if commit else None
        return folder if folder and folder.is_dir() else None

    def begin(self, hub_id: HubId, commit: str) -> Path:
        """Give the folder to download into, with what an earlier attempt left in it."""
        folder = self._top(hub_id) / f"{commit}{_UNFINISHED}"
        for abandoned in folder.parent.glob(f"*{_UNFINISHED}"):
            if abandoned != folder:
                shutil.rmtree(abandoned)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, hub_id: HubId, commit: str) -> Path:
        """Make what was downloaded, which is whole, the folder of its commit and revision."""
        top = self._top(hub_id)
        folder = top / commit
        if not folder.is_dir():
            (top / f"{commit}{_UNFINISHED}").replace(folder)
        if not hub_id.is_commit:
            ref = _ref(top, hub_id)
            ref.parent.mkdir(exist_ok=True)
            unfinished = top / f"ref{_UNFINISHED}"
            unfinished.write_text(commit)
            unfinished.replace(ref)
        return folder

    def remove(self, hub_id: HubId) -> bool:
        """Delete a repository with all its revisions, and tell whether there was one."""
        top = self._top(hub_id)
        is_there = top.is_dir()
        if is_there:
            shutil.rmtree(top)
        return is_there

    def commits(self, hub_id: HubId) -> Mapping[HubId, Path]:
        """Give the folder of every commit of a repository that is here."""
        found = {
            HubId(hub_id.repository, folder.name): folder
            for folder in sorted(self._top(hub_id).glob("*"))
        }
        return {one: folder for one, folder in found.items() if one.is_commit}

    def revisions(self, wants: Callable[[str], bool] = lambda _: True) -> Mapping[HubId, Path]:
        """Give the folder of every revision that is here and wanted.

        wants: tells that of a hub id; no file is read of repositories of which nothing is wanted.
        """
        found: dict[HubId, Path] = {}
        for top in sorted(self._directory.glob("*--*/")):
            repository = top.name.replace("--", "/", 1)
            named = [HubId(repository, unquote(ref.name)) for ref in sorted(top.glob("refs/*"))]
            pinned = self.commits(HubId(repository))
            if not any(wants(str(one)) for one in (*named, *pinned)):
                continue
            known = {one: folder for one in named if (folder := self.find(one))}
            for one, folder in pinned.items():
                if folder not in known.values():
                    known[one] = folder
            found |= {one: folder for one, folder in known.items() if wants(str(one))}
        return found

    @contextmanager
    def locked(self, hub_id: HubId) -> Iterator[None]:
        """Keep other processes from changing a repository; wait for one that does."""
        with locked_by(self._directory / f"{self._top(hub_id).name}.lock"):
            yield

    def _top(self, hub_id: HubId) -> Path:
        return self._directory / hub_id.repository.replace("/", "--")


def find_in_shared_cache(cache: Path, hub_id: HubId) -> Path | None:
    """Give the snapshot of a model in the cache of huggingface_hub, if nothing is missing in it.

    A snapshot has what programs asked for so far. It counts when its listing or its `modules.json`
    tells that no file that matters to the result is missing.
    """
    top = cache / f"models--{hub_id.repository.replace('/', '--')}"
    commit = hub_id.revision if hub_id.is_commit else _read(top / "refs" / hub_id.revision)
    snapshot = top / "snapshots" / commit if commit else top
    if not commit or not snapshot.is_dir():
        return None
    listing = _listing_of(top / "trees" / f"{commit}.json")
    if listing is None:
        listing = {str(file.relative_to(snapshot)) for file in snapshot.rglob("*")}
        if "modules.json" not in listing:  # is there none, or did nobody ask for it?
            return None
    try:
        folder = ModelFolder(ModelSource(str(hub_id), snapshot, within=cache))
        return None if missing_files(folder, listing) else snapshot
    except UnusableModel:
        return None


def cache_of_snapshot(folder: Path) -> Path | None:
    """Give the cache whose snapshot `folder` is, None for a folder that keeps its files itself."""
    is_snapshot = folder.parent.name == "snapshots" and folder.parents[1].name.startswith(
        "models--"
    )
    return folder.parents[2] if is_snapshot else None


def shared_cache(environment: Mapping[str, str]) -> Path:
    """Find the cache of huggingface_hub where its own variables put it."""
    home = Path(environment.get("HOME", "/"))
    caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    hugging_face = Path(environment.get("HF_HOME") or caches / "huggingface")
    return Path(environment.get("HF_HUB_CACHE") or hugging_face / "hub").expanduser()


def _ref(top: Path, hub_id: HubId) -> Path:
    return top / "refs" / quote(hub_id.revision, safe="")


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _listing_of(file: Path) -> set[str] | None:
    try:
        return set(msgspec.json.decode(file.read_bytes(), type=_Listing).files)
    except (OSError, msgspec.MsgspecError):
        return None
