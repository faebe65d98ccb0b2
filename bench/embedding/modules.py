"""Make TorchScript modules as they are uploaded: `modules.py SOURCE TARGET`, in the env of eland.

TARGET/NAME has `module.pt`, `vocabulary.json`, `config.json` with the inference config, and the
`tokenizer.json` for whoever runs the module himself. `demo` is the demo model, exported by eland;
`elser` has the shape of ELSER, BERT-base with pooled weights of tokens, and `e5` that of E5-small,
with random weights: what they find means nothing, what it costs does.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from eland.ml.pytorch.transformers import TransformerModel
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import Unigram

_TOKENS = 512
_SPREAD = 10  # of logits, as in a trained model rather than in one that has seen nothing
_USUAL = 128  # tokens of a text
_WEIGHED = 0.005  # of all tokens that such a text gives a weight
_E5 = {
    "vocab_size": 250_037,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 514,
    "layer_norm_eps": 1e-5,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}


def main() -> None:
    """Make those that are not there."""
    source, target = map(Path, sys.argv[1:])
    makers = {"demo": _demo, "elser": _elser, "e5": _e5}
    for name, make in makers.items():
        if not (target / name / "config.json").exists():
            unfinished = target / f"{name}.part"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            torch.manual_seed(3)
            make(source, unfinished)
            unfinished.rename(target / name)


def _demo(source: Path, folder: Path) -> None:
    _export(source, folder)
    shutil.copy(source / "tokenizer.json", folder)


class _Mean(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """An encoder whose states are averaged, of unit length: [batch, width]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Any, mask: Any) -> Any:
        """Pool as sentence-transformers does."""
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        counts = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=-1)


def _e5(source: Path, folder: Path) -> None:
    """Put an encoder of that shape on a tokenizer whose pieces are the demo model's words."""
    words = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    whole = [f"▁{word}" for word in words if not word.startswith(("##", "["))]
    within = [word.removeprefix("##") for word in words if word.startswith("##")]
    known = list(dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", "▁", *whole, *within]))
    never_met = [f"⁂{number}" for number in range(_E5["vocab_size"] - len(known) - 1)]
    tokens = [*known, *never_met, "<mask>"]
    scores = [0.0] * 4 + [-8.0 - len(token) / 100 for token in tokens[4:-1]] + [0.0]
    (folder / "vocabulary.json").write_text(json.dumps({"vocabulary": tokens, "scores": scores}))
    _pieces(list(zip(tokens, scores, strict=True))).save(str(folder / "tokenizer.json"))
    model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**_E5)).eval()
    ids = torch.randint(10, 30_000, (1, 64))
    _trace(_Mean(model), folder, ids, torch.ones_like(ids))
    tokenization = {"xlm_roberta": {"max_sequence_length": _TOKENS}}
    _write_config(folder, {"text_embedding": {"tokenization": tokenization}})


def _pieces(scored: list[tuple[str, float]]) -> Tokenizer:
    """Give a tokenizer of XLM-R's kind."""
    fast = Tokenizer(Unigram(scored, unk_id=3))
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "always")]
    )
    fast.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return fast


def _export(source: Path, folder: Path) -> None:
    """Have eland write the module, its vocabulary and its configuration."""
    exported = TransformerModel(
        model_id=str(source), task_type="text_embedding", es_version=(9, 2, 0)
    )
    module, config, vocabulary = exported.save(str(folder))
    Path(module).rename(folder / "module.pt")
    Path(vocabulary).rename(folder / "vocabulary.json")
    _write_config(folder, config.to_dict()["inference_config"])


class _Elser(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """A masked language model with the weights of tokens in its output: [batch, 1, vocabulary]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Any, mask: Any, types: Any, positions: Any) -> Any:
        """Take the largest logit of each token."""
        logits = self.model(
            input_ids=ids, attention_mask=mask, token_type_ids=types, position_ids=positions
        ).logits
        seen = torch.log1p(torch.relu(logits)) * mask.unsqueeze(-1)
        return seen.max(dim=1, keepdim=True).values


def _elser(source: Path, folder: Path) -> None:
    model = transformers.BertForMaskedLM(transformers.BertConfig()).eval()
    module = _Elser(model)
    with torch.no_grad():
        model.cls.predictions.transform.LayerNorm.weight *= _SPREAD
        most = model(torch.randint(1000, 30_000, (1, _USUAL))).logits[0].amax(dim=0)
        model.cls.predictions.bias -= torch.quantile(most, 1 - _WEIGHED)
    ids = torch.randint(1000, 30_000, (1, 64))
    given = (ids, torch.ones_like(ids), torch.zeros_like(ids), torch.arange(64)[None])
    _trace(module, folder, *given)
    words = (source / "vocab.txt").read_text().splitlines()
    (folder / "vocabulary.json").write_text(json.dumps({"vocabulary": words}))
    shutil.copy(source / "tokenizer.json", folder)
    tokenization = {"bert": {"do_lower_case": True, "max_sequence_length": _TOKENS}}
    _write_config(folder, {"text_expansion": {"tokenization": tokenization}})


def _trace(module: torch.nn.Module, folder: Path, *given: torch.Tensor) -> None:
    """Write the module as eland does."""
    with torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(module.eval(), given))
    torch.jit.save(traced, str(folder / "module.pt"))


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
