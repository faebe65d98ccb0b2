"""The demo model through the API of a real server, against sentence-transformers."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from inferry.models.built_in import BUILT_IN
from tests.server import Server, run_server
from tests.texts import real_texts

TEXTS = real_texts(320)
CLIENTS = 4
ATOL = 1e-5
PATH = "/_inference/text_embedding/.minilm-l6-v2"


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Start servers with an arithmetic each."""
    with ExitStack() as stack:

        def start(precision: str) -> Server:
            data_dir = tmp_path_factory.mktemp(precision) / "data"
            environment = {"INFERRY_ENGINE__PRECISION": precision}
            return stack.enter_context(run_server(data_dir, environment=environment))

        yield start


@pytest.fixture(scope="module")
def f32(serve) -> Server:
    server: Server = serve("f32")
    return server


@pytest.fixture(scope="module")
def expected() -> NDArray[Any]:
    package = importlib.util.find_spec(str(BUILT_IN[".all-minilm-l6-v2"].package))
    assert package is not None, "`make test` installs the demo model"
    reference = SentenceTransformer(str(Path(str(package.origin)).parent / "model"), device="cpu")
    rows: NDArray[Any] = reference.encode(TEXTS, batch_size=16, show_progress_bar=False)
    return rows


@pytest.fixture(scope="module")
def alone(f32) -> NDArray[Any]:
    """Send each text by itself, one after the other."""
    connection = f32.connect()
    return np.concatenate([embed(connection, [text]) for text in TEXTS])


def embed(connection, texts: Sequence[str]) -> NDArray[Any]:
    reply = connection.call("POST", PATH, {"input": list(texts)})
    assert reply.status == 200, reply.content
    return np.array([row["embedding"] for row in reply.json["text_embedding"]], np.float32)


def cosines(rows: NDArray[Any], expected: NDArray[Any]) -> NDArray[Any]:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1)
    found: NDArray[Any] = np.sum(rows * expected, axis=1, dtype=np.float64) / lengths
    return found


def test_f32_over_http_gives_what_sentence_transformers_gives(alone, expected):
    assert len(TEXTS) >= 300
    assert cosines(alone, expected).min() >= 0.99999
    np.testing.assert_allclose(alone, expected, atol=ATOL)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_vector_does_not_depend_on_what_others_send_meanwhile(f32, alone, size):
    order = list(range(len(TEXTS)))
    random.Random(size).shuffle(order)
    requests = [order[start : start + size] for start in range(0, len(order), size)]

    def send(number: int) -> list[tuple[list[int], NDArray[Any]]]:
        connection = f32.connect()
        chosen = requests[number::CLIENTS]
        return [(places, embed(connection, [TEXTS[one] for one in places])) for places in chosen]

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [answer for several in pool.map(send, range(CLIENTS)) for answer in several]

    assert sorted(place for places, _ in answers for place in places) == sorted(order)
    for places, rows in answers:
        np.testing.assert_allclose(rows, alone[places], atol=ATOL)


def test_bf16_over_http_means_the_same(serve, expected):
    connection = serve("bf16").connect()

    rows = np.concatenate([embed(connection, TEXTS[at : at + 32]) for at in range(0, 320, 32)])

    assert cosines(rows, expected).min() >= 0.9999
