"""Tiny models of every family that eland takes, with random weights and tokenizers of few words."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

WORDS = (
    *("the", "man", "is", "here", "with", "her", "they", "have", "been", "new", "in", "this"),
    *("house", "for", "years", "who", "and", "not", "all", "a", "of", "to", "query", "passage"),
    ":",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTH = 128
_POSITIONS = 520  # questions are asked with up to 386 tokens
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": _POSITIONS,
}
_COUNTED = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


@dataclass(frozen=True)
class Family:
    """A family. prefix: of the names of its classes in transformers. settings: beside the sizes."""

    prefix: str
    tokenizer: Callable[[Path], Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self, name: str, head: str, top: Path, **settings: Any) -> tuple[Any, Any, Path]:
        """Save a random model with its tokenizer, and give both with their folder."""
        tokenizer = self.tokenizer(top)
        given = {**_SIZES, **self.settings, **settings}
        config = getattr(transformers, f"{self.prefix}Config")(vocab_size=len(tokenizer), **given)
        torch.manual_seed(7)
        model = getattr(transformers, f"{self.prefix}{head}")(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.normal_(std=0.2)
        model.tie_weights()
        folder = top / name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return model, tokenizer, folder


def _words(top: Path, specials: list[str]) -> str:
    """Write a vocabulary of whole words and of letters."""
    tokens = [*specials, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    file = top / f"{specials[0].strip('[]<>')}.txt"
    file.write_text("".join(f"{token}\n" for token in dict.fromkeys(tokens)))
    return str(file)


def _bert(kind: str) -> Callable[[Path], Any]:
    def make(top: Path) -> Any:
        file = _words(top, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
        return getattr(transformers, f"{kind}TokenizerFast")(file, model_max_length=LENGTH)

    return make


def _mpnet(top: Path) -> Any:
    file = _words(top, ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[UNK]"])
    return transformers.MPNetTokenizerFast(file, model_max_length=LENGTH)


def _roberta(kind: str) -> Callable[[Path], Any]:
    def make(top: Path) -> Any:
        trainer = ByteLevelBPETokenizer()
        specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trainer.train_from_iterator([" ".join(WORDS)] * 4, vocab_size=400, special_tokens=specials)
        trainer.save_model(str(top))
        files = str(top / "vocab.json"), str(top / "merges.txt")
        return getattr(transformers, f"{kind}TokenizerFast")(*files, model_max_length=LENGTH)

    return make


def _pieces(kind: str, unknown: str = "<unk>") -> Callable[[Path], Any]:
    def make(top: Path) -> Any:
        file = top / f"{kind}.model"
        if not file.exists():
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter([" ".join(WORDS[at:] + WORDS[:at]) for at in range(20)] * 5),
                model_prefix=str(file.with_suffix("")),
                vocab_size=60,
                model_type="unigram",
                hard_vocab_limit=False,
                unk_piece=unknown,
                minloglevel=2,
            )
        return getattr(transformers, f"{kind}TokenizerFast")(str(file), model_max_length=LENGTH)

    return make


FAMILIES = {
    "bert": Family("Bert", _bert("Bert")),
    "distilbert": Family(
        "DistilBert",
        _bert("DistilBert"),
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    "electra": Family("Electra", _bert("Electra"), {"embedding_size": 16}),
    "mobilebert": Family(
        "MobileBert",
        _bert("MobileBert"),
        {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 1},
    ),
    "squeezebert": Family(
        "SqueezeBert",
        _bert("SqueezeBert"),
        {
            "embedding_size": 32,
            **{f"{part}_groups": 2 for part in ("q", "k", "v", "post_attention", "output")},
        },
    ),
    "mpnet": Family("MPNet", _mpnet),
    "roberta": Family("Roberta", _roberta("Roberta"), _COUNTED),
    "bart": Family(
        "Bart",
        _roberta("Bart"),
        {
            **_COUNTED,
            "d_model": 32,
            "use_cache": False,
            **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
            **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
            **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
        },
    ),
    "xlm_roberta": Family("XLMRoberta", _pieces("XLMRoberta"), _COUNTED),
    "deberta": Family(
        "DebertaV2",
        _pieces("DebertaV2", "[UNK]"),
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
        },
    ),
}
"""By the name that tests give them."""
