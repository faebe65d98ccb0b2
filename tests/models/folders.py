"""Model folders with random weights, small enough to run in milliseconds."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]

BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 80,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MODULES: tuple[dict[str, Any], ...] = (
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {
        "idx": 2,
        "name": "2",
        "path": "2_Normalize",
        "type": "sentence_transformers.models.Normalize",
    },
)


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def write_safetensors(
    file: Path, tensors: Mapping[str, NDArray[Any]], *, dtype: str = "F32"
) -> None:
    """Write float32 tensors as `dtype`, which is F32, F16 or BF16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts = []
    place = 0
    for name, numbers in tensors.items():
        part = _bytes_of(numbers, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(numbers.shape),
            "data_offsets": [place, place + len(part)],
        }
        parts.append(part)
        place += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def _bytes_of(numbers: NDArray[Any], dtype: str) -> bytes:
    if dtype == "BF16":
        bits = numbers.astype("<f4").view(np.uint32) >> 16
        return bits.astype("<u2").tobytes()
    return numbers.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def bert_tensors(config: Mapping[str, Any] = BERT, seed: int = 0) -> Tensors:
    """Give random tensors of a BERT."""
    random = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    tensors: Tensors = {}

    def add(name: str, *shape: int) -> None:
        tensors[name] = random.normal(scale=0.3, size=shape).astype(np.float32)

    def add_linear(name: str, given: int, wanted: int) -> None:
        add(f"{name}.weight", wanted, given)
        add(f"{name}.bias", wanted)

    def add_norm(name: str) -> None:
        add(f"{name}.bias", width)
        tensors[f"{name}.weight"] = 1 + tensors[f"{name}.bias"]

    add("embeddings.word_embeddings.weight", config["vocab_size"], width)
    add("embeddings.position_embeddings.weight", config["max_position_embeddings"], width)
    add("embeddings.token_type_embeddings.weight", config["type_vocab_size"], width)
    add_norm("embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            add_linear(f"{layer}.attention.self.{part}", width, width)
        add_linear(f"{layer}.attention.output.dense", width, width)
        add_norm(f"{layer}.attention.output.LayerNorm")
        add_linear(f"{layer}.intermediate.dense", width, inner)
        add_linear(f"{layer}.output.dense", inner, width)
        add_norm(f"{layer}.output.LayerNorm")
    return tensors


def write_tokenizer(file: Path, **changes: Any) -> None:
    """Write a `tokenizer.json` of letters and digits, with truncation and padding in it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = string.ascii_lowercase + string.digits
    pieces = [*SPECIALS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(json.loads(tokenizer.to_str()) | changes))


def write_model(folder: Path, *, dtype: str = "F32", **changes: Any) -> Path:
    """Write a whole folder: a BERT with mean pooling and unit length, at most 16 tokens."""
    config = BERT | changes
    write_json(folder / "config.json", config)
    write_json(folder / "modules.json", MODULES)
    write_json(
        folder / "1_Pooling/config.json", {"embedding_dimension": 16, "pooling_mode": "mean"}
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 16})
    write_tokenizer(folder / "tokenizer.json")
    write_safetensors(folder / "model.safetensors", bert_tensors(config), dtype=dtype)
    return folder


def write_masked_lm(folder: Path, **changes: Any) -> Path:
    """Write a BERT that predicts tokens, as transformers saves it; without modules."""
    config = BERT | {"architectures": ["BertForMaskedLM"]} | changes
    width, vocabulary = config["hidden_size"], config["vocab_size"]
    random = np.random.default_rng(7)

    def numbers(*shape: int) -> NDArray[np.float32]:
        return random.normal(scale=0.3, size=shape).astype(np.float32)

    head = {
        "cls.predictions.transform.dense.weight": numbers(width, width),
        "cls.predictions.transform.dense.bias": numbers(width),
        "cls.predictions.transform.LayerNorm.weight": 1 + numbers(width),
        "cls.predictions.transform.LayerNorm.bias": numbers(width),
        "cls.predictions.bias": numbers(vocabulary),
    }
    encoder = {f"bert.{name}": tensor for name, tensor in bert_tensors(config).items()}
    write_json(folder / "config.json", config)
    write_tokenizer(folder / "tokenizer.json")
    write_safetensors(folder / "model.safetensors", encoder | head)
    return folder


def write_splade(folder: Path, **pooling: Any) -> Path:
    """Write a sparse encoder as sentence-transformers saves it."""
    write_masked_lm(folder)
    modules = [
        {"type": "sentence_transformers.base.modules.transformer.Transformer", "path": ""},
        {"type": "sentence_transformers.x.SpladePooling", "path": "1_SpladePooling"},
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_SpladePooling/config.json", {"pooling_strategy": "max"} | pooling)
    return folder


def write_router(folder: Path) -> Path:
    """Write a sparse encoder whose searches are looked up: a token weighs as much as its id."""
    write_splade(folder / "document_0_Transformer")
    (folder / "document_0_Transformer/1_SpladePooling").rename(folder / "document_1_SpladePooling")
    (folder / "document_0_Transformer/modules.json").unlink()
    table = folder / "query_0_SparseStaticEmbedding"
    write_tokenizer(table / "tokenizer.json")
    weights = np.arange(BERT["vocab_size"], dtype=np.float32)
    write_safetensors(table / "model.safetensors", {"weight": weights})
    write_json(folder / "modules.json", [{"type": "sentence_transformers.x.Router", "path": ""}])
    kinds = ("document_0_Transformer", "document_1_SpladePooling", "query_0_SparseStaticEmbedding")
    routes = {
        "types": {name: f"sentence_transformers.x.{name[name.index('_') + 3 :]}" for name in kinds},
        "structure": {"query": [kinds[2]], "document": list(kinds[:2])},
    }
    write_json(folder / "router_config.json", routes)
    return folder


def write_classifier(folder: Path, *, labels: int = 1, **changes: Any) -> Path:
    """Write a BERT that scores pairs, as transformers saves it; without modules."""
    names = {str(number): f"LABEL_{number}" for number in range(labels)}
    config = BERT | {"architectures": ["BertForSequenceClassification"], "id2label": names}
    config |= changes
    width = config["hidden_size"]
    random = np.random.default_rng(8)

    def numbers(*shape: int) -> NDArray[np.float32]:
        return random.normal(scale=0.5, size=shape).astype(np.float32)

    head = {
        "bert.pooler.dense.weight": numbers(width, width),
        "bert.pooler.dense.bias": numbers(width),
        "classifier.weight": numbers(labels, width),
        "classifier.bias": numbers(labels),
    }
    encoder = {f"bert.{name}": tensor for name, tensor in bert_tensors(config).items()}
    write_json(folder / "config.json", config)
    write_tokenizer(folder / "tokenizer.json")
    write_safetensors(folder / "model.safetensors", encoder | head)
    return folder
