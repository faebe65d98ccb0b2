"""Make what the peers read of a model folder: `exports.py SOURCE TARGET`, in their environment.

TARGET/onnx is a folder for ONNX Runtime, TARGET/openvino one for OpenVINO, TARGET/genai the same
with a tokenizer as openvino-genai takes it. It takes about half a minute and needs no network.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import openvino
from openvino_tokenizers import convert_tokenizer
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer


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


def _lift_limit(file: Path) -> None:
    """Take out the tokens to which fastembed would cut texts, whatever the model takes."""
    config = json.loads(file.read_text())
    config.pop("max_length", None)
    file.write_text(json.dumps(config))


if __name__ == "__main__":
    main()
