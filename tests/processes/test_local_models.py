"""Local models in a real server: what faults, strange texts and hostile folders do to it."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.models.folders import bert_tensors, write_json, write_model, write_safetensors
from tests.server import Connection, Server, run_server

pytestmark = [pytest.mark.server, pytest.mark.faults]

PATH = "/_inference/text_embedding/e"
WORDS = ("ever", "the", "same", "7", "words", "in", "other", "rows", "0", "again")
TEXTS = [f"{one} {two} {one}{three}" for one in WORDS for two in WORDS for three in WORDS[:3]]
MANY = 10_000
TOLERANCE = 1e-5
GROWTH_BYTES = 30_000_000


def definition(model_id: str, **settings: Any) -> dict[str, Any]:
    given = {"model_id": model_id, "num_threads": 1, "num_allocations": 1, **settings}
    return {"service": "elasticsearch", "service_settings": given}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Make a directory of models, with one that is whole."""
    directory: Path = tmp_path_factory.mktemp("models")
    write_model(directory / "tiny")
    return directory


@pytest.fixture(scope="module")
def server(tmp_path_factory, models) -> Iterator[Server]:
    """Run a server with the endpoint `e` on a tiny model."""
    environment = {"INFERRY_MODELS__PATH": str(models), "INFERRY_ENGINE__PRECISION": "f32"}
    with run_server(tmp_path_factory.mktemp("server") / "data", environment=environment) as one:
        created = one.call("PUT", PATH, definition("tiny"))
        assert created.status == 200, created.content
        yield one


def worker_of(server: Server) -> psutil.Process:
    """Give the process of the model."""
    (worker,) = workers_of(server)
    return worker


def workers_of(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [one for one in children if "inferry.model_worker" in " ".join(one.cmdline())]


def rows_of(connection: Connection, texts: Sequence[str]) -> np.ndarray[Any, Any]:
    reply = connection.call("POST", PATH, {"input": texts})
    assert reply.status == 200, reply.content
    return np.array([row["embedding"] for row in reply.json["text_embedding"]], np.float32)


@pytest.fixture(scope="module")
def expected(server) -> dict[str, np.ndarray[Any, Any]]:
    """Give the row of each text, run by itself on a server that nothing has happened to."""
    connection = server.connect()
    return {text: rows_of(connection, [text])[0] for text in TEXTS}


def assert_alive(server: Server) -> None:
    assert rows_of(server.connect(), ["alive"]).shape == (1, 16)


# --- a worker that dies ------------------------------------------------------------------------


class Clients:
    """Clients that embed until they are told to end, and hold every answer against `expected`."""

    def __init__(self, server: Server, expected: dict[str, np.ndarray[Any, Any]]) -> None:
        self._server, self._expected = server, expected
        self._answers = threading.Condition()
        self.answers = 0
        self.is_over = threading.Event()

    def run(self, number: int) -> None:
        connection = self._server.connect()
        while not self.is_over.is_set():
            first = (self.answers * 7 + number * 31) % (len(TEXTS) - 9)
            texts = TEXTS[first : first + 9]
            rows = rows_of(connection, texts)
            wanted = np.array([self._expected[text] for text in texts])
            np.testing.assert_allclose(rows, wanted, atol=TOLERANCE)
            with self._answers:
                self.answers += 1
                self._answers.notify_all()

    def wait_for(self, more: int) -> None:
        """Wait until so many requests more have been answered."""
        with self._answers:
            wanted = self.answers + more
            assert self._answers.wait_for(lambda: self.answers >= wanted, timeout=60)


def test_a_worker_killed_under_load_loses_and_swaps_no_answer(server, expected):
    clients = Clients(server, expected)
    killed = set()
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(clients.run, number) for number in range(6)]
        try:
            for _ in range(4):
                clients.wait_for(60)
                worker = worker_of(server)
                killed.add(worker.pid)
                worker.kill()
            clients.wait_for(60)
        finally:
            clients.is_over.set()
        for one in running:
            one.result()

    assert len(killed) == 4
    assert worker_of(server).pid not in killed


# --- a worker that is behind -------------------------------------------------------------------


@pytest.fixture
def halted(server) -> Iterator[psutil.Process]:
    """Halt the worker; it goes on at the end at the latest."""
    worker = worker_of(server)
    worker.suspend()
    yield worker
    worker.resume()


