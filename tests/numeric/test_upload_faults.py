"""Uploads that break off, disks that are full and archives that mean harm, at a real server.

What is uploaded is a module as `eland` makes it, or one that was changed by hand afterwards. The
server says what is wrong, goes on serving, and nothing of it stays.
"""

from __future__ import annotations

import base64
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.numeric.modules import random_model, trace
from tests.numeric.test_modules import BERT
from tests.server import Server, run_server

pytestmark = pytest.mark.faults

PARTS = 4
CONFIG = {"text_embedding": {"tokenization": {"bert": {"max_sequence_length": 64}}}}
F32 = {"INFERRY_ENGINE__PRECISION": "f32"}
ACKNOWLEDGED = {"acknowledged": True}
CLOSE = 1e-5


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(transformers.BertModel, transformers.BertConfig, len(BERT["vocabulary"]))


@pytest.fixture(scope="module")
def module(model) -> bytes:
    return trace(model, inputs=4, pick=lambda found: found[0][:, 0])


class Upload:
    """A model that is being uploaded to whichever server runs."""

    def __init__(self, model_id: str, module: bytes, parts: int = PARTS) -> None:
        self.path = f"/_ml/trained_models/{model_id}"
        self._folder = Path("models") / "uploads" / model_id
        self._length = len(module)
        size = -(-len(module) // parts)
        self.parts = [module[at : at + size] for at in range(0, len(module), size)]

    def create(self, server: Server) -> None:
        body = {"model_type": "pytorch", "inference_config": CONFIG}
        assert server.call("PUT", self.path, body).status == 200

    def put_part(self, server: Server, number: int) -> Any:
        body = {
            "definition": base64.b64encode(self.parts[number]).decode(),
            "total_definition_length": self._length,
            "total_parts": len(self.parts),
        }
        return server.call("PUT", f"{self.path}/definition/{number}", body)

    def put_vocabulary(self, server: Server, without: str = "") -> Any:
        words = [word for word in BERT["vocabulary"] if word != without]
        return server.call("PUT", f"{self.path}/vocabulary", {"vocabulary": words})

    def put_all(self, server: Server) -> None:
        for number in range(len(self.parts)):
            reply = self.put_part(server, number)
            assert reply.json == ACKNOWLEDGED, reply.content
        assert self.put_vocabulary(server).json == ACKNOWLEDGED

    def start(self, server: Server) -> Any:
        return server.call("POST", f"{self.path}/deployment/_start?timeout=120s")

    def is_whole(self, server: Server) -> bool:
        found = server.call("GET", f"{self.path}?include=definition_status")
        return bool(found.json["trained_model_configs"][0]["fully_defined"])

    def vector(self, server: Server, text: str) -> Any:
        body = {"docs": [{"text_field": text}]}
        reply = server.call("POST", f"{self.path}/_infer?timeout=60s", body)
        assert reply.status == 200, reply.content
        return reply.json["inference_results"][0]["predicted_value"]

    def delete(self, server: Server) -> None:
        reply = server.call("DELETE", f"{self.path}?force=true")
        assert reply.json == ACKNOWLEDGED
        assert not (server.data_dir / self._folder).exists()


def expected(model: Any, text: str) -> Any:
    ids = torch.tensor([[2, *(BERT["vocabulary"].index(word) for word in text.split()), 3]])
    with torch.inference_mode():
        return model(input_ids=ids, token_type_ids=torch.zeros_like(ids))[0][0, 0].numpy()


def left_behind(server: Server) -> list[str]:
    """List what is there of uploads, and of what workers made of them."""
    places = ("models/incoming", "models/uploads", "graphs")
    return [
        str(file.relative_to(server.data_dir))
        for place in places
        for file in (server.data_dir / place).rglob("*")
        if file.is_file()
    ]


# --- uploads that do not fit together ----------------------------------------------------------


def test_a_start_names_the_token_that_a_vocabulary_lacks(server, module):
    upload = Upload("lacking", module)
    upload.create(server)
    for number in range(len(upload.parts)):
        upload.put_part(server, number)
    upload.put_vocabulary(server, without="[PAD]")

    refused = upload.start(server)

    assert refused.status == 409, refused.content
    assert "stored vocabulary is missing required [[PAD]] token" in refused.json["error"]["reason"]
    upload.delete(server)


# --- uploads that break off --------------------------------------------------------------------


def test_an_upload_cut_at_any_boundary_by_a_kill_goes_on_and_runs(tmp_path, model, module):
    server_of = {"data_dir": tmp_path / "data", "environment": F32}
    uploads = [Upload(f"cut-{cut}", module) for cut in range(PARTS + 1)]
    with run_server(**server_of) as server:
        for cut, upload in enumerate(uploads):
            upload.create(server)
            for number in range(cut):
                assert upload.put_part(server, number).json == ACKNOWLEDGED
        server.kill()

    with run_server(**server_of) as server:
        for cut, upload in enumerate(uploads):
            refused = upload.start(server)
            assert not upload.is_whole(server)
            assert refused.status == (404 if cut in (0, PARTS) else 400), refused.content
            assert "Could not find" in refused.content.decode() or "truncated" in str(refused.json)
            upload.put_all(server) if cut < PARTS else upload.put_vocabulary(server)
            assert upload.is_whole(server)
        last = uploads[2]
        assert last.start(server).status == 200
        np.testing.assert_allclose(
            last.vector(server, "the man is new"), expected(model, "the man is new"), atol=CLOSE
        )
        for upload in uploads:
            upload.delete(server)
        assert left_behind(server) == []


def test_a_kill_amid_a_part_leaves_the_parts_before_it_and_nothing_else(tmp_path, module):
    server_of = {"data_dir": tmp_path / "data", "environment": F32}
    upload = Upload("amid", module)
    with run_server(**server_of) as server:
        upload.create(server)
        assert upload.put_part(server, 0).json == ACKNOWLEDGED
        body = b'{"definition":"' + base64.b64encode(upload.parts[1])[:-400]
        connection = server.connect().http
        connection.putrequest("PUT", f"{upload.path}/definition/1")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body) + 500))
        connection.endheaders(body)
        server.kill()

    with run_server(**server_of) as server:
        assert len(left_behind(server)) == 2  # configuration and part
        upload.put_all(server)
        assert upload.is_whole(server)
        upload.delete(server)
        assert left_behind(server) == []


