"""Model folders from strangers: what is wrong is named, and nothing outside is read."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from inferry.errors import UnusableModel
from inferry.modeling import ModelSource
from inferry.models.folder import MAX_JSON_BYTES, ModelFolder


class Shape(msgspec.Struct):
    """What the tests read."""

    size: int


@pytest.fixture
def top(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"size": 3}')
    (tmp_path / "secret.json").write_text('{"size": 4}')
    return folder


@pytest.fixture
def folder(top):
    return ModelFolder(ModelSource("demo", top))


def test_a_file_is_read_in_the_shape_that_is_asked_for(folder):
    assert folder.read_json("config.json", Shape) == Shape(3)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnusableModel, match=r"The model \[demo\] .*no such folder.*/nowhere\]"):
        ModelFolder(ModelSource("demo", tmp_path / "nowhere"))


def test_a_missing_file_is_named(folder):
    with pytest.raises(UnusableModel, match=r"\[tokenizer.json\] is missing"):
        folder.file("tokenizer.json")


@pytest.mark.parametrize(
    "path",
    ["../secret.json", "a/../../secret.json", "/etc/passwd", "", "a\\..\\b", "config.json\0", ".."],
)
def test_a_path_that_leads_out_is_refused_whether_the_file_is_there_or_not(folder, path):
    with pytest.raises(UnusableModel, match="is no path within the folder"):
        folder.file(path)
    with pytest.raises(UnusableModel, match="is no path within the folder"):
        folder.has(path)


def test_a_link_that_leads_out_is_refused(folder, top):
    (top / "modules.json").symlink_to("../secret.json")

    with pytest.raises(UnusableModel, match="is a link that leads out of the folder"):
        folder.file("modules.json")


def test_a_folder_that_is_a_link_out_is_refused(folder, top):
    (top / "1_Pooling").symlink_to("..")

    with pytest.raises(UnusableModel, match="leads out"):
        folder.file("1_Pooling/secret.json")


def test_a_link_within_is_followed(folder, top):
    (top / "modules.json").symlink_to("config.json")

    assert folder.file("modules.json") == top / "config.json"


def test_a_link_in_circles_is_a_missing_file(folder, top):
    (top / "modules.json").symlink_to("modules.json")

    with pytest.raises(UnusableModel, match="is missing"):
        folder.file("modules.json")


def test_links_of_a_cache_lead_to_where_it_keeps_its_files(tmp_path):
    snapshot = tmp_path / "models--a--b/snapshots/1"
    blobs = tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text('{"size": 5}')
    (snapshot / "config.json").symlink_to("../../blobs/abc")

    folder = ModelFolder(ModelSource("a/b", snapshot, within=tmp_path / "models--a--b"))

    assert folder.read_json("config.json", Shape) == Shape(5)


def test_a_folder_in_the_place_of_a_file_is_refused(folder, top):
    (top / "tokenizer.json").mkdir()

    with pytest.raises(UnusableModel, match="is not a file"):
        folder.file("tokenizer.json")


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.bin", "pytorch_model.pt"])
def test_a_pickle_does_not_take_the_place_of_weights(folder, top, pickle):
    (top / pickle).write_bytes(b"cos\nsystem\n(S'true'\ntR.")

    with pytest.raises(UnusableModel, match=rf"\[{pickle}\] is a pickle.*never opened"):
        folder.file("model.safetensors")


@pytest.mark.parametrize(
    "content", ["", "{", '{"size": "three"}', "[1]", "{}", "[" * 100_000, '{"size": 1e400}', "\xff"]
)
def test_what_is_not_the_json_that_was_asked_for_is_refused(folder, top, content):
    (top / "config.json").write_text(content, encoding="latin-1")

    with pytest.raises(UnusableModel, match=r"\[config.json\] cannot be read: "):
        folder.read_json("config.json", Shape)


def test_a_file_that_is_too_large_is_not_read(folder, top):
    with (top / "config.json").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)

    with pytest.raises(UnusableModel, match=rf"has \[{MAX_JSON_BYTES + 1}\] bytes"):
        folder.read_json("config.json", Shape)


def test_a_file_that_may_be_missing_gives_nothing_then(folder):
    assert folder.find_json("modules.json", Shape) is None
    assert folder.find_json("config.json", Shape) == Shape(3)


def test_files_have_the_digest_that_is_asked_for(top):
    right = hashlib.sha256(b'{"size": 3}').hexdigest()

    ModelFolder(ModelSource("demo", top, checksums={"config.json": right})).check_digests()
    with pytest.raises(UnusableModel, match=rf"\[config.json\] has the SHA-256 \[{right}\]"):
        ModelFolder(ModelSource("demo", top, checksums={"config.json": "0" * 64})).check_digests()


def test_the_fingerprint_changes_with_any_file_that_was_read(folder, top):
    folder.file("config.json")
    before = folder.fingerprint()

    (top / "unread.json").write_text("{}")
    after_another_file = folder.fingerprint()
    (top / "config.json").write_text('{"size": 33}')

    assert after_another_file == before
    assert folder.fingerprint() != before


def test_the_fingerprint_changes_with_what_is_asked_of_the_model(top):
    of = [
        ModelFolder(ModelSource("demo", top, dimensions=dimensions, prompts=prompts)).fingerprint()
        for dimensions, prompts in ((None, None), (8, None), (None, {"query": "q: "}))
    ]

    assert len(set(of)) == 3
