"""What a model id of the wire leads to: where its model comes from, whether or not it is here.

The first that knows an id wins:

1. `models.aliases`, then what `inferry models` wrote down
2. the built-in ids: where they come from by themselves, else the package in `models.repository`
3. a folder below `models.path`
4. a hub id
5. another id that begins with a dot: the package in `models.repository`
6. the id under which `_ml/trained_models` lists one of 3 or 4 that is on this machine

Looking needs no network and never waits for one.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from inferry.errors import IllegalArgument
from inferry.modeling import listed_id
from inferry.models.aliases import AliasFile
from inferry.models.built_in import BUILT_IN, BuiltInModel, without_platform
from inferry.models.hub_folders import HubFolders
from inferry.models.path_folders import PathFolders
from inferry.models.sources import (
    Folder,
    Package,
    Source,
    parse_hub_id,
    parse_package,
    parse_source,
)
from inferry.sections import ModelsSection

_LONGEST_SHOWN = 128  # of an id of nothing, which may be any text

Origin: TypeAlias = Literal["alias", "built-in", "repository", "path", "hub"]


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


class ModelIds:
    """The ids of this machine, and what each leads to. added: what commands wrote down of them."""

    def __init__(
        self,
        section: ModelsSection,
        *,
        added: AliasFile,
        path: PathFolders,
        hub: HubFolders,
    ) -> None:
        self._section = section
        self.added = added
        self._path = path
        self._hub = hub

    def look_up(self, model_id: str) -> Entry:
        """Tell where the model of an id comes from. Raises `IllegalArgument` for no model's id."""
        model_id = without_platform(model_id)
        alias = self.aliases().get(model_id)
        if alias is not None:
            return Entry(model_id, "alias", self.parse(alias, model_id))
        if model_id in BUILT_IN:
            source = BUILT_IN[model_id].hub_id or self._package(model_id)
            return Entry(model_id, "built-in", source)
        folder = self._path.find(model_id)
        if folder is not None:
            return Entry(model_id, "path", Folder(folder))
        hub_id = parse_hub_id(model_id)
        if hub_id is not None:
            return Entry(model_id, "hub", hub_id)
        package = self._package(model_id) if model_id.startswith(".") else None
        if package is not None:
            return Entry(model_id, "repository", package)
        listed = self._of_folders(lambda name: listed_id(name) == model_id != name)
        if (name := next(listed, None)) is not None:
            return self.look_up(name)
        raise IllegalArgument(
            "Error parsing request config, model id does not match any models available on this"
            f" platform. Was [{model_id[:_LONGEST_SHOWN]}]. `inferry models list` shows those on"
            " this machine, and a hub id (organisation/name) any other"
        )

    def aliases(self) -> Mapping[str, str]:
        """Tell by id what was said of where its model comes from: the configuration wins."""
        return ChainMap(dict(self._section.aliases), self.added.read())

    def parse(self, alias: str, model_id: str) -> Source:
        """Read what was said of an id. Raises `IllegalArgument`."""
        return parse_source(alias, hub_url=self._section.hub_url, model_id=model_id)

    def given(self) -> list[str]:
        """Name the built-in ids and the aliases, wherever their models are."""
        return list(dict.fromkeys((*BUILT_IN, *self.aliases())))

    def of_folders(self, wants: Callable[[str], bool]) -> list[str]:
        """Name what may be a folder of this machine and is wanted: aliases, folders, downloads.

        Not ids that begin with a dot, which are put before they are listed.
        """
        named = (*filter(wants, self.given()), *self._of_folders(wants))
        return list(dict.fromkeys(one for one in named if not one.startswith(".")))

    def leads_to(self, model_id: str, folder_name: str) -> bool:
        """Tell whether an id stands for the package of a folder of `PackageFolders`."""
        try:
            source = self.look_up(model_id).source
        except IllegalArgument:
            return False
        return isinstance(source, Package) and source.folder_name == folder_name

    def _of_folders(self, wants: Callable[[str], bool]) -> Iterator[str]:
        yield from filter(wants, self._path.names())
        yield from map(str, self._hub.revisions(wants))

    def _package(self, model_id: str) -> Package | None:
        """Give the package of an id in `models.repository`, None without one."""
        repository = self._section.repository
        return parse_package(repository, model_id) if repository else None