# --- disks that are full -----------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a disk of that size."""
    folder.mkdir()
    options = ["-o", f"size={megabytes}m,mode=700"]
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_parts_and_serves_again_once_there_is_room(tmp_path, model, module):
    megabyte = 1024 * 1024
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        run_server(disk / "data", environment=F32) as server,
    ):
        large = Upload("large", os.urandom(40 * megabyte), parts=40)
        large.create(server)
        replies: list[Any] = []
        while not replies or replies[-1].status == 200:
            replies.append(large.put_part(server, len(replies)))
        taken = len(replies) - 1

        assert 5 < taken < 24
        assert replies[-1].status >= 500
        assert "No space left on device" in replies[-1].json["error"]["reason"]
        parts = [one for one in left_behind(server) if "/parts/" in one]
        assert len(parts) == taken
        assert not [one for one in left_behind(server) if "incoming" in one]
        assert server.call("GET", "/_inference/_all").status == 200
        assert large.put_part(server, taken).status >= 500

        large.delete(server)
        small = Upload("small", module)
        small.create(server)
        small.put_all(server)
        assert small.start(server).status == 200
        np.testing.assert_allclose(
            small.vector(server, "the man is new"), expected(model, "the man is new"), atol=CLOSE
        )


# --- archives that mean harm -------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("archives") / "data", environment=F32) as running:
        yield running


class Payload:
    """What a pickle would run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._path}",)


def changed(
    module: bytes, files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    """Give the archive of a module with files put in, or instead of those that it has.

    `{top}` in the name of a file is the folder of the module.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(module)) as given, zipfile.ZipFile(written, "w") as archive:
        top = given.namelist()[0].partition("/")[0]
        new = {name.format(top=top): content for name, content in files.items()}
        for entry in given.infolist():
            if entry.filename not in new:
                archive.writestr(entry, given.read(entry))
        for name, content in new.items():
            archive.writestr(name, content, compress_type=compression)
    return written.getvalue()


def hostile(module: bytes, mark: Path) -> dict[str, tuple[bytes, str]]:
    """Give archives with the words in which they are refused."""
    pickled = pickle.dumps(Payload(mark), protocol=2)
    bomb = {"{top}/constants/999": b"\0" * 300_000_000}
    return {
        "a bomb": (changed(module, bomb, zipfile.ZIP_DEFLATED), "inflates"),
        "a way out": (changed(module, {"../../../" + mark.name: b"x"}), "is not of the format"),
        "an absolute path": (changed(module, {str(mark): b"x"}), "is not of the format"),
        "a library": (changed(module, {"{top}/evil.so": b"\x7fELF"}), "is not of the format"),
        "a payload": (changed(module, {"{top}/data.pkl": pickled}), "which no module does"),
        "constants": (changed(module, {"{top}/constants.pkl": pickled}), "which no module does"),
        "a broken end": (module[:-2000], "is no TorchScript archive"),
        "a pickle": (pickled, "is no TorchScript archive"),
    }


MORE = ("an absolute path", "a library", "constants", "a pickle")  # the same checks again


@pytest.mark.parametrize(
    "kind",
    [
        *("a bomb", "a way out", "a payload", "a broken end"),
        *(pytest.param(kind, marks=pytest.mark.soak) for kind in MORE),
    ],
)
def test_an_archive_that_means_harm_is_refused_in_words_and_leaves_nothing(
    server, module, tmp_path, kind
):
    mark = tmp_path / "opened"
    archive, words = hostile(module, mark)[kind]
    upload = Upload(kind.replace(" ", "-"), archive)
    upload.create(server)
    upload.put_all(server)

    refused = upload.start(server)

    assert refused.status == 500, refused.content
    assert words in refused.json["error"]["reason"]
    assert not mark.exists()
    upload.delete(server)
    assert left_behind(server) == []
    assert server.call("GET", "/_inference/_all").status == 200


def test_an_endpoint_on_an_archive_that_means_harm_does_not_come_to_be(server, module, tmp_path):
    archive, words = hostile(module, tmp_path / "opened")["a payload"]
    upload = Upload("behind", archive)
    upload.create(server)
    upload.put_all(server)

    settings = {"model_id": "behind", "num_allocations": 1, "num_threads": 1}
    body = {"service": "elasticsearch", "service_settings": settings}
    refused = server.call("PUT", "/_inference/text_embedding/on-it?timeout=60s", body)

    assert refused.status == 400, refused.content
    assert words in refused.json["error"]["reason"]
    assert server.call("GET", "/_inference/on-it").status == 404
    upload.delete(server)
    assert left_behind(server) == []
