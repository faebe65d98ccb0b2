"""Model ids of the wire to folders: an uploaded model, else what is here, else a download.

`model_ids` says what an id leads to, `inventory` what of it is on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Literal

from inferry.bootstrap import environment_of_children
from inferry.config import Config
from inferry.domain import TaskType
from inferry.errors import IllegalArgument, NotFound
from inferry.modeling import GRAPHS_DIRECTORY, MODEL_TYPES, ModelSource, Progress
from inferry.models.aliases import AliasFile
from inferry.models.built_in import BUILT_IN
from inferry.models.copy_folders import CopyFolders
from inferry.models.downloads import Downloads, Site
from inferry.models.folder import ModelFolder
from inferry.models.hub_folders import HubFolders, shared_cache
from inferry.models.inventory import Inventory
from inferry.models.layout import read_layout, task_of
from inferry.models.model_ids import Entry, ModelIds
from inferry.models.package_folders import PackageFolders
from inferry.models.path_folders import PathFolders
from inferry.models.places import Places
from inferry.models.sources import HubId, Package
from inferry.models.torchscript.metadata import check_task_of, read_purpose
from inferry.models.uploads import UploadFolders, package_source
from inferry.telemetry import get_logger


class Library:
    """Implements `modeling.ModelLibrary`."""

    def __init__(
        self,
        ids: ModelIds,
        inventory: Inventory,
        *,
        uploads: UploadFolders,
        downloads: Downloads,
        allow_download: Literal["never", "builtin", "any"],
    ) -> None:
        self.ids = ids
        self.inventory = inventory
        self._uploads = uploads
        self._downloads = downloads
        self._allow_download = allow_download
        self._logged: dict[str, int] = {}

    def find(self, model_id: str) -> ModelSource | None:
        """Give what is on this machine; see `modeling.ModelLibrary`."""
        uploaded = self._uploads.find(model_id)
        if uploaded is not None:
            return uploaded
        entry = self.ids.look_up(model_id)
        found = self.inventory.find(entry)
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
        entry = self.ids.look_up(model_id)
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

        return self.download(self.ids.look_up(model_id), report_change, stop)

    def download(
        self, entry: Entry, report: Callable[[Progress], None], stop: Event
    ) -> ModelSource:
        """Download a model, or what is newer of it."""
        assert isinstance(entry.source, HubId | Package)
        folder = self._downloads.fetch(
            entry.source, name=entry.model_id, checksums=entry.checksums, report=report, stop=stop
        )
        if isinstance(entry.source, HubId):
            return self.inventory.source_in(folder, entry)
        source = package_source(entry.model_id, folder)
        assert source is not None
        return source

    def check_download(self, entry: Entry, *, is_request: bool) -> None:
        """Raise, with the command that helps, unless the model may be downloaded.

        is_request: a request of the wire wants it, rather than the operator.
        """
        allowed = self._allow_download
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


def open_library(config: Config, environment: Mapping[str, str]) -> Library:
    """Make the library of this machine. environment: of this process."""
    places = Places(config.data_dir / "models")
    outbound, models = config.outbound, config.models
    site = Site(
        url=models.hub_url.rstrip("/"),
        token=models.hub_token,
        proxy=outbound.proxy,
        ca_file=outbound.ca_file,
        connect_timeout_s=outbound.connect_timeout_s,
        allow_hosts=outbound.allow_hosts,
        allow_private_networks=config.allows_private_networks,
    )
    path = PathFolders(Path(models.path) if models.path is not None else None)
    hub = HubFolders(places.hub)
    ids = ModelIds(models, added=AliasFile(places.aliases), path=path, hub=hub)
    return Library(
        ids,
        Inventory(
            ids,
            path=path,
            hub=hub,
            packages=PackageFolders(places.packages),
            copies=CopyFolders(places.copies),
            shared_cache=shared_cache(environment),
            graphs=config.data_dir / GRAPHS_DIRECTORY,
        ),
        uploads=UploadFolders(places.uploads),
        downloads=Downloads(
            site,
            hub_models=places.hub,
            packages=places.packages,
            environment=environment_of_children(environment),
        ),
        allow_download=models.allow_download,
    )
