"""Where the model of an id comes from, and what is said of an id of nothing."""

from __future__ import annotations

import pytest

from inferry.errors import IllegalArgument
from inferry.modeling import ModelSource
from inferry.models.aliases import AliasFile
from inferry.models.built_in import BuiltInModel
from inferry.models.sources import HubId
from tests.files_read import folders_read
from tests.models.libraries import E5, built_in, source_of


def test_an_alias_of_the_configuration_wins_over_everything(
    open_with, repository_folder, downloaded
):
    AliasFile(open_with.data_dir / "models/aliases.json").put("org/tiny", "org/another")

    library = open_with(aliases={"org/tiny": str(repository_folder), E5: "org/tiny"})

    assert source_of(library, "org/tiny") == ModelSource("org/tiny", repository_folder)
    assert source_of(library, E5).folder == downloaded


def test_what_a_command_wrote_down_is_seen_by_a_running_server(open_with, repository_folder):
    library = open_with()
    with pytest.raises(IllegalArgument):
        library.find("mine")

    AliasFile(open_with.data_dir / "models/aliases.json").put("mine", str(repository_folder))

    assert source_of(library, "mine") == ModelSource("mine", repository_folder)


def test_an_alias_that_is_no_source_is_named(open_with):
    with pytest.raises(IllegalArgument, match=r"got \[not-a-source\]"):
        open_with(aliases={"mine": "not-a-source"}).find("mine")


def test_the_id_of_a_platform_is_that_of_any(open_with, repository_folder):
    library = open_with(aliases={E5: str(repository_folder)})

    assert source_of(library, f"{E5}_linux-x86_64").folder == repository_folder


@pytest.mark.parametrize(
    "model_id", ["", "mine", ".elser_model_1", "a/b/c", "a\0b", "x" * 5000, "ä/ö"]
)
def test_an_id_of_nothing_is_refused_in_the_words_of_the_wire(open_with, tmp_path, model_id):
    message = "model id does not match any models available on this platform. Was"

    repository = {"repository": f"file://{tmp_path}"}
    for keys in ({}, {"path": str(tmp_path)}, {} if model_id.startswith(".") else repository):
        with pytest.raises(IllegalArgument, match=message):
            open_with(**keys).find(model_id)


@pytest.mark.parametrize("model_id", ["unknown", "nobody__tiny", "ORG__TINY"])
def test_an_id_of_nothing_is_told_without_a_look_into_any_model(
    open_with, tmp_path, downloaded, model_id
):
    (tmp_path / "models/org/mine").mkdir(parents=True)
    library = open_with(path=str(tmp_path / "models"))

    with folders_read() as folders, pytest.raises(IllegalArgument):
        library.find(model_id)

    assert folders == {tmp_path / "models", open_with.data_dir / "models/hub"}


def test_a_folder_wins_over_a_hub_id(open_with, tmp_path, downloaded):
    (tmp_path / "org/tiny").mkdir(parents=True)

    assert source_of(open_with(path=str(tmp_path)), "org/tiny").folder == tmp_path / "org/tiny"


def test_an_alias_of_a_pinned_model_is_another_model(open_with, monkeypatch, repository_folder):
    pinned = BuiltInModel(HubId("org/tiny"), checksums={"config.json": "0" * 64})
    demo = built_in(monkeypatch, pinned)

    found = source_of(open_with(aliases={demo: str(repository_folder)}), demo)

    assert found.checksums == {}
