"""Built-in models on their way to this machine, for the supervisor; see `protocols.ModelSupply`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from inferry.concurrency import Nursery, in_own_thread
from inferry.domain import Json
from inferry.errors import InferenceError
from inferry.modeling import ModelSource, Progress
from inferry.models.library import Library
from inferry.models.listing import describe_folder, list_folders
from inferry.models.sources import Package
from inferry.records import StoredFile, Supplied, TrainedModelRecord
from inferry.telemetry import get_logger


@dataclass(slots=True)
class _Coming:
    """A model on its way. begun: it is known what it is, or it has ended."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    progress: str = ""


class Supply:
    """Implements `protocols.ModelSupply`. Use as an async context manager; leaving stops it all."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._nursery = Nursery()
        self._coming: dict[str, _Coming] = {}

    async def __aenter__(self) -> Supply:
        await asyncio.to_thread(self._library.inventory.copies.sweep)
        for name in await asyncio.to_thread(self._remains):
            get_logger().warning(
                "a package is here that no id leads to any more",
                folder=name,
                advice=f"`inferry models remove {name}` deletes it",
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for coming in self._coming.values():
            coming.stop.set()
        await self._nursery.drain()

    async def is_package(self, model_id: str) -> bool:
        """Tell whether an id stands for a package of a repository."""
        try:
            entry = await asyncio.to_thread(self._library.ids.look_up, model_id)
        except InferenceError:
            return False
        return isinstance(entry.source, Package)

    async def listed(self, patterns: Collection[str]) -> list[TrainedModelRecord]:
        """List the models of this machine that are folders; see `protocols.ModelSupply`."""
        return await asyncio.to_thread(
            list_folders, self._library.ids, self._library.inventory, patterns
        )

    async def bring(
        self, model_id: str, learn: Callable[[dict[str, Json]], Awaitable[None]]
    ) -> Supplied:
        """Download a model, unless it is here; see `protocols.ModelSupply`."""
        coming = self._coming[model_id] = _Coming()
        try:
            fetching = self._nursery.start(self._fetch(model_id, coming))
            await coming.begun.wait()
            if fetching.done():
                fetching.result()
            await learn(dict(await asyncio.to_thread(self._describe, model_id)))
            return await asyncio.to_thread(_supplied, await asyncio.shield(fetching))
        finally:
            coming.stop.set()
            del self._coming[model_id]
            coming.ended.set()

    def progress(self) -> dict[str, str]:
        """Tell of each model that comes how far it is."""
        return {model_id: one.progress for model_id, one in self._coming.items() if one.progress}

    async def remove(self, model_id: str) -> None:
        """Stop to bring a model, and delete the package that was downloaded for it."""
        coming = self._coming.get(model_id)
        if coming is not None:
            coming.stop.set()
            await coming.ended.wait()
        await asyncio.to_thread(self._remove, model_id)

    async def _fetch(self, model_id: str, coming: _Coming) -> ModelSource:
        loop = asyncio.get_running_loop()

        def note(progress: Progress) -> None:
            coming.progress = str(progress)
            if not progress.ahead:
                coming.begun.set()

        def report(progress: Progress) -> None:
            loop.call_soon_threadsafe(note, progress)

        try:
            return await in_own_thread(partial(self._library.fetch, model_id, report, coming.stop))
        finally:
            coming.begun.set()

    def _describe(self, model_id: str) -> Mapping[str, Json]:
        """Tell what a model is for: what its id promises, or its package or its folder says."""
        inventory, entry = self._library.inventory, self._library.ids.look_up(model_id)
        source = None if entry.built_in.config else next(inventory.folders_of(entry), None)
        return describe_folder(entry, source) if source else inventory.describe(entry)

    def _remains(self) -> list[str]:
        """Name what was downloaded of packages that the configuration does not lead to."""
        with suppress(InferenceError):  # of a file of aliases that cannot be read; others tell
            return [
                name
                for name, one in self._library.inventory.ids_of_packages().items()
                if one is None
            ]
        return []

    def _remove(self, model_id: str) -> None:
        inventory = self._library.inventory
        for name in inventory.packages_of(model_id):
            inventory.remove_package(name)


def _supplied(source: ModelSource) -> Supplied:
    """Tell what a model is made of."""
    if source.module is None:
        sizes = (one.stat().st_size for one in source.folder.rglob("*") if one.is_file())
        return Supplied(StoredFile("", sum(sizes)))
    files, folder = source.module, source.folder
    definition, vocabulary = (
        StoredFile(digest, (folder / name).stat().st_size)
        for digest, name in (
            (files.module, files.module_file),
            (files.vocabulary, files.vocabulary_file),
        )
    )
    return Supplied(definition, vocabulary)
