"""A hub on loopback, a model for it, and what a machine has of both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory

from inferry.models.hub_folders import HubFolders
from inferry.models.sources import HubId
from tests.models.folders import BERT, MODULES, write_json
from tests.models.hubs import Hub, serve_hub
from tests.models.libraries import COMMIT, OpenLibrary

LARGE_BYTES = 1_000_000


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def repository_folder(tmp_path):
    """Make a folder as repositories are: whole, its weights large, with more than is needed."""
    folder = tmp_path / "repository"
    write_json(folder / "config.json", BERT)
    write_json(folder / "modules.json", MODULES)
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": "mean"})
    write_json(folder / "tokenizer.json", {})
    write_json(folder / "training_log.json", {})
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "model.safetensors").write_bytes(bytes(range(250)) * (LARGE_BYTES // 250))
    return folder


@pytest.fixture
def repository(hub, repository_folder):
    """Serve that folder as `org/tiny`."""
    return hub.add("org/tiny", repository_folder)


@pytest.fixture
def library_client() -> Iterator[None]:
    """Leave huggingface_hub as it was: it keeps its client, and who makes it, for the process."""
    yield
    huggingface_hub.set_client_factory(default_client_factory)


@pytest.fixture
def directory(tmp_path):
    """Name the place of downloads, which is not there yet."""
    return tmp_path / "data/hub"


@pytest.fixture
def open_with(tmp_path) -> OpenLibrary:
    return OpenLibrary(tmp_path)


@pytest.fixture
def downloaded(open_with, repository_folder) -> Path:
    """Put the folder where a download of `org/tiny` leaves it."""
    folders = HubFolders(open_with.data_dir / "models/hub")
    unfinished = folders.begin(HubId("org/tiny"), COMMIT)
    shutil.copytree(repository_folder, unfinished, dirs_exist_ok=True)
    return folders.finish(HubId("org/tiny"), COMMIT)
