"""What an operator does with the models of a machine: list, pull, add and remove them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from inferry.config import Config
from inferry.errors import IllegalArgument, InferenceError, NotFound
from inferry.modeling import ModelSource, Progress
from inferry.models.built_in import BUILT_IN, without_platform
from inferry.models.closeness import Closeness
from inferry.models.copying import copy_needed, paths_in
from inferry.models.folder import ModelFolder
from inferry.models.hub_folders import cache_of_snapshot
from inferry.models.library import Library, open_library
from inferry.models.model_ids import Entry
from inferry.models.quantization import Recipe, quantize_folder
from inferry.models.samples import Sample
from inferry.models.selection import missing_files
from inferry.models.sources import Folder, HubId, Package, Source, parse_package

_ID = re.compile(r"\.?[A-Za-z0-9](?:[\w./@-]*\w)?", re.ASCII)
_BUILT_IN_REPOSITORIES = {one.hub_id.repository for one in BUILT_IN.values() if one.hub_id}


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that is known. folder: None when it is not on this machine.

    source: where it comes from, in words of the configuration. problem: why it cannot be used.
    """

    model_id: str
    source: str
    folder: Path | None = None
    size_bytes: int | None = None
    problem: str | None = None


class Collection:
    """The models of this machine."""

    def __init__(self, library: Library, config: Config) -> None:
        self._library = library
        self._ids = library.ids
        self._inventory = library.inventory
        self._configured = config.models.aliases
        self._copies = library.inventory.copies

    def rows(self) -> list[Listed]:
        """List what is known: aliases, built-in ids, what is below `models.path`, downloads.

        A package that no id leads to any more is listed under the name of its folder.
        """
        packages = self._inventory.ids_of_packages()
        led_to = filter(None, packages.values())
        ids = dict.fromkeys((*self._ids.given(), *led_to, *self._inventory.path.names()))
        rows = [self._row(model_id) for model_id in ids]
        shown = {row.folder for row in rows}
        downloaded = self._inventory.hub.revisions()
        rows += [self._row(str(one)) for one, folder in downloaded.items() if folder not in shown]
        rows += [self._row_of_remains(name) for name, one in packages.items() if one is None]
        return sorted(rows, key=lambda row: row.model_id)

    def pull(
        self,
        model_id: str,
        origin: str | None,
        *,
        report: Callable[[Progress], None],
        stop: Event,
    ) -> ModelSource:
        """Bring a model to this machine: download it, or what is newer of it, or copy it.

        origin: where it comes from, from now on; None where that is known.
        """
        if origin is not None:
            return self._pull_from(without_platform(model_id), origin, report, stop)
        return self._bring(self._ids.look_up(model_id), report, stop)

    def add(self, model_id: str, folder: Path) -> ModelSource:
        """Let an id stand for a folder, which stays where it is. Raises `UnusableModel`."""
        model_id = without_platform(model_id)
        self._check_name(model_id)
        source = ModelSource(model_id, folder, within=cache_of_snapshot(folder))
        missing_files(ModelFolder(source), paths_in(folder))
        self._ids.added.put(model_id, str(folder))
        return source

    def quantize(
        self, model_id: str, new_id: str, sample: Sample, recipe: Recipe
    ) -> tuple[ModelSource, Closeness]:
        """Make a model in 8-bit integers of one that is here, and tell how close it is.

        Raises `IllegalArgument`, `NotFound`, `UnusableModel`.
        """
        new_id = without_platform(new_id)
        self._check_name(new_id)
        if new_id == without_platform(model_id):
            raise IllegalArgument(
                f"the model [{model_id}] would take its own place: give another id"
            )
        source = self._inventory.find(self._ids.look_up(model_id))
        if source is None:
            raise NotFound(
                f"the model [{model_id}] is not on this machine: `inferry models pull {model_id}`"
                " brings it"
            )
        with self._making(new_id, f"write the model [{new_id}] to") as unfinished:
            closeness = quantize_folder(source, sample, unfinished, recipe)
        return ModelSource(new_id, self._copies.folder(new_id)), closeness

    def remove(self, model_id: str) -> None:
        """Forget what a command said of an id, and delete what we downloaded or copied for it.

        model_id: also the name under which the remains of a package are listed.
        """
        model_id = without_platform(model_id)
        self._check_name(model_id)
        packages = self._inventory.ids_of_packages()
        if model_id in packages and packages[model_id] is None:
            self._inventory.remove_package(model_id)
            return
        if model_id in self._ids.aliases():
            self._forget(model_id)
            return
        entry = self._ids.look_up(model_id)
        if isinstance(entry.source, HubId | Package):
            if ids := self._ids_of(entry.source):
                raise IllegalArgument(f"the model [{model_id}] is in use, as {ids}: remove those")
            if self._delete(entry.source):
                return
        here = self._inventory.find(entry)
        if here is not None:
            raise IllegalArgument(
                f"the model [{model_id}] is in [{here.folder}], which is not ours to delete"
            )
        raise NotFound(f"the model [{model_id}] is not on this machine")

    def _pull_from(
        self, model_id: str, origin: str, report: Callable[[Progress], None], stop: Event
    ) -> ModelSource:
        self._check_name(model_id)
        source = self._ids.parse(origin, model_id)
        if isinstance(source, Folder):
            source = _package_in(source.path, model_id) or source
        if isinstance(source, Folder):
            self._copy(model_id, source.path)
        else:
            name = str(source) if isinstance(source, HubId) else model_id
            self._bring(Entry(name, "hub", source), report, stop)
            self._ids.added.put(model_id, str(source))
        found = self._library.find(model_id)
        assert found is not None
        return found

    def _bring(self, entry: Entry, report: Callable[[Progress], None], stop: Event) -> ModelSource:
        here = self._inventory.find(entry)
        is_pinned = isinstance(entry.source, HubId) and entry.source.is_commit
        if here is not None and (is_pinned or isinstance(entry.source, Folder)):
            return here  # nothing can be newer
        self._library.check_download(entry, is_request=False)
        return self._library.download(entry, report, stop)

    def _copy(self, model_id: str, folder: Path) -> None:
        """Copy what is needed of a folder, and let the id stand for the copy."""
        source = ModelSource(model_id, folder, within=cache_of_snapshot(folder))
        with self._making(model_id, f"copy [{folder}] to") as unfinished:
            copy_needed(source, unfinished, paths_in(folder))

    @contextmanager
    def _making(self, model_id: str, deed: str) -> Iterator[Path]:
        """Give a folder to fill, for which the id stands then."""
        with self._copies.changing(model_id, deed), self._copies.filling(model_id) as unfinished:
            yield unfinished
            # Before the exchange: if we were killed between them, nothing would lead to the copy.
            self._ids.added.put(model_id, str(self._copies.folder(model_id)))

    def _ids_of(self, source: HubId | Package) -> list[str]:
        """List the aliases that stand for a repository of the hub, or for a package."""
        found = []
        for model_id, text in self._ids.aliases().items():
            with suppress(IllegalArgument):  # one that is wrong stands for nothing
                if _is_same(self._ids.parse(text, model_id), source):
                    found.append(model_id)
        return found

    def _forget(self, model_id: str) -> None:
        """Take an alias back, and delete what we downloaded or copied for it alone."""
        source: Source | None = None
        with suppress(IllegalArgument):  # one that is wrong stands for nothing
            source = self._ids.look_up(model_id).source
        if isinstance(source, HubId | Package):
            self._ids.added.remove(model_id)
            if not self._ids_of(source) and not _is_built_in(source):
                self._delete(source)
            return
        with self._copies.changing(model_id, "delete the copy"):
            self._inventory.remove_copy(model_id)
            self._ids.added.remove(model_id)

    def _delete(self, source: HubId | Package) -> bool:
        if isinstance(source, HubId):
            return self._inventory.remove_repository(source)
        is_there = self._inventory.packages.find(source) is not None
        self._inventory.remove_package(source.folder_name)
        return is_there

    def _check_name(self, model_id: str) -> None:
        """Refuse ids that cannot be given, and those that the configuration gives."""
        if not _ID.fullmatch(model_id) or ".." in model_id:
            raise IllegalArgument(
                f"a model id has letters, digits and [._-/@] between them, got [{model_id}]"
            )
        if model_id in self._configured:
            raise IllegalArgument(
                f"where the model [{model_id}] comes from stands in the configuration, in"
                " [models.aliases]: change it there"
            )

    def _row(self, model_id: str) -> Listed:
        try:
            entry = self._ids.look_up(model_id)
            found = self._inventory.find(entry)
        except InferenceError as error:
            return Listed(model_id, "", problem=str(error))
        source = str(entry.source or "")
        if found is None:
            return Listed(model_id, source)
        return Listed(model_id, source, found.folder, _size_bytes(found.folder))

    def _row_of_remains(self, name: str) -> Listed:
        folder = self._inventory.packages.folder_of(name)
        problem = f"no id leads to it any more; `inferry models remove {name}` deletes it"
        return Listed(name, "", folder, _size_bytes(folder), problem)


def open_collection(config: Config, environment: Mapping[str, str]) -> Collection:
    """Make the collection of this machine. environment: of this process."""
    library = open_library(config, environment)
    library.inventory.copies.sweep()
    return Collection(library, config)


def _is_built_in(source: HubId | Package) -> bool:
    """Tell whether a built-in id comes from there by itself."""
    return isinstance(source, HubId) and source.repository in _BUILT_IN_REPOSITORIES


def _is_same(one: Source, other: Source) -> bool:
    """Tell whether two sources are kept in the same place: revisions of a hub id are."""
    if isinstance(one, HubId) and isinstance(other, HubId):
        return one.repository == other.repository
    return one == other


def _package_in(folder: Path, model_id: str) -> Package | None:
    """Give the package of a model in a folder that is a repository of packages, None in others."""
    if not any(folder.glob("*.metadata.json")):
        return None
    return parse_package(folder.as_uri(), model_id)


def _size_bytes(folder: Path) -> int:
    return sum((folder / path).stat().st_size for path in paths_in(folder))