def test_a_deadline_ends_a_request_in_the_words_of_elasticsearch(server, halted):
    late = server.call("POST", f"{PATH}?timeout=300ms", {"input": "late"})
    of_8 = "application/vnd.elasticsearch+json;compatible-with=8"
    older = server.call(
        "POST",
        f"{PATH}?timeout=300ms",
        {"input": "late"},
        **{"Accept": of_8, "Content-Type": of_8},
    )
    halted.resume()

    reason = "Request timed out after [300ms] for inference id [e]"
    cause = {"type": "timeout_exception", "reason": reason}
    assert late.json == {"error": {"root_cause": [cause], **cause}, "status": 429}
    assert late.status == 429
    reason = "Request timed out after [300ms]"
    cause = {"type": "status_exception", "reason": reason}
    assert older.json == {"error": {"root_cause": [cause], **cause}, "status": 408}
    assert older.status == 408
    assert_alive(server)


def test_a_full_queue_refuses_at_once_in_the_words_of_elasticsearch(server):
    # A request that finds the queue empty always fits; while it waits, the queue is full.
    refused = None
    while refused is None:
        with ThreadPoolExecutor(1) as pool:
            large = pool.submit(server.call, "POST", PATH, {"input": ["a b c d e"] * 4 * MANY})
            connection = server.connect()
            while refused is None and not large.done():
                reply = connection.call("POST", PATH, {"input": ["x"]})
                refused = reply if reply.status != 200 else None
            answer = large.result()

    reason = "inference process queue is full. Unable to execute command"
    cause = {"type": "es_rejected_execution_exception", "reason": reason}
    assert refused.json == {"error": {"root_cause": [cause], **cause}, "status": 429}
    assert refused.status == 429
    assert len(answer.json["text_embedding"]) == 4 * MANY
    assert_alive(server)


# --- texts -------------------------------------------------------------------------------------


def test_a_text_of_five_megabytes_is_cut_and_said_to_be(server):
    text = "word " * 1_000_000

    answer = server.call("POST", PATH, {"input": ["short", text]})

    assert answer.status == 200
    assert answer.headers["x-inferry-truncated"] == "1"
    begun = rows_of(server.connect(), [text[:200]])[0]
    np.testing.assert_allclose(answer.json["text_embedding"][1]["embedding"], begun, atol=TOLERANCE)


def test_ten_thousand_texts_come_back_in_their_order(server, expected):
    texts = [TEXTS[number * 17 % len(TEXTS)] for number in range(MANY)]

    rows = rows_of(server.connect(), texts)

    np.testing.assert_allclose(rows, [expected[text] for text in texts], atol=TOLERANCE)


def test_an_empty_list_is_refused_and_an_empty_text_is_not(server):
    nothing = server.call("POST", PATH, {"input": []})
    empty = server.call("POST", PATH, {"input": ""})

    assert nothing.status == 400
    assert nothing.json["error"]["reason"] == (
        "Validation Failed: 1: Field [input] cannot be an empty array;"
    )
    assert empty.status == 200
    assert len(empty.json["text_embedding"]) == 1


@pytest.mark.parametrize("text", ["\ud800", "high \udbff and more", "\udc00 low", "\udc00\ud800"])
def test_a_surrogate_that_stands_alone_is_refused(server, text):
    reply = server.call("POST", PATH, {"input": ["well", text]})

    assert reply.status == 400
    assert "surrogate" in reply.content.decode()
    assert_alive(server)


def test_memory_stays_flat_whatever_is_sent(server):
    connection = server.connect(timeout_s=120)
    bodies: list[Any] = [
        {"input": "word " * 1_000_000},
        {"input": ["a b c"] * MANY},
        {"input": []},
        {"input": ""},
        {"input": "\ud800"},
    ]

    def send_all() -> None:
        for body in bodies:
            assert connection.call("POST", PATH, body).status in (200, 400)

    def resident() -> list[int]:
        processes = [psutil.Process(server.process.pid), *server.api_processes()]
        return [one.memory_info().rss for one in processes]

    for _ in range(4):
        send_all()
    before = resident()
    for _ in range(8):
        send_all()

    growth = [now - then for now, then in zip(resident(), before, strict=True)]
    assert max(growth) < GROWTH_BYTES, growth


