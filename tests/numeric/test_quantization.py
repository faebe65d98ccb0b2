"""Models quantized by NNCF against themselves at f32, and that nothing is told of it.

The tolerance is a cosine of 0.98, of the vectors of each text and of the scores of all pairs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from inferry.domain import InputType, TaskType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.models.closeness import ScoreCloseness, VectorCloseness
from inferry.models.graphs.quantized import Nncf
from inferry.models.quantization import Recipe, quantize_folder
from inferry.models.samples import Sample
from inferry.models.text_model import FolderModel, load_model
from tests.models.folders import write_model
from tests.numeric.random_models import randomized, with_tokenizer
from tests.texts import real_texts

LEAST_COSINE = 0.98
LINES = [" ".join(text.split()) for text in real_texts(120)]
SAMPLE = Sample("texts", tuple(line for line in LINES if len(line) > 20)[:50])
SETTINGS = {
    "hidden_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 192,
}
ARCHITECTURES = {
    TaskType.TEXT_EMBEDDING: transformers.AutoModel,
    TaskType.SPARSE_EMBEDDING: transformers.AutoModelForMaskedLM,
    TaskType.RERANK: transformers.AutoModelForSequenceClassification,
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def quantized(task_type: TaskType, folder: Path):
    """Write a random BERT, quantize it, and load both."""
    more = {"num_labels": 1} if task_type is TaskType.RERANK else {}
    model = randomized(ARCHITECTURES[task_type], transformers.BertConfig, SETTINGS, **more)
    model.save_pretrained(with_tokenizer(folder / "plain"))
    (folder / "int8").mkdir()
    source = ModelSource("random", folder / "plain")
    recipe = Recipe(Nncf("random"), OpenVino(), task_type)

    closeness = quantize_folder(source, SAMPLE, folder / "int8", recipe)

    exact = load(folder / "plain", task_type, "f32")
    return closeness, exact, load(folder / "int8", task_type, "auto")


def load(folder: Path, task_type: TaskType | None, precision: Any) -> FolderModel:
    source = ModelSource("random", folder, task_type=task_type)
    return load_model(source, RuntimeOptions(precision=precision), runtime=OpenVino())


@pytest.mark.parametrize("task_type", [TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING])
def test_embeddings_stay_close(tmp_path, task_type):
    closeness, exact, made = quantized(task_type, tmp_path)

    assert isinstance(closeness, VectorCloseness)
    assert (made.arithmetic.precision, closeness.texts) == ("int8", 5)
    assert min(made.cosine, closeness.least) >= LEAST_COSINE
    (expected,) = exact.rows(exact.encode(["How are returned goods refunded?"], InputType.SEARCH))
    (found,) = made.rows(made.encode(["How are returned goods refunded?"], InputType.SEARCH))
    assert not np.array_equal(found, expected)
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) >= LEAST_COSINE


def test_scores_stay_close(tmp_path):
    closeness, exact, made = quantized(TaskType.RERANK, tmp_path)

    assert isinstance(closeness, ScoreCloseness)
    assert closeness.rank_correlation > 0.9
    assert closeness.difference < closeness.spread / 2
    assert made.cosine >= LEAST_COSINE
    pairs = exact.encode(SAMPLE.lines[:5], InputType.UNSPECIFIED, "How are goods refunded?")
    np.testing.assert_allclose(made.rows(pairs), exact.rows(pairs), atol=closeness.spread / 2)


def run_command(folder: Path, before: str = "", after: str = "") -> Any:
    """Quantize a model that names no modules, by commands in a process of their own."""
    (folder / "texts.txt").write_text("\n".join("abcdefghijklmnopqrst"))
    (write_model(folder / "model") / "modules.json").unlink()
    program = f"""
{before}
from inferry.cli import main
def run(*command):
    try:
        main(["models", *command, "--data-dir", "data"])
    except SystemExit as ended:
        return ended.code
assert not run("add", "m", "model")
code = run("quantize", "m", "--texts", "texts.txt")
{after}
raise SystemExit(code)
"""
    environment = {
        "HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",  # where there is no room it would be half a file
    }
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


NO_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))"
INTERRUPT = """
import os, signal, sys
def interrupt(event, arguments):
    if event == "open" and "f32_rows_" in str(arguments[0]):  # the graph is written by then
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
"""


@pytest.mark.parametrize(
    ("trouble", "code", "told"), [(NO_ROOM, 1, "is the disk full?"), (INTERRUPT, 130, "")]
)
def test_a_command_that_ends_early_leaves_nothing_behind(tmp_path, trouble, code, told):
    ran = run_command(tmp_path, before=trouble)

    assert (ran.returncode, ran.stdout) == (code, "")
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr
    assert [*(tmp_path / "data/models/copies").iterdir()] == []
    assert "m-int8" not in (tmp_path / "data/models/aliases.json").read_text()


def test_nobody_is_told(tmp_path):
    """NNCF sends nothing in a process that has imported pytest, so this is one of its own."""
    before = """
import sys
told = []
sys.addaudithook(lambda event, _: told.append(event))
"""
    after = """
from nncf.telemetry import telemetry
print(type(telemetry).__name__, [one for one in told if one.startswith(("socket.", "subpro"))])
"""

    ran = run_command(tmp_path, before, after)

    folder, nothing = ran.stdout.splitlines()
    assert nothing == "MagicMock []"  # what stands in where nothing may be sent
    assert load(Path(folder), None, "f32").arithmetic.precision == "int8"
    assert "m-int8 is on this machine; cosine to f32: least 0.9" in ran.stderr
    assert "the folder names no modules" in ran.stderr
    assert not (tmp_path / "home").exists()
