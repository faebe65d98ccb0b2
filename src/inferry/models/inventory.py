"""What is here of the models that ids lead to.

A model of a hub is, first of all, what we downloaded, else what is in the cache of huggingface_hub,
else what an installed Python package carries.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from inferry.domain import Json
from inferry.errors import NotFound, UnusableModel
from inferry.modeling import ModelSource, cache_of_folder
from inferry.models.copy_folders import CopyFolders
from inferry.models.folder import ModelFolder
from inferry.models.hub_folders import HubFolders, cache_of_snapshot, find_in_shared_cache
from inferry.models.model_ids import Entry, ModelIds
from inferry.models.package_folders import PackageFolders
from inferry.models.path_folders import PathFolders
from inferry.models.sources import Folder, HubId, Package
from inferry.models.uploads import package_source


class Inventory:
    """The models of this machine, but for uploads.

    shared_cache: that of huggingface_hub. graphs: where workers keep what they made of models.
    """

    def __init__(
        self,
        ids: ModelIds,
        *,
        path: PathFolders,
        hub: HubFolders,
        packages: PackageFolders,
        copies: CopyFolders,
        shared_cache: Path,
        graphs: Path,
    ) -> None:
        self._ids = ids
        self.path = path
        self.hub = hub
        self.packages = packages
        self.copies = copies
        self._shared_cache = shared_cache
        self._graphs = graphs

    def find(self, entry: Entry) -> ModelSource | None:
        """Give the first folder that has the model. Raises `UnusableModel` for a wrong alias."""
        if isinstance(entry.source, Package):
            here = self.packages.find(entry.source)
            return package_source(entry.model_id, here) if here else None
        for source in self.folders_of(entry):
            if isinstance(entry.source, Folder):
                ModelFolder(source)
                return source
            try:
                ModelFolder(source).check_digests()
            except UnusableModel:
                continue  # somebody changed it: it is another model now
            return source
        return None

    def folders_of(self, entry: Entry) -> Iterator[ModelSource]:
        """Give the folders where a model is on this machine, unread; a package is in none."""
        for place in self._places_of(entry):
            yield self.source_in(place, entry)

    def source_in(self, folder: Path, entry: Entry) -> ModelSource:
        """Give the model of an id in a folder that has it."""
        top = self.path.top if entry.origin == "path" else None
        return ModelSource(
            entry.model_id,
            folder,
            within=top or cache_of_snapshot(folder),
            prompts=entry.built_in.prompts,
            truncation=entry.built_in.truncation,
            checksums=entry.checksums,
        )

    def describe(self, entry: Entry) -> Mapping[str, Json]:
        """Tell what a model is for, in the form of the body of `PUT _ml/trained_models`.

        It is here, or on its way. Raises `NotFound` for a model that does not say it.
        """
        found = entry.built_in.config
        if isinstance(entry.source, Package):
            found = self.packages.description(entry.source) or found
        if not found:
            raise NotFound(f"No known trained model with model_id [{entry.model_id}]")
        return found

    def ids_of_packages(self) -> Mapping[str, str | None]:
        """Tell of all that was downloaded of packages which id leads to it, None where none does.

        By the name of its folder. The configuration of an earlier server may have had one.
        """
        given = self._ids.given()
        found: dict[str, str | None] = {}
        for name in self.packages.names():
            ids = (f".{name.rpartition('@')[0]}", *given)
            found[name] = next((one for one in ids if self._ids.leads_to(one, name)), None)
        return found

    def packages_of(self, model_id: str) -> Sequence[str]:
        """Name the folders of packages that an id leads to, and of those it led to once.

        That is: of those with its name, to which no id leads any more.
        """
        own = model_id.removeprefix(".")
        return [
            name
            for name, led_by in self.ids_of_packages().items()
            if (led_by is None and name.rpartition("@")[0] == own)
            or self._ids.leads_to(model_id, name)
        ]

    def remove_package(self, name: str) -> None:
        """Delete a package with what was made of it. name: of its folder, which may be gone."""
        self._remove_made_of(self.packages.folder_of(name))
        self.packages.remove(name)

    def remove_repository(self, hub_id: HubId) -> bool:
        """Delete all revisions that we downloaded, and what was made of them; tell if any were."""
        with self.hub.locked(hub_id):
            for folder in self.hub.commits(hub_id).values():
                self._remove_made_of(folder)
            return self.hub.remove(hub_id)

    def remove_copy(self, model_id: str) -> None:
        """Delete the copy of an id with what was made of it; call it within `copies.changing`."""
        self._remove_made_of(self.copies.folder(model_id))
        self.copies.remove(model_id)

    def _remove_made_of(self, folder: Path) -> None:
        shutil.rmtree(cache_of_folder(self._graphs, folder), ignore_errors=True)

    def _places_of(self, entry: Entry) -> Iterator[Path]:
        if isinstance(entry.source, Folder):
            self.copies.mend(entry.source.path)
            yield entry.source.path
        if isinstance(entry.source, HubId):
            downloaded = self.hub.find(entry.source)
            if downloaded:
                yield downloaded
            cached = find_in_shared_cache(self._shared_cache, entry.source)
            if cached:
                yield cached
        if entry.origin == "built-in" and entry.built_in.package:
            spec = find_spec(entry.built_in.package)  # which does not import it
            for place in (spec and spec.submodule_search_locations) or ():
                yield Path(place) / "model"
