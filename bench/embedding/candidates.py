"""What is measured: our server, the server of infinity, and peers as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from bench.embedding.client import Drive, Target, drive
from bench.embedding.folders import MODELS, OFFLINE, QUERY
from bench.processes import ROOT, Inferry, free_port, inferry, running

PEERS = {
    "sentence-transformers f32": "source",
    "sentence-transformers bf16": "source",
    "sentence-transformers onnx": "onnx",
    "sentence-transformers openvino": "openvino",
    "openvino-genai": "genai",
    "fastembed": "onnx",
    "fastembed, untuned": "onnx",
}
"""Peers in a process, and which of the folders they read; infinity has a server."""

RANKERS = {
    "CrossEncoder f32": "ranker",
    "CrossEncoder bf16": "ranker",
    "CrossEncoder onnx": "ranker-onnx",
    "CrossEncoder openvino": "ranker-openvino",
}
"""The same for peers that rank."""

ENDPOINT = "bench"
_DEMO = ".minilm-l6-v2"
_TEXTS_PER_REQUEST = 32
_CONNECTIONS = 8
_DOCUMENTS_PER_REQUEST = 100


class Candidate(Protocol):
    """Something that embeds texts."""

    def tune(self, texts: Sequence[str]) -> str:
        """Choose settings by these texts, and say which."""

    def seconds(self, texts: Sequence[str]) -> float:
        """Give the time that it takes to embed all of them."""

    def vector(self, text: str) -> list[float]:
        """Embed one text."""

    def peak_mb(self) -> float:
        """Give the most memory that it has had, of the process with the model."""


class Peer:
    """A process of `peer.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until its model is loaded."""
        self._process = process
        self._peak_mb = 0.0
        self._listen()

    def tune(self, texts: Sequence[str]) -> str:
        """Have it choose its batch size."""
        return f"batches of {self.ask(tune=texts)['batch_size']}"

    def seconds(self, texts: Sequence[str]) -> float:
        """Have it measure itself: no way to it counts."""
        return float(self.ask(embed=texts)["seconds"])

    def vector(self, text: str) -> list[float]:
        """Have it embed one text."""
        vector: list[float] = self.ask(show=text)["vector"]
        return vector

    def peak_mb(self) -> float:
        """Give what it told last."""
        return self._peak_mb

    def ask(self, **message: object) -> dict[str, Any]:
        """Send a line and read the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer = self._listen()
        self._peak_mb = answer["peak_mb"]
        return answer

    def _listen(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"[{self._process.args}] ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Served:
    """A server over HTTP, with the requests that suit it.

    pid: of the process with the model. each: texts of a request.
    """

    target: Target
    pid: int
    each: int = _TEXTS_PER_REQUEST
    connections: int = _CONNECTIONS

    def tune(self, texts: Sequence[str]) -> str:
        """Say how it is asked."""
        self.seconds(texts)
        return f"HTTP, {self.connections} clients of {self.each} texts"

    def seconds(self, texts: Sequence[str]) -> float:
        """Send all texts, a number in each request, over a few connections."""
        return self.drive(texts, each=self.each, connections=self.connections).seconds

    def drive(self, texts: Sequence[str], *, each: int, connections: int, **more: Any) -> Drive:
        """Send all texts, `each` in a request."""
        return drive(self.target, self.bodies(texts, each, **more), connections=connections)

    def bodies(self, texts: Sequence[str], each: int, **more: object) -> list[bytes]:
        """Give the bodies of requests with `each` texts."""
        starts = range(0, len(texts), each)
        return [
            json.dumps({"input": texts[start : start + each], **self.target.extra, **more}).encode()
            for start in starts
        ]

    def vector(self, text: str) -> list[float]:
        """Read the vector of one text, of the Inference API or OpenAI's."""
        (answer,) = self.drive([text], each=1, connections=1).answers
        read = json.loads(answer)
        if "rerank" in read:
            return [read["rerank"][0]["relevance_score"]]
        vector: list[float] = read.get("text_embedding", read.get("data"))[0]["embedding"]
        return vector

    def peak_mb(self) -> float:
        """Give the high-water mark of its resident memory."""
        return peak_mb(self.pid)


@contextmanager
def peer(python: Path, name: str) -> Iterator[Peer]:
    """Run a peer until the block ends."""
    script = ROOT / "bench/embedding/peer.py"
    folder = MODELS / {**PEERS, **RANKERS}[name]
    with talking([str(python), str(script), name, str(folder), QUERY], name) as started:
        yield started


@contextmanager
def talking(command: Sequence[str], name: str) -> Iterator[Peer]:
    """Run a process that answers lines of JSON. name: of its log."""
    with (MODELS / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **OFFLINE},
        )
    try:
        yield Peer(process)
    finally:
        process.kill()
        process.wait()


@contextmanager
def infinity(program: Path, dtype: str) -> Iterator[Served]:
    """Run the server of infinity; of its engines the one on PyTorch reads such a folder."""
    port = free_port()
    command = [str(program), "v2", "--model-id", str(MODELS / "source"), "--served-model-name", "m"]
    command += ["--engine", "torch", "--device", "cpu", "--dtype", dtype, "--batch-size", "32"]
    command += ["--no-bettertransformer", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, core=None, port=port, environment=OFFLINE) as process:
        yield Served(Target(port, "/embeddings", {}, {"model": "m"}), process.pid)


@contextmanager
def ours(data_dir: Path, *, precision: str) -> Iterator[Served]:
    """Run our server with an endpoint on the folder `source`, on all cores."""
    with _with_endpoint(data_dir, "text_embedding", "source", precision) as server:
        yield served(server, f"/_inference/text_embedding/{ENDPOINT}")


@contextmanager
def our_ranker(data_dir: Path, *, precision: str, model_id: str = "ranker") -> Iterator[Served]:
    """Run our server with an endpoint on a folder that ranks; a request has all documents."""
    with _with_endpoint(data_dir, "rerank", model_id, precision) as server:
        path = f"/_inference/rerank/{ENDPOINT}"
        headers = {"Authorization": server.authorization}
        extra = {"query": QUERY, "return_documents": False}
        target = Target(server.port, path, headers, extra)
        yield Served(target, worker_of(server), each=_DOCUMENTS_PER_REQUEST, connections=1)


@contextmanager
def _with_endpoint(
    data_dir: Path, task_type: str, model_id: str, precision: str
) -> Iterator[Inferry]:
    environment = {"INFERRY_ENGINE__PRECISION": precision, "INFERRY_MODELS__PATH": str(MODELS)}
    with inferry(data_dir, core=None, **environment) as server:
        cores = len(os.sched_getaffinity(0))
        settings = {"num_threads": 1 << (cores.bit_length() - 1), "num_allocations": 1}
        definition = {
            "service": "elasticsearch",
            "service_settings": {"model_id": model_id, **settings},
        }
        server.put(task_type, ENDPOINT, definition)
        yield server


@contextmanager
def demo(data_dir: Path) -> Iterator[Served]:
    """Run our server with the demo endpoint as it is declared."""
    with inferry(data_dir, core=None, INFERRY_INFERENCE__PRELOAD=_DEMO) as server:
        server.post(f"/_inference/{_DEMO}", {"input": "wait until the model is there"})
        yield served(server, f"/_inference/text_embedding/{_DEMO}")


def served(server: Inferry, path: str) -> Served:
    """Give a running server of ours as a candidate."""
    headers = {"Authorization": server.authorization}
    return Served(Target(server.port, path, headers, {}), worker_of(server))


def worker_of(server: Inferry) -> int:
    """Give the process of the model worker."""
    children = psutil.Process(server.process.pid).children()
    (worker,) = [one.pid for one in children if "inferry.model_worker" in one.cmdline()]
    return worker


def peak_mb(pid: int) -> float:
    """Give the high-water mark of the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1e3


def warmed(server: Served, texts: Sequence[str]) -> None:
    """Let a server see texts, and rest, so that no tensor of theirs has a new shape."""
    for _ in range(3):
        server.seconds(texts)
        time.sleep(2)
