"""TorchScript modules that mean harm, uploaded and started like any other.

The language knows no sockets and no processes; what it knows - files, memory, loops, print - gives
a module nothing either. What a confined process is refused by the kernel, whatever runs in it,
`tests/engine/test_sandbox.py` proves.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.numeric.modules import saved
from tests.numeric.test_uploaded_endpoints import put_endpoint, upload
from tests.server import Server, run_server

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "hoard", "shout", "fail")
VOCABULARY = {"vocabulary": list(WORDS)}
MEMORY = 1_500_000_000
START_S = 20


class Fine(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """Gives the same numbers for every text."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.ones([ids.size(0), 4])


class Hoards(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """Takes memory without end."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = [torch.ones([ids.size(0), 4])]
        while ids.size(0) > 0:
            kept.append(torch.ones([5_000_000]) * len(kept))
        return kept[0]


class Spins(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """Runs without end."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        turns = 0
        while ids.size(0) > 0:
            turns += 1
        return torch.ones([ids.size(0), turns])


class Grasps(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """Asks for more memory than there is, at once."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.ones([1 << 45])


class Waits(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """Does what a text names, once it runs: `hoard`, `shout`, `fail`."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = [torch.ones([ids.size(0), 4])]
        while bool((ids == 6).any()):
            kept.append(torch.ones([5_000_000]) * len(kept))
        if bool((ids == 7).any()):
            for _ in range(100_000):
                print("a marker that the module prints")  # noqa: T201
        if bool((ids == 8).any()):
            raise RuntimeError("a marker that the module raises")
        return kept[0]


class Reads(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """Reads a file as if it were numbers. path: which."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = torch.from_file(self.path, False, 16, dtype=torch.uint8)
        return found.to(torch.float32).expand([ids.size(0), 16])


def scripted(module: Any) -> bytes:
    return saved(torch.jit.script(module.eval()))


def rewritten(line: str) -> bytes:
    """Give a module whose source has another line in `forward`, as no compiler would write it."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(scripted(Fine()))) as archive,
        zipfile.ZipFile(made, "w") as changed,
    ):
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename.endswith(".py"):
                head, arrow, rest = content.partition(b"-> Tensor:\n")
                content = head + arrow + f"    {line}\n".encode() + rest
            if not entry.filename.endswith(".debug_pkl"):
                changed.writestr(entry.filename, content)
    return made.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """Run a server that ends what takes 1.5 GB, or does not load in 20 s."""
    environment = {
        "INFERRY_ENGINE__MEMORY_LIMIT": f"{MEMORY}",
        "INFERRY_ENGINE__START_TIMEOUT": f"{START_S}s",
    }
    data_dir = tmp_path_factory.mktemp("hostile") / "data"
    with run_server(data_dir, auth=True, environment=environment) as running:
        yield running


def start(server: Server, name: str, module: bytes):
    """Upload a module and create an endpoint with it."""
    limits = {"do_lower_case": True, "max_sequence_length": 32}
    upload(server, name, module, "text_embedding", vocabulary=VOCABULARY, **limits)
    return put_endpoint(server, f"{name}-endpoint", name, "text_embedding")


def noted(server: Server, model_id: str) -> list[str]:
    """Give why workers of a model were ended, as the audit log has it."""
    lines = map(json.loads, (server.data_dir / "audit.log").read_text().splitlines())
    return [
        line["reason"]
        for line in lines
        if line["event"] == "sandbox_violated" and line["target"]["model_id"] == model_id
    ]


@pytest.fixture
def others(server) -> Iterator[None]:
    """See to it that everybody else is served afterwards."""
    yield
    text = {"input": "the others"}
    served = server.call("POST", "/_inference/text_embedding/.minilm-l6-v2", text)
    assert served.status == 200, served.content


@pytest.mark.usefixtures("others")
def test_a_module_that_takes_memory_without_end_is_ended_and_noted(server):
    refused = start(server, "hoards", scripted(Hoards()))

    assert refused.status == 500, refused.content
    assert "above [engine.memory_limit]" in refused.json["error"]["reason"]
    (reason,) = noted(server, "hoards")
    assert "above [engine.memory_limit]" in reason


@pytest.mark.usefixtures("others")
def test_a_module_that_never_ends_is_ended_and_noted(server):
    refused = start(server, "spins", scripted(Spins()))

    assert refused.status == 400, refused.content
    assert "it took more than [engine.start_timeout]" in refused.json["error"]["reason"]
    (reason,) = noted(server, "spins")
    assert "[engine.start_timeout]" in reason


@pytest.mark.usefixtures("others")
def test_a_module_that_asks_for_more_than_there_is_is_refused(server):
    refused = start(server, "grasps", scripted(Grasps()))

    assert refused.status == 400, refused.content
    assert "its module fails on a text" in refused.json["error"]["reason"]


@pytest.mark.parametrize("path", ["/etc/passwd", "{data_dir}/master.key"])
@pytest.mark.usefixtures("others")
def test_a_module_that_reads_files_is_refused_before_it_runs(server, path):
    name = f"reads-{len(path)}"

    refused = start(server, name, scripted(Reads(path.format(data_dir=server.data_dir))))

    assert refused.status == 400, refused.content
    assert "has code that names [from_file]" in refused.json["error"]["reason"]


@pytest.mark.parametrize(
    "line",
    [
        "import socket",
        "import os",
        "os.system('touch /tmp/hostile')",
        "open('/etc/passwd')",
        "exec('import os')",
        "__import__('os')",
        "torch.ops.load_library('/tmp/x.so')",
        "ops.aten.os_fork()",
        "self.__class__.__bases__",
        "x = (self).forward(ids, mask)",
        "x = fork(self.forward, ids, mask)",
    ],
)
@pytest.mark.usefixtures("others")
def test_what_the_language_does_not_know_is_refused(server, line):
    name = f"line-{abs(hash(line)) % 10**8}"

    refused = start(server, name, rewritten(line))

    assert refused.status == 400, refused.content
    assert noted(server, name) == []


def test_a_module_that_waits_until_it_runs_gains_nothing_by_it(server):
    created = start(server, "waits", scripted(Waits()))
    assert created.status == 200, created.content
    path = "/_inference/text_embedding/waits-endpoint?timeout=5s"

    def run(text: str) -> int:
        status: int = server.call("POST", path, {"input": text}).status
        return status

    assert run("fine") == 200
    assert run("fail") >= 400
    assert run("shout") in {200, 429}
    assert run("hoard") >= 400
    server.wait_until(lambda: run("fine") == 200)

    assert any("above [engine.memory_limit]" in reason for reason in noted(server, "waits"))
    assert "a marker that the module prints" not in server.log.read_text()
    text = {"input": "the others"}
    served = server.call("POST", "/_inference/text_embedding/.minilm-l6-v2", text)
    assert served.status == 200


_PAST_THE_LOOK = """
import sys
from pathlib import Path
from inferry.engine.sandbox import confine, harden
from inferry.modeling import ModelSource
folder, private = map(Path, sys.argv[1:])
harden()
print(confine(ModelSource("m", folder), cache=None, private=private).missing)
import torch
module = torch.jit.load(str(folder / "module.pt"))
try:
    module(torch.ones([1, 2]), torch.ones([1, 2]))
except RuntimeError as error:
    print(error)
"""


def test_past_the_look_at_its_archive_a_module_reads_nothing_either(tmp_path):
    folder, key = tmp_path / "data" / "models" / "m", tmp_path / "data" / "master.key"
    folder.mkdir(parents=True)
    key.write_bytes(b"a marker of a key" * 10)
    (folder / "module.pt").write_bytes(scripted(Reads(str(key))))
    command = [sys.executable, "-c", _PAST_THE_LOOK, str(folder), str(tmp_path / "data")]

    found = subprocess.run(command, capture_output=True, text=True, check=False)

    if "Landlock" not in found.stdout:
        assert "Permission denied" in found.stdout, found
