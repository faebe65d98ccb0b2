"""Make a tiny embedding model with random weights: FOLDER. Runs in the environment of infinity."""

from __future__ import annotations

import string
import sys
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

WIDTH = 32
LONGEST = 64


def main(folder: Path) -> None:
    """Write the model in the layout of sentence-transformers."""
    torch.manual_seed(1)
    raw = folder / "bert"
    raw.mkdir(parents=True)
    letters = [*string.ascii_lowercase, *string.digits, *".,!?"]
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{one}" for one in letters),
    ]
    (raw / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(raw / "vocab.txt"), model_max_length=LONGEST).save_pretrained(raw)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=LONGEST,
    )
    BertModel(config).save_pretrained(raw)
    modules = [Transformer(str(raw), max_seq_length=LONGEST), Pooling(WIDTH)]
    SentenceTransformer(modules=modules).save(str(folder / "embedder"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
