"""`inferry models`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.models.folders import BERT, write_json
from tests.models.hubs import Hub, serve_hub
from tests.models.repositories import package_files, serve_packages

MODULE_MB = 1


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    write_json(folder / "config.json", BERT)
    write_json(folder / "tokenizer.json", {})
    (folder / "model.safetensors").write_bytes(bytes(1_200_000))
    return folder


@pytest.fixture
def hub(folder) -> Iterator[Hub]:
    with serve_hub() as hub:
        hub.add("org/tiny", folder)
        yield hub


@pytest.fixture
def models(inferry, hub, tmp_path, monkeypatch) -> Callable[..., Any]:
    """Run `inferry models` on a machine with a hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INFERRY_SERVER__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("INFERRY_MODELS__HUB_URL", hub.url)
    return lambda *arguments: inferry("models", *arguments)


def test_a_pulled_model_is_listed_with_its_size_and_folder(models):
    pulled = models("pull", "org/tiny")
    listed = models("list")

    assert pulled.exit_code == 0
    assert pulled.err == "org/tiny is on this machine\n"
    place = pulled.out.strip()
    assert f"org/tiny\torg/tiny\t2 MB\t{place}" in listed.out.splitlines()
    assert (Path(place) / "model.safetensors").stat().st_size == 1_200_000


def test_what_is_not_here_is_listed_too(models):
    assert ".elser_model_2\t\t\tnot on this machine" in models("list").out.splitlines()
    assert not Path("data").exists()


def test_the_list_is_json_on_request(models, folder):
    models("add", "mine", str(folder))

    rows = json.loads(models("list", "--json").out)

    (mine,) = [row for row in rows if row["model_id"] == "mine"]
    assert mine == {
        "model_id": "mine",
        "source": str(folder),
        "folder": str(folder),
        "size_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "problem": None,
    }


@pytest.mark.parametrize("origin", ["org/tiny", "./model", "model", "shelf/model"])
def test_a_built_in_model_is_pulled_from_where_the_operator_says(models, folder, origin):
    shutil.copytree(folder, folder.parent / "shelf/model")

    ran = models("pull", ".elser_model_2", "--from", origin)

    assert ran.exit_code == 0
    assert "model.safetensors" in {path.name for path in Path(ran.out.strip()).iterdir()}


def test_a_removed_model_is_gone(models):
    place = Path(models("pull", "org/tiny").out.strip())

    ran = models("remove", "org/tiny")

    assert (ran.exit_code, ran.err) == (0, "removed org/tiny\n")
    assert not place.exists()


def test_a_package_is_pulled_from_a_server_or_a_folder_in_one_command(models, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, content in package_files("elser_model_2").items():
        (mirror / name).write_bytes(content)
    with serve_packages(package_files("elser_model_2")) as site:
        for origin in (site.url, mirror.as_uri(), str(mirror)):
            pulled = models("pull", ".elser_model_2", "--from", origin)

            assert pulled.exit_code == 0, pulled.err
            place = Path(pulled.out.strip())
            assert {one.suffix for one in place.iterdir()} == {".json", ".pt"}
            assert f"{MODULE_MB} MB\t{place}" in models("list").out
            assert models("remove", ".elser_model_2").exit_code == 0
            assert not place.exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (
            ("pull", ".elser_model_2"),
            3,
            "inferry models pull .elser_model_2 --from URL|PATH|HUB_ID",
        ),
        (("pull", "org/none"), 3, "has no model [org/none]"),
        (
            ("pull", "mine", "--from", "ftp://elsewhere.org/x"),
            2,
            "must be an http, https or file URL",
        ),
        (
            ("pull", "mine", "--from", "http://127.0.0.1:1/x"),
            5,
            "it cannot be reached: [Errno 111] Connection refused, after [0] bytes\n",
        ),
        (("pull", "mine", "--from", "file:///nowhere"), 1, "has no [mine.metadata.json]\n"),
        (("pull", "mine", "--from", "./gone"), 1, "there is no such folder"),
        (("add", "mine", "."), 1, "[config.json] is missing"),
        (
            ("quantize", "org/tiny"),
            2,
            "name a file with a text per line as --texts FILE; 50 to 300",
        ),
        (
            ("quantize", "org/tiny", "--texts", "config.json"),
            2,
            "cannot read the texts [config.json]: No such file",
        ),
        (
            ("quantize", "org/tiny", "--texts", "t", "--task-type", "completion"),
            2,
            "is one of [text_embedding], [sparse_embedding], [rerank], not [completion]",
        ),
        (("remove", "org/tiny"), 3, "is not on this machine"),
        (("remove", "mine"), 2, "does not match any models"),
    ],
)
def test_a_failure_says_why_and_ends_with_its_code(models, arguments, exit_code, message):
    ran = models(*arguments)

    assert ran.exit_code == exit_code
    assert message in ran.err
    assert ran.out == ""


def test_what_quantizes_is_an_extra(models, tmp_path, monkeypatch):
    for package in ("nncf", "openvino_telemetry"):
        monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "texts.txt").write_text("a text\n" * 20)
    models("pull", "org/tiny")

    ran = models("quantize", "org/tiny", "--texts", "texts.txt")

    assert (ran.exit_code, ran.out) == (1, "")
    assert "cannot be quantized, since the extra [quantize] is not installed" in ran.err
    assert ran.err.endswith("pip install 'inferry[quantize]'\n")


def test_a_hub_that_cannot_be_reached_has_a_code_of_its_own(models, monkeypatch):
    monkeypatch.setenv("INFERRY_MODELS__HUB_URL", "http://127.0.0.1:1")

    ran = models("pull", "org/tiny")

    assert ran.exit_code == 5
    assert ran.err.startswith("inferry: The hub [http://127.0.0.1:1] cannot be reached: ")


def test_a_terminal_sees_how_far_a_download_is(models, hub):
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        pull = [sys.executable, "-m", "inferry", "models", "pull", "org/tiny"]
        running = subprocess.Popen(pull, stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        shown = b""
        with suppress(OSError), running:  # the error is how a terminal ends
            while part := screen.read(4096):
                shown += part

    assert running.returncode == 0
    assert "1.2/1.2 MB" in shown.decode()
