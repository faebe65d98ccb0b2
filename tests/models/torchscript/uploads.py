"""Folders of uploaded models, and what is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from inferry.modeling import ModelSource, ModuleFiles

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "these", "are", "my", "words", "##s", "."]


def write_upload(
    folder: Path,
    module: bytes,
    *,
    task: str = "text_embedding",
    kind: str = "bert",
    vocabulary: dict[str, Any] | None = None,
    prefixes: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    **tokenization: Any,
) -> ModelSource:
    """Write the folder of a model that was uploaded in whole."""
    folder.mkdir(parents=True, exist_ok=True)
    words = msgspec.json.encode(vocabulary or {"vocabulary": WORDS})
    files = ModuleFiles(*(hashlib.sha256(one).hexdigest() for one in (module, words)))
    (folder / files.module_file).write_bytes(module)
    (folder / files.vocabulary_file).write_bytes(words)
    settings = {"tokenization": {kind: tokenization}, **(config or {})}
    metadata = {
        "model_type": "pytorch",
        "inference_config": {task: settings},
        "prefix_strings": prefixes,
    }
    (folder / "metadata.json").write_bytes(msgspec.json.encode(metadata))
    return ModelSource("uploaded", folder, checksums=files.checksums, module=files)
