"""What all deployments of a host share."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from inferry.concurrency import Nursery
from inferry.engine.controller import IDLE_S
from inferry.engine.cores import Cores
from inferry.modeling import ModelLibrary, ModelSource, ModuleFiles, Precision, cache_of_folder
from inferry.protocols import Publish
from inferry.sections import TelemetrySection

NoteViolation: TypeAlias = Callable[[str, str, str], Awaitable[None]]
"""Told the deployment and the model whose worker was ended, and for what."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all deployments of a host share.

    module: what a worker process runs. sockets, graphs: directories of sockets and of what workers
    keep, each in a folder of its own. private: what a worker may see nothing else of.
    memory_limit: bytes of one worker, 0 for no limit. start_timeout_s: to convert, and to load.
    idle_s: until what adapts has no allocation, see `controller`.
    loading, converting: held while a model loads, or a TorchScript module is converted, so that one
    that takes for ever does not hold up the others. preparing: held while that module is.
    """

    library: ModelLibrary
    publish: Publish
    nursery: Nursery
    cores: Cores
    module: str
    sockets: Path
    graphs: Path
    telemetry: TelemetrySection
    precision: Precision | str = "auto"
    memory_limit: int = 0
    start_timeout_s: float = 900.0
    idle_s: float = IDLE_S
    private: Path | None = None
    allow_unsandboxed: bool = False
    note_violation: NoteViolation | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    loading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    converting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    preparing: defaultdict[ModuleFiles, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )

    def cache_of(self, source: ModelSource) -> Path:
        """Make the folder that only workers of one model write to and read from."""
        folder = cache_of_folder(self.graphs, source.folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