# --- folders -----------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._file),)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(folder / "unpickled")))


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def of_another_shape(folder: Path) -> None:
    tensors = bert_tensors()
    tensors["encoder.layer.1.output.dense.weight"] = np.zeros((16, 23), np.float32)
    write_safetensors(folder / "model.safetensors", tensors)


def with_a_huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def with_a_path_upwards(folder: Path) -> None:
    module = {"idx": 0, "name": "0", "path": "../tiny", "type": "models.Transformer"}
    write_json(folder / "modules.json", [module])


def with_a_link_outwards(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/etc/passwd")


def with_too_few_tokens(folder: Path) -> None:
    write_json(folder / "config.json", {"model_type": "bert", "vocab_size": 3})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (pickled, "[pytorch_model.bin] is a pickle, which could run code, and is never opened"),
        (cut_short, "[model.safetensors] is damaged"),
        (without_weights, "[model.safetensors] is missing"),
        (without_tokenizer, "[tokenizer.json] is missing"),
        (of_another_shape, "in the shape [16, 23], the configuration asks for [16, 24]"),
        (with_a_huge_header, "[model.safetensors] is damaged: [10] bytes hold no header"),
        (with_a_path_upwards, "is no path within the folder"),
        (with_a_link_outwards, "[model.safetensors] is a link that leads out of the folder"),
        (with_too_few_tokens, "[tokenizer.json] has [77] tokens, the encoder [3]"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_folder_that_cannot_be_used_is_told_and_leaves_nothing(server, models, spoil, words):
    name = f"spoilt-{spoil.__name__}"
    spoil(write_model(models / name))

    refused = server.call("PUT", "/_inference/text_embedding/spoilt", definition(name))

    assert refused.status == 400
    reason = refused.json["error"]["reason"]
    assert reason.startswith(f"The model [{name}] cannot be used: ")
    assert words in reason
    assert not (models / name / "unpickled").exists()
    assert server.call("GET", "/_inference/text_embedding/spoilt").status == 404
    assert len(workers_of(server)) == 1
    assert_alive(server)


@pytest.mark.parametrize("model_id", ["nowhere", "../models", "/etc", "tiny/../.."])
def test_a_model_id_that_leads_to_no_folder_is_refused(server, model_id):
    refused = server.call("PUT", "/_inference/text_embedding/nothing", definition(model_id))

    assert refused.status in (400, 404)
    assert f"[{model_id}]" in refused.json["error"]["reason"]
    assert server.call("GET", "/_inference/text_embedding/nothing").status == 404
    assert_alive(server)


def test_a_deployment_that_was_stopped_by_force_is_so_until_it_is_started(tmp_path, models):
    environment = {"INFERRY_MODELS__PATH": str(models)}
    deployment = "/_ml/trained_models/{}/deployment/{}"

    def status_of_a_run(server: Server) -> int:
        return server.call("POST", PATH, {"input": "a"}).status

    with run_server(tmp_path / "data", environment=environment) as server:
        assert server.call("PUT", PATH, definition("tiny")).status == 200
        stopped = server.call("POST", deployment.format("e", "_stop?force=true"))
        assert (stopped.status, status_of_a_run(server)) == (200, 404)

    with run_server(tmp_path / "data", environment=environment) as server:
        assert status_of_a_run(server) == 404
        assert server.call("GET", "/_ml/trained_models/e/_stats").status == 404
        assert server.call("GET", PATH).json["inference_id"] == "e"
        path = deployment.format("tiny", "_start?deployment_id=e")
        assert server.call("POST", path).status == 200
        assert status_of_a_run(server) == 200

    with run_server(tmp_path / "data", environment=environment) as server:
        assert status_of_a_run(server) == 200


def test_the_whole_server_ends_with_its_supervisor(tmp_path, models):
    environment = {"INFERRY_MODELS__PATH": str(models)}
    with run_server(tmp_path / "data", environment=environment) as server:
        assert server.call("PUT", PATH, definition("tiny")).status == 200
        worker = worker_of(server)

        os.kill(server.process.pid, signal.SIGKILL)

        assert worker.wait(60) is not None or not worker.is_running()
