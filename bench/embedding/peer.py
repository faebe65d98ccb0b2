"""Another embedder of texts, or a ranker, run in the environment of the peers.

`peer.py NAME FOLDER QUERY`

It reads a JSON object per line and answers each with one: `{"tune": texts}` has it choose the batch
size that is fastest on these texts, `{"embed": texts}` is answered with the seconds that took, and
`{"show": text}` with its vector, of a ranker its score.
Nothing is fetched: models come from the folders that `exports.py` made.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Embed: TypeAlias = Callable[[Sequence[str], int], Any]
"""Embeds texts in batches of a size."""

_BATCH_SIZES = (4, 8, 16, 32)
_USUAL_SIZE = 32
_TRIES = 3


def sentence_transformers(folder: Path, **settings: Any) -> Embed:
    """Load with https://sbert.net; it sorts by length by itself."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", **settings)
    return lambda texts, size: model.encode(texts, batch_size=size, show_progress_bar=False)


def sentence_transformers_bf16(folder: Path) -> Embed:
    """Load with weights in bfloat16."""
    import torch

    return sentence_transformers(folder, model_kwargs={"torch_dtype": torch.bfloat16})


def genai(folder: Path) -> Embed:
    """Load with openvino-genai, which takes texts as they come."""
    from openvino_genai import TextEmbeddingPipeline

    pipeline = TextEmbeddingPipeline(
        str(folder), "CPU", pooling_type=TextEmbeddingPipeline.PoolingType.MEAN, normalize=True
    )

    def embed(texts: Sequence[str], size: int) -> list[Any]:
        return [
            vector
            for start in range(0, len(texts), size)
            for vector in pipeline.embed_documents(texts[start : start + size])
        ]

    return embed


def fastembed(folder: Path) -> Embed:
    """Load with https://github.com/qdrant/fastembed, which takes texts as they come."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="bench/minilm",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(url="file:///nowhere"),
        dim=384,
        model_file="onnx/model.onnx",
    )
    model = TextEmbedding(
        "bench/minilm", specific_model_path=str(folder), threads=len(os.sched_getaffinity(0))
    )
    return lambda texts, size: list(model.embed(texts, batch_size=size))


def cross_encoder(folder: Path, **settings: Any) -> Embed:
    """Load a ranker with https://sbert.net: a text is paired with the query, the score is raw."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", max_length=512, **settings)
    query = sys.argv[3]

    def rank(texts: Sequence[str], size: int) -> Any:
        scores = model.predict(
            [(query, text) for text in texts],
            batch_size=size,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
        return scores.reshape(-1, 1)

    return rank


def cross_encoder_bf16(folder: Path) -> Embed:
    """Load a ranker with weights in bfloat16."""
    import torch

    return cross_encoder(folder, model_kwargs={"torch_dtype": torch.bfloat16})


_PEERS: Mapping[str, Callable[[Path], Embed]] = {
    "sentence-transformers f32": sentence_transformers,
    "sentence-transformers bf16": sentence_transformers_bf16,
    "sentence-transformers onnx": lambda folder: sentence_transformers(folder, backend="onnx"),
    "sentence-transformers openvino": lambda folder: sentence_transformers(
        folder, backend="openvino"
    ),
    "CrossEncoder f32": cross_encoder,
    "CrossEncoder bf16": cross_encoder_bf16,
    "CrossEncoder onnx": lambda folder: cross_encoder(folder, backend="onnx"),
    "CrossEncoder openvino": lambda folder: cross_encoder(folder, backend="openvino"),
    "openvino-genai": genai,
    "fastembed": fastembed,
    "fastembed, untuned": fastembed,
}


def main() -> None:
    """Serve whoever started this until standard input ends."""
    name, folder, _ = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not for whoever reads the answers
    embed = _PEERS[name](Path(folder))
    size = _USUAL_SIZE
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "tune" in asked:
            texts = asked["tune"]
            sizes = (_USUAL_SIZE,) if name.endswith(", untuned") else _BATCH_SIZES
            tried = [(_seconds(embed, texts, one), one) for one in sizes * _TRIES]
            size = min(tried[len(sizes) :])[1]  # the first of each warms it up
            answer: dict[str, Any] = {"batch_size": size}
        elif "show" in asked:
            answer = {"vector": [float(one) for one in embed([asked["show"]], 1)[0]]}
        else:
            answer = {"seconds": _seconds(embed, asked["embed"], size)}
        answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps(answer), file=answers, flush=True)


def _seconds(embed: Embed, texts: Sequence[str], size: int) -> float:
    started = time.perf_counter()
    embed(texts, size)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
