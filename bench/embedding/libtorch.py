"""A module run by PyTorch as it was uploaded: `libtorch.py FOLDER`, in eland's environment.

It speaks as `peer.py` does, but that the size of batches, which are sorted by length, stands in the
message: `{"embed": texts, "size": 4}`. With 1 it does what Elasticsearch does, one text per call.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

_TOKENS = 512


class Module:
    """A module with its tokenizer, on all cores."""

    def __init__(self, folder: Path) -> None:
        """Load it."""
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._module = torch.jit.load(str(folder / "module.pt"), map_location="cpu").eval()
        self._inputs = len(list(self._module.graph.inputs())) - 1
        vocabulary = json.loads((folder / "vocabulary.json").read_text())["vocabulary"]
        self._padding_id = next(
            vocabulary.index(one) for one in ("[PAD]", "<pad>") if one in vocabulary
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_TOKENS)
        self._tokenizer.no_padding()

    def run(self, texts: Sequence[str], size: int) -> list[Any]:
        """Give the rows of the texts, in an order of its own where there are batches."""
        encoded = [one.ids for one in self._tokenizer.encode_batch(list(texts))]
        if size > 1:
            encoded.sort(key=len)
        batches = (encoded[start : start + size] for start in range(0, len(encoded), size))
        return [row for batch in batches for row in self._run(batch)]

    def _run(self, batch: Sequence[list[int]]) -> Any:
        longest = max(map(len, batch))
        rows = [[*ids, *[self._padding_id] * (longest - len(ids))] for ids in batch]
        ids = torch.tensor(rows)
        mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in batch])
        positions = torch.arange(longest)[None].expand_as(ids)
        given = (ids, mask, torch.zeros_like(ids), positions)[: self._inputs]
        with torch.inference_mode():
            found = self._module(*given)
        return (found[0] if isinstance(found, tuple) else found).numpy()


def main() -> None:
    """Serve whoever started this until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not for whoever reads the answers
    module = Module(Path(sys.argv[1]))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any]
        if "show" in asked:
            answer = {"vector": module.run([asked["show"]], 1)[0].reshape(-1).tolist()}
        else:
            started = time.perf_counter()
            module.run(asked["embed"], asked["size"])
            answer = {"seconds": time.perf_counter() - started}
        answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
