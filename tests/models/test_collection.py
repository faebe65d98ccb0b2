"""What an operator does with models, and what is left on the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inferry.config import load_config
from inferry.errors import (
    IllegalArgument,
    NotFound,
    StoreFailure,
    UnreadableReply,
    UnusableModel,
)
from inferry.modeling import ModelSource, Progress, cache_of_folder
from inferry.models.collection import Collection, Listed, open_collection
from inferry.models.library import open_library
from tests.models.repositories import MODULE, PackageServer, package_files, serve_packages

ELSER = ".elser_model_2"
COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Machine:
    """A data directory and how it is configured. The commands change it, the server reads it."""

    top: Path
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def collection(self) -> Collection:
        return open_collection(self._config, {})

    def find(self, model_id: str) -> ModelSource | None:
        return open_library(self._config, {}).find(model_id)

    def pull(self, model_id: str, origin: str | Path | None = None) -> ModelSource:
        text = str(origin) if origin else None
        return self.collection.pull(model_id, text, report=self.hear, stop=threading.Event())

    def hear(self, progress: Progress) -> None:
        assert progress.done <= progress.total

    def rows(self) -> dict[str, Listed]:
        return {row.model_id: row for row in self.collection.rows()}

    def left(self) -> set[str]:
        """List the model files in the data directory."""
        top = self.top / "data/models"
        return {path.relative_to(top).as_posix() for path in top.rglob("model.safetensors")}

    def make_of(self, source: ModelSource) -> Path:
        """Have a worker keep something of a model, and give where."""
        place = cache_of_folder(self.top / "data/graphs", source.folder)
        place.mkdir(parents=True)
        return place

    @property
    def _config(self):
        flags = {f"models.{key}": value for key, value in self.keys.items()}
        flags["server.data_dir"] = "data"
        return load_config(flags, environment={}, working_directory=self.top).config


@pytest.fixture
def machine(hub, tmp_path) -> Machine:
    return Machine(tmp_path, {"hub_url": hub.url})


def test_a_hub_id_is_pulled_under_its_own_name(machine, repository):
    source = machine.pull("org/tiny")

    assert machine.find("org/tiny") == source
    assert machine.left() == {f"hub/org--tiny/{COMMIT}/model.safetensors"}


def test_a_model_of_the_vendor_is_pulled_from_somewhere_in_one_command(machine, repository, hub):
    for origin in ("org/tiny", f"{hub.url}/org/tiny"):
        machine.pull(ELSER, origin)

        found = machine.find(f"{ELSER}_linux-x86_64")
        assert found is not None
        assert found.folder.name == COMMIT
        machine.collection.remove(ELSER)


def test_a_model_of_the_vendor_wants_to_know_where_from(machine):
    with pytest.raises(NotFound, match=rf"`inferry models pull {ELSER} --from URL\|PATH\|HUB_ID`"):
        machine.pull(ELSER)


def test_from_a_folder_what_is_needed_is_copied(machine, repository_folder):
    source = machine.pull(ELSER, repository_folder)

    assert machine.find(ELSER) == source
    assert sorted(path.name for path in source.folder.rglob("*") if path.is_file()) == [
        *("config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json")
    ]
    assert (repository_folder / "pytorch_model.bin").exists()


def test_a_copy_is_replaced_by_the_next_one(machine, repository_folder):
    machine.pull("mine", repository_folder)
    (repository_folder / "model.safetensors").write_bytes(b"newer")

    source = machine.pull("mine", repository_folder)

    assert (source.folder / "model.safetensors").read_bytes() == b"newer"


def test_a_folder_that_lacks_something_leaves_nothing_behind(machine, repository_folder):
    (repository_folder / "model.safetensors").unlink()

    with pytest.raises(UnusableModel, match=r"\[pytorch_model.bin\] is a pickle"):
        machine.pull("mine", repository_folder)

    with pytest.raises(IllegalArgument):
        machine.find("mine")


def test_pulling_again_brings_what_is_newer(machine, repository, hub):
    machine.pull("mine", "org/tiny")
    repository.commit = "beef" * 10

    source = machine.pull("mine")

    assert source.folder.name == repository.commit
    assert machine.find("mine") == source


def test_what_is_pinned_and_here_is_not_asked_for_again(machine, repository, hub):
    machine.pull(f"org/tiny@{COMMIT}")
    hub.asked.clear()

    machine.pull(f"org/tiny@{COMMIT}")

    assert hub.asked == []


@pytest.mark.parametrize("origin", [None, "org/tiny"])
def test_with_never_a_command_downloads_nothing_either(machine, repository, hub, origin):
    machine.keys["allow_download"] = "never"

    with pytest.raises(IllegalArgument, match=r"\[models.allow_download\] is \[never\]"):
        machine.pull("org/tiny" if origin is None else "mine", origin)

    assert hub.asked == []


def test_with_builtin_the_operator_may_still_pull(machine, repository):
    machine.keys["allow_download"] = "builtin"

    assert machine.pull("org/tiny") == machine.find("org/tiny")


def test_a_folder_is_added_where_it_is(machine, repository_folder):
    machine.collection.add("mine", repository_folder)

    assert machine.find("mine") == ModelSource("mine", repository_folder)
    assert machine.left() == set()


def test_a_folder_that_is_no_model_is_not_added(machine, tmp_path):
    with pytest.raises(UnusableModel, match=r"\[config.json\] is missing"):
        machine.collection.add("mine", tmp_path)

    with pytest.raises(IllegalArgument):
        machine.find("mine")


@pytest.mark.parametrize("model_id", ["", "a b", "../a", "a/../b", "a=b", "a,b", "-a", "a/"])
def test_an_id_that_cannot_be_written_is_refused(machine, repository_folder, model_id):
    with pytest.raises(IllegalArgument, match="a model id has letters, digits"):
        machine.collection.add(model_id, repository_folder)


def test_what_the_configuration_says_is_changed_there(machine, repository_folder):
    machine.keys["aliases"] = f"mine={repository_folder}"

    for change in (
        lambda: machine.collection.add("mine", repository_folder),
        lambda: machine.pull("mine", repository_folder),
        lambda: machine.collection.remove("mine"),
    ):
        with pytest.raises(IllegalArgument, match="stands in the configuration"):
            change()


def test_what_was_added_is_forgotten_and_stays(machine, repository_folder):
    machine.collection.add("mine", repository_folder)

    machine.collection.remove("mine")

    assert (repository_folder / "model.safetensors").exists()
    with pytest.raises(IllegalArgument):
        machine.find("mine")


@pytest.mark.parametrize("from_folder", [True, False])
def test_what_was_pulled_is_deleted_with_what_was_made_of_it(
    machine, repository, repository_folder, from_folder
):
    source = machine.pull("mine", repository_folder if from_folder else "org/tiny")
    made_of_it = machine.make_of(source)

    machine.collection.remove("mine")

    assert machine.left() == set()
    assert not made_of_it.exists()


def test_every_revision_of_a_repository_is_deleted_with_what_was_made_of_it(machine, repository):
    made = [machine.make_of(machine.pull("org/tiny"))]
    repository.commit = "beef" * 10
    made.append(machine.make_of(machine.pull("org/tiny")))

    machine.collection.remove("org/tiny")

    assert made[0] != made[1]
    assert not any(one.exists() for one in made)


def test_a_copy_that_a_killed_command_left_aside_is_found_and_swept(machine, repository_folder):
    copy = machine.pull("mine", repository_folder).folder
    copy.rename(copy.with_name("mine@former"))
    copy.with_name("other@part").mkdir()

    found = machine.find("mine")
    machine.rows()

    assert found is not None
    assert found.folder == copy
    assert [*copy.parent.iterdir()] == [copy]


def test_a_copy_stays_where_the_next_one_cannot_be_written_down(machine, repository_folder):
    source = machine.pull("mine", repository_folder)
    (repository_folder / "model.safetensors").write_bytes(b"newer")
    (machine.top / "data/models/aliases.part").mkdir()

    with pytest.raises(StoreFailure, match=r"cannot write \[.*aliases.json\]"):
        machine.pull("mine", repository_folder)

    assert (source.folder / "model.safetensors").read_bytes() != b"newer"


def test_a_copy_that_a_killed_command_did_not_put_in_its_place_is_told_of(
    machine, repository_folder
):
    copy = machine.pull("mine", repository_folder).folder
    copy.rename(copy.with_name("mine@part"))

    row = machine.rows()["mine"]
    machine.collection.remove("mine")

    assert row.problem is not None
    assert "no such folder" in row.problem
    assert "mine" not in machine.rows()
    assert machine.left() == set()


def test_an_alias_that_is_no_source_any_more_can_be_removed(machine, repository_folder):
    machine.collection.add("mine", repository_folder)
    aliases = machine.top / "data/models/aliases.json"
    aliases.write_text('{"mine": "no source"}')

    machine.collection.remove("mine")

    assert "mine" not in machine.rows()


def test_a_download_that_another_id_stands_for_is_kept(machine, repository):
    machine.pull("mine", "org/tiny")
    machine.pull("yours", "org/tiny")

    with pytest.raises(IllegalArgument, match=r"in use, as \['mine', 'yours'\]"):
        machine.collection.remove("org/tiny")
    machine.collection.remove("mine")
    kept = machine.left()
    machine.collection.remove("yours")

    assert kept == {f"hub/org--tiny/{COMMIT}/model.safetensors"}
    assert machine.left() == set()


def test_what_a_command_said_of_an_id_of_the_configuration_keeps_no_download(machine, repository):
    machine.pull("mine", "org/tiny")
    machine.keys["aliases"] = "mine=org/another"

    machine.collection.remove("org/tiny")

    assert machine.left() == set()


def test_a_download_that_the_configuration_names_is_kept(machine, repository, repository_folder):
    machine.pull("org/tiny")
    machine.collection.add("mine", repository_folder)
    machine.keys["aliases"] = "mine=org/tiny"

    with pytest.raises(IllegalArgument, match=r"in use, as \['mine'\]"):
        machine.collection.remove("org/tiny")

    assert machine.find("org/tiny") is not None


def test_what_is_not_here_cannot_be_removed(machine):
    with pytest.raises(NotFound, match=r"\[org/tiny\] is not on this machine"):
        machine.collection.remove("org/tiny")


def test_what_is_not_ours_is_not_deleted(machine, repository_folder, tmp_path):
    machine.keys["path"] = str(tmp_path)

    with pytest.raises(IllegalArgument, match=rf"is in \[{repository_folder}\], which is not ours"):
        machine.collection.remove("repository")


def test_the_list_has_all_that_is_known_and_where_it_is(
    machine, repository, repository_folder, tmp_path
):
    machine.keys |= {"path": str(tmp_path), "aliases": f"gone={tmp_path}/gone"}
    machine.pull("org/tiny")
    machine.pull("mine", repository_folder)

    rows = machine.rows()

    assert set(rows) >= {ELSER, "org/tiny", "mine", "repository", "gone"}
    assert rows[ELSER] == Listed(ELSER, "")
    assert rows["org/tiny"].folder == tmp_path / "data/models/hub/org--tiny" / COMMIT
    assert rows["mine"].source == str(rows["mine"].folder)
    assert rows["mine"].size_bytes == sum(
        path.stat().st_size for path in rows["mine"].folder.rglob("*") if path.is_file()
    )
    assert "no such folder" in rows["gone"].problem


def test_models_below_the_directory_of_models_are_listed_by_their_path(
    machine, repository_folder, tmp_path
):
    top = tmp_path / "top"
    (top / "organisation").mkdir(parents=True)
    repository_folder.rename(top / "organisation/model")
    (top / "plain").mkdir()
    (top / "plain/config.json").write_text("{}")
    machine.keys["path"] = str(top)

    assert {"organisation/model", "plain"} <= set(machine.rows())


def test_a_download_that_has_an_id_is_listed_once(machine, repository):
    machine.pull("mine", "org/tiny")

    assert "org/tiny" not in machine.rows()


def test_a_place_that_cannot_be_written_is_named(machine, repository_folder, tmp_path):
    (tmp_path / "data").write_text("a file stands where the directory should be")

    with pytest.raises(StoreFailure, match=r"cannot copy \[.*\] to \[.*/data/models/copies/mine\]"):
        machine.pull("mine", repository_folder)


# --- packages ----------------------------------------------------------------------------------


@pytest.fixture
def site() -> Iterator[PackageServer]:
    with serve_packages(package_files("elser_model_2")) as running:
        yield running


def test_a_package_is_pulled_and_stands_behind_its_id(machine, site):
    source = machine.pull(ELSER, site.url)

    assert source.module is not None
    assert machine.find(ELSER) == source
    assert machine.find(f"{ELSER}_linux-x86_64") == source
    assert machine.rows()[ELSER].source == f"{site.url}/elser_model_2.metadata.json"


def test_another_package_may_stand_behind_an_id(machine, site):
    machine.pull("mine", f"{site.url}/elser_model_2.metadata.json")

    found = machine.find("mine")

    assert found is not None
    assert found.name == "mine"
    assert found.is_program


def test_pulling_a_package_again_brings_what_is_newer(machine, site):
    machine.pull(ELSER, site.url)
    site.files |= package_files("elser_model_2", b"newer")

    source = machine.pull(ELSER)

    assert [one.read_bytes() for one in source.folder.glob("*.pt")] == [b"newer"]


def test_a_package_that_another_id_has_too_stays(machine, site):
    origin = f"{site.url}/elser_model_2.metadata.json"
    machine.pull(ELSER, origin)
    machine.pull("mine", origin)

    machine.collection.remove(ELSER)
    assert machine.find("mine") is not None
    machine.collection.remove("mine")

    assert not [*(machine.top / "data/models/packages").glob("*@*/")]


def test_a_built_in_id_without_alias_is_looked_up_in_the_repository(machine, site):
    machine.keys["repository"] = site.url
    assert machine.find(ELSER) is None

    source = machine.pull(ELSER)

    assert machine.find(ELSER) == source
    machine.collection.remove(ELSER)
    assert machine.find(ELSER) is None


def test_with_never_only_a_repository_of_this_machine_is_read(machine, site, tmp_path):
    machine.keys["allow_download"] = "never"
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, content in site.files.items():
        (mirror / name).write_bytes(content)

    with pytest.raises(NotFound, match=r"\[models.allow_download\] is \[never\]"):
        machine.pull(ELSER, site.url)
    assert site.asked == []

    assert machine.pull(ELSER, mirror).module is not None


def test_a_package_that_cannot_be_used_changes_nothing(machine, site):
    machine.pull(ELSER, site.url)
    before = machine.find(ELSER)
    site.files["elser_model_2.metadata.json"] = b"{}"

    with pytest.raises(UnreadableReply):
        machine.pull(ELSER)

    assert machine.find(ELSER) == before


def test_a_package_of_the_repository_is_listed_under_its_id(machine, site):
    machine.keys["repository"] = site.url
    site.files |= package_files("mine")

    source = machine.pull(".mine")

    assert machine.rows()[".mine"].folder == source.folder


def test_a_package_that_the_configuration_led_to_is_listed_until_it_is_removed(machine, site):
    machine.keys["repository"] = site.url
    source = machine.pull(ELSER)
    made_of_it = machine.make_of(source)
    del machine.keys["repository"]

    row = machine.rows()[source.folder.name]
    machine.collection.remove(source.folder.name)

    assert row.folder == source.folder
    assert row.size_bytes is not None
    assert row.size_bytes > len(MODULE)
    assert row.problem == (
        f"no id leads to it any more; `inferry models remove {source.folder.name}` deletes it"
    )
    assert source.folder.name not in machine.rows()
    assert not source.folder.exists()
    assert not made_of_it.exists()


def test_what_an_id_leads_to_is_not_removed_by_the_name_of_its_folder(machine, site):
    source = machine.pull(ELSER, site.url)

    with pytest.raises(IllegalArgument):
        machine.collection.remove(source.folder.name)

    assert machine.find(ELSER) == source
