"""Make what the peers read of a model folder: `exports.py SOURCE TARGET`, in their environment.

TARGET/ranker is a cross-encoder in its shape, with folders for the same runtimes beside it.
TARGET/onnx is a folder for ONNX Runtime, TARGET/openvino one for OpenVINO, TARGET/genai the same
with a tokenizer as openvino-genai takes it. It takes about half a minute and needs no network.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import openvino
import torch
from openvino_tokenizers import convert_tokenizer
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def main() -> None:
    """Export, unless it has been done."""
    source, target = map(Path, sys.argv[1:])
    for backend in ("onnx", "openvino"):
        folder = target / backend
        if not folder.exists():
            model = SentenceTransformer(str(source), backend=backend, device="cpu")
            model.save_pretrained(str(folder))
    _lift_limit(target / "onnx/tokenizer_config.json")
    folder = target / "genai"
    if not folder.exists():
        shutil.copytree(target / "openvino", folder)
        for file in (folder / "openvino").iterdir():
            file.rename(folder / file.name)
        converted = convert_tokenizer(AutoTokenizer.from_pretrained(str(target / "openvino")))
        openvino.save_model(converted, folder / "openvino_tokenizer.xml")
    _make_rankers(source, target)


def _make_rankers(source: Path, target: Path) -> None:
    """Put a random classifier of one label on the encoder."""
    plain = target / "ranker"
    if not plain.exists():
        torch.manual_seed(3)
        model = AutoModelForSequenceClassification.from_pretrained(str(source), num_labels=1)
        AutoTokenizer.from_pretrained(str(source)).save_pretrained(str(plain))
        model.save_pretrained(str(plain))
    for backend in ("onnx", "openvino"):
        folder = target / f"ranker-{backend}"
        if not folder.exists():
            CrossEncoder(str(plain), backend=backend, device="cpu").save_pretrained(str(folder))


def _lift_limit(file: Path) -> None:
    """Take out the tokens to which fastembed would cut texts, whatever the model takes."""
    config = json.loads(file.read_text())
    config.pop("max_length", None)
    file.write_text(json.dumps(config))


if __name__ == "__main__":
    main()
