"""Downloads as processes: shared, ended, begun again, and left alone by the environment."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inferry.errors import InternalError, ShuttingDown, UpstreamUnreachable
from inferry.modeling import Progress
from inferry.models import downloads as downloads_module
from inferry.models.downloads import Downloads, Site
from inferry.models.hub_folders import HubFolders
from inferry.models.sources import HubId

TINY = HubId("org/tiny")


@dataclass
class Asking:
    """Somebody who wants a model."""

    downloads: Downloads
    hub_id: HubId = TINY
    reports: list[Progress] = field(default_factory=list)
    waits: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    def fetch(self) -> Path:
        return self.downloads.fetch(
            self.hub_id, name="org/tiny", checksums={}, report=self.hear, stop=self.stop
        )

    def hear(self, progress: Progress) -> None:
        self.reports.append(progress)
        self.waits.set()


@pytest.fixture
def downloads(hub, directory) -> Downloads:
    return downloads_from(hub.url, directory)


def downloads_from(
    url: str, directory: Path, environment: Mapping[str, str] | None = None
) -> Downloads:
    return Downloads(
        Site(url, allow_private_networks=True),
        hub_models=directory,
        packages=directory.with_name("packages"),
        environment=environment or dict(os.environ),
    )


@contextmanager
def in_background(function: Callable[[], Path]) -> Iterator[Future[Path]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(function)


def test_a_model_is_downloaded_and_its_bytes_are_counted(repository, downloads, directory):
    one = Asking(downloads)

    folder = one.fetch()

    assert HubFolders(directory).find(TINY) == folder
    whole = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert one.reports[-1] == Progress(whole, whole)
    assert str(one.reports[-1]) == "1 of 2 MB"


def test_what_was_stopped_goes_on_in_the_next_download(hub, repository, downloads):
    hub.hold.clear()
    first = Asking(downloads)

    with in_background(first.fetch) as fetching:
        assert hub.held.wait(30)
        first.stop.set()
        with pytest.raises(ShuttingDown, match=r"download of the model \[org/tiny\] was stopped"):
            fetching.result()
        hub.hold.set()
    hub.asked.clear()
    Asking(downloads).fetch()

    assert hub.got(at="hub") == ["main", "model.safetensors"]


def test_the_environment_of_other_programs_does_not_count(hub, repository, directory, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_marker")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_USER_AGENT_ORIGIN", "marker")
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}

    Asking(downloads_from(hub.url, directory, environment)).fetch()

    assert {one.headers["user-agent"].partition("/")[0] for one in hub.asked} == {"inferry"}
    assert not [one for one in hub.asked if "authorization" in one.headers]


def test_two_who_want_the_same_model_share_one_download(hub, repository, downloads):
    hub.hold.clear()
    first, second = Asking(downloads), Asking(downloads)

    with in_background(first.fetch) as one, in_background(second.fetch) as other:
        assert first.waits.wait(30)
        assert second.waits.wait(30)
        hub.hold.set()
        assert one.result() == other.result()

    assert hub.got() == ["model.safetensors"]
    assert first.reports[-1] == second.reports[-1]


def test_who_leaves_does_not_take_the_download_from_the_others(hub, repository, downloads):
    hub.hold.clear()
    first, second = Asking(downloads), Asking(downloads)

    with in_background(first.fetch) as one, in_background(second.fetch) as other:
        assert second.waits.wait(30)
        first.stop.set()
        with pytest.raises(ShuttingDown):
            one.result()
        hub.hold.set()
        other.result()

    assert hub.got() == ["model.safetensors"]


def test_what_another_process_downloads_meanwhile_is_waited_for(
    hub, repository, downloads, directory
):
    folders = HubFolders(directory)

    with in_background(Asking(downloads).fetch) as fetching:
        with folders.locked(TINY):
            folders.begin(TINY, repository.commit)
            done = folders.finish(TINY, repository.commit)
        assert fetching.result() == done

    assert hub.got() == []


def test_a_failure_comes_with_its_cause(directory):
    with pytest.raises(UpstreamUnreachable, match="cannot be reached") as raised:
        Asking(downloads_from("http://127.0.0.1:1", directory)).fetch()

    assert "refused" in str(raised.value.__cause__)


def test_a_process_that_dies_is_an_error_of_ours(hub, repository, downloads):
    hub.hold.clear()

    with in_background(Asking(downloads).fetch) as fetching:
        assert hub.held.wait(30)
        (running,) = downloads._wanted.values()
        os.kill(running._process.pid, signal.SIGKILL)
        with pytest.raises(InternalError, match=r"ended with status \[-9\]"):
            fetching.result()


def test_a_few_come_at_once_and_the_others_in_their_turn(
    hub, repository_folder, directory, monkeypatch
):
    monkeypatch.setattr(downloads_module, "_MOST_AT_ONCE", 2)
    downloads = downloads_from(hub.url, directory)
    names = [f"org/tiny{number}" for number in range(4)]
    for name in names:
        hub.add(name, repository_folder)
    hub.hold.clear()
    asking = [Asking(downloads, hub_id=HubId(name)) for name in names]

    with ThreadPoolExecutor(len(asking)) as pool:
        fetching = [pool.submit(one.fetch) for one in asking]
        hub.wait_for(downloads=2)
        asking[-1].stop.set()
        with pytest.raises(ShuttingDown):
            fetching[-1].result()
        begun = len(hub.got())
        hub.hold.set()
        folders = {one.result() for one in fetching[:-1]}

    assert begun == 2
    assert len(folders) == 3
    assert len(hub.got()) == 3


def test_who_waits_for_a_turn_is_told_and_moves_up_when_another_leaves(
    hub, repository_folder, directory, monkeypatch
):
    monkeypatch.setattr(downloads_module, "_MOST_AT_ONCE", 1)
    downloads = downloads_from(hub.url, directory)
    names = [f"org/tiny{number}" for number in range(3)]
    for name in names:
        hub.add(name, repository_folder)
    hub.hold.clear()
    first, second, third = (Asking(downloads, hub_id=HubId(name)) for name in names)

    with in_background(first.fetch) as one:
        hub.wait_for(downloads=1)
        with in_background(second.fetch) as other, in_background(third.fetch) as last:
            assert second.waits.wait(30)
            assert third.waits.wait(30)
            third.waits.clear()
            second.stop.set()
            with pytest.raises(ShuttingDown):
                other.result()
            assert third.waits.wait(30)
            hub.hold.set()
            assert one.result() != last.result()

    told = [str(progress) for progress in third.reports if progress.ahead]
    assert [str(progress) for progress in second.reports] == ["waiting for 1 other downloads"]
    assert told == ["waiting for 2 other downloads", "waiting for 1 other downloads"]
    assert third.reports[-1].done == third.reports[-1].total > 0


def test_secrets_are_in_no_repr():
    access = Site("http://hub", token="hf_marker", proxy="http://user:marker@proxy")

    assert "marker" not in repr(access)
