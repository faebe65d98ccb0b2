"""Models with random weights, large enough for attention to matter, and tokenizers for them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import torch

from inferry.models.built_in import BUILT_IN

VOCABULARY = 30522
"""Of the demo model's tokenizer."""
COUNTED = {"max_position_embeddings": 514, "layer_norm_eps": 1e-5, "pad_token_id": 1}


def randomized(auto_class, config_class, settings, *, std: float = 0.06, **more):
    """Make a model whose every weight is random, the same at each call."""
    torch.manual_seed(11)
    given = {"vocab_size": VOCABULARY, **settings, **more}
    config = config_class(attn_implementation="eager", **given)
    model = auto_class.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_scale = "norm" in name.lower() and name.endswith("weight")
            spread = 0.2 if weight.ndim == 1 else std
            weight.normal_(mean=1.0 if is_scale else 0.0, std=spread)
    return model


def with_tokenizer(folder: Path) -> Path:
    """Make a folder with the tokenizer of the demo model."""
    package = importlib.util.find_spec(str(BUILT_IN[".all-minilm-l6-v2"].package))
    assert package is not None
    demo = Path(str(package.origin)).parent / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(demo / name, folder)
    return folder
