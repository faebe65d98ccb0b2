"""Folders as `_ml/trained_models` lists them: what their own files say of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from inferry.config import load_config
from inferry.errors import IllegalArgument
from inferry.models.hub_folders import HubFolders
from inferry.models.library import Library, open_library
from inferry.models.listing import list_folders
from inferry.models.sources import HubId
from inferry.records import TrainedModelRecord
from tests.files_read import files_read
from tests.models.folders import write_classifier, write_model, write_splade

COMMIT = "c0ffee" * 6 + "c0ff"


@pytest.fixture
def library(tmp_path) -> Library:
    flags = {"models.path": str(tmp_path / "models"), "server.data_dir": str(tmp_path / "data")}
    config = load_config(flags, environment={}, working_directory=tmp_path).config
    return open_library(config, {"HOME": str(tmp_path)})


def download(tmp_path: Path, folder: Path) -> None:
    """Put a folder where the download of a model leaves it."""
    folders, hub_id = HubFolders(tmp_path / "data/models/hub"), HubId("Org/Tiny")
    shutil.copytree(folder, folders.begin(hub_id, COMMIT), dirs_exist_ok=True)
    folders.finish(hub_id, COMMIT)


def listed(library: Library, *patterns: str) -> list[TrainedModelRecord]:
    return list_folders(library.ids, library.inventory, patterns or ("*",))


def test_each_says_what_it_is_for(library, tmp_path):
    write_model(tmp_path / "models/dense")
    write_splade(tmp_path / "models/sparse")
    write_classifier(tmp_path / "models/ranker")

    found = {one.model_id: one for one in listed(library)}

    tasks = {name: next(iter(one.config["inference_config"])) for name, one in found.items()}
    assert {name: tasks.get(name) for name in ("dense", "sparse", "ranker")} == {
        "dense": "text_embedding",
        "sparse": "text_expansion",
        "ranker": "text_similarity",
    }
    assert all(one.is_whole for one in found.values())


def test_a_download_has_the_id_that_eland_would_give_it_and_works_under_it(library, tmp_path):
    folder = write_model(tmp_path / "elsewhere")
    prompts = {"prompts": {"query": "query: ", "document": ""}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    download(tmp_path, folder)

    (record,) = (one for one in listed(library) if one.model_id == "org__tiny")

    assert record.config["metadata"] == {"source": "Org/Tiny", "revision": COMMIT}
    assert record.config["prefix_strings"] == {"search": "query: "}
    found, same = library.find("org__tiny"), library.find("Org/Tiny")
    assert found is not None
    assert same is not None
    assert found.folder == same.folder


def test_what_cannot_run_is_left_out(library, tmp_path):
    write_model(tmp_path / "models/dense")
    (tmp_path / "models/broken").mkdir()
    (tmp_path / "models/broken/config.json").write_text("{}")

    found = [one.model_id for one in listed(library)]

    assert "dense" in found
    assert "broken" not in found


@pytest.fixture
def three_models(tmp_path) -> dict[str, Path]:
    """Make models, and give their folders by the ids that they are listed under."""
    download(tmp_path, write_model(tmp_path / "elsewhere"))
    return {
        "dense": write_model(tmp_path / "models/dense"),
        "sparse": write_splade(tmp_path / "models/sparse"),
        "org__tiny": tmp_path / "data/models/hub/Org--Tiny",
    }


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("dense", {"dense"}),
        ("org__tiny", {"org__tiny"}),
        ("*s*", {"dense", "sparse"}),
        ("no", set()),
    ],
)
def test_no_file_is_read_of_models_that_are_not_asked_for(library, three_models, pattern, meant):
    with files_read() as files:
        found = {one.model_id for one in listed(library, pattern)}

    assert found == meant
    assert models_of(files, three_models) == meant


def test_an_id_of_nothing_is_refused_without_a_look_at_a_file_of_any_model(library, three_models):
    with files_read() as files, pytest.raises(IllegalArgument):
        library.find("nothing")

    assert models_of(files, three_models) == set()


def models_of(files: set[Path], models: dict[str, Path]) -> set[str]:
    return {
        name for name, folder in models.items() if any(one.is_relative_to(folder) for one in files)
    }
