"""Built-in models on their way to a machine: what is known of them, how far they are, their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from inferry.config import load_config
from inferry.domain import Json
from inferry.errors import BadRequest, NotFound, ShuttingDown
from inferry.modeling import cache_of_folder
from inferry.models.library import Library, open_library
from inferry.models.supply import Supply
from inferry.records import StoredFile
from tests.models.repositories import MODULE, PackageServer, package_files, serve_packages

ELSER, E5 = ".elser_model_2", ".multilingual-e5-small"


@pytest.fixture
def site() -> Iterator[PackageServer]:
    with serve_packages(package_files("elser_model_2")) as running:
        yield running


@pytest.fixture
def library(site, hub, tmp_path) -> Library:
    keys = {"repository": site.url, "hub_url": hub.url, "aliases": f"{E5}=org/tiny"}
    flags = {f"models.{name}": value for name, value in keys.items()}
    flags["server.data_dir"] = str(tmp_path / "data")
    config = load_config(flags, environment={}, working_directory=tmp_path).config
    return open_library(config, {})


@pytest.fixture
async def supply(library) -> AsyncIterator[Supply]:
    async with Supply(library) as supply:
        yield supply


class Learning:
    """Somebody who is told what a model is."""

    def __init__(self) -> None:
        self.has_learned = asyncio.Event()
        self.config: dict[str, Any] = {}

    async def __call__(self, config: dict[str, Json]) -> None:
        self.config = config
        self.has_learned.set()


async def test_a_package_is_known_before_it_is_here(supply, site, library):
    site.hold.clear()
    learning = Learning()

    async with asyncio.TaskGroup() as group:
        bringing = group.create_task(supply.bring(ELSER, learning))
        await learning.has_learned.wait()
        progress = supply.progress()
        assert library.find(ELSER) is None
        site.hold.set()

    assert learning.config["packaged_model_id"] == "elser_model_2"
    assert learning.config["inference_config"] == {"text_expansion": {"tokenization": {"bert": {}}}}
    assert ELSER in progress
    assert bringing.result().definition.size_bytes == len(MODULE)
    assert bringing.result().vocabulary is not None
    assert library.find(ELSER) is not None
    assert supply.progress() == {}


async def test_a_model_of_a_hub_is_what_its_id_promises(supply, repository):
    learning = Learning()

    supplied = await supply.bring(E5, learning)

    assert learning.config["prefix_strings"] == {"search": "query: ", "ingest": "passage: "}
    assert list(learning.config["inference_config"]) == ["text_embedding"]
    assert supplied.vocabulary is None
    assert supplied.definition == StoredFile("", supplied.definition.size_bytes)


async def test_only_packages_are_packages(supply):
    assert await supply.is_package(ELSER)
    assert not await supply.is_package(E5)
    assert not await supply.is_package("nothing at all")


async def test_what_does_not_come_says_why(supply, site):
    with pytest.raises(BadRequest, match="Failed to find package"):
        await supply.bring(".nowhere", Learning())

    site.files.clear()
    with pytest.raises(BadRequest, match="Failed to find package"):
        await supply.bring(ELSER, Learning())


async def test_a_removed_model_is_stopped_and_gone_with_what_was_made_of_it(
    supply, site, library, tmp_path
):
    await supply.bring(ELSER, Learning())
    source = library.find(ELSER)
    assert source is not None
    graphs = cache_of_folder(tmp_path / "data/graphs", source.folder)
    graphs.mkdir(parents=True)

    await supply.remove(ELSER)

    assert not graphs.exists()
    assert not source.folder.exists()


async def test_a_model_that_is_removed_while_it_comes_is_stopped(supply, site, library, tmp_path):
    site.hold.clear()
    learning = Learning()

    async def bring() -> None:
        with pytest.raises(ShuttingDown):
            await supply.bring(ELSER, learning)

    async with asyncio.TaskGroup() as group:
        group.create_task(bring())
        await learning.has_learned.wait()
        await supply.remove(ELSER)
    site.hold.set()

    assert library.find(ELSER) is None
    packages = tmp_path / "data/models/packages"
    assert list(packages.iterdir()) == []


async def test_a_repository_that_is_nowhere_configured_is_asked_for(tmp_path):
    config = load_config({}, environment={}, working_directory=tmp_path).config
    async with Supply(open_library(config, {})) as supply:
        with pytest.raises(NotFound, match=r"inferry models pull \.elser_model_2 --from"):
            await supply.bring(ELSER, Learning())
