"""Tokenizers of uploaded models, rebuilt from nothing but their vocabulary.

An upload brings a list of tokens, whose order gives their ids, with the merges or the scores that
its kind of tokenizer has. Only the mask is a special token that may stand in a text, as in
Elasticsearch; of DeBERTa all five are. So `[SEP]` in a text of somebody is text, and no separator.

SentencePiece models normalize by a table that an upload does not bring, since it is always the
same: `nmt_nfkc.xz` is that table, taken from sentencepiece 0.2.3 (Apache-2.0).
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from inferry.errors import Conflict, UnusableModel
from inferry.models.folder import ModelFolder

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

_CHARSMAP = Path(__file__).parent / "nmt_nfkc.xz"
_LONGEST_WORD = 100


class Vocabulary(msgspec.Struct, frozen=True):
    """What `PUT .../vocabulary` brings."""

    vocabulary: list[str]
    merges: list[str] | None = None
    scores: list[float] | None = None


class Tokenization(msgspec.Struct, frozen=True):
    """A block of `tokenization`, all defaults filled in."""

    do_lower_case: bool
    with_special_tokens: bool
    max_sequence_length: int
    truncate: str
    span: int
    add_prefix_space: bool = False


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The special tokens of a kind. separators: between the texts of a pair.

    mask_strips: a blank before the mask belongs to it. are_protected: all may stand in a text.
    """

    unknown: str
    padding: str
    start: str
    end: str
    mask: str
    separators: int = 1
    mask_strips: bool = False
    are_protected: bool = False


_BRACKETS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
_ANGLES = ("<unk>", "<pad>", "<s>", "</s>", "<mask>")
SPECIAL_TOKENS: Mapping[str, SpecialTokens] = MappingProxyType(
    {
        "bert": SpecialTokens(*_BRACKETS),
        "mpnet": SpecialTokens("[UNK]", *_ANGLES[1:], separators=2, mask_strips=True),
        "roberta": SpecialTokens(*_ANGLES, separators=2, mask_strips=True),
        "xlm_roberta": SpecialTokens(*_ANGLES, separators=2, mask_strips=True),
        "deberta_v2": SpecialTokens(*_BRACKETS, are_protected=True),
    }
)
"""By kind of tokenizer."""


def read_vocabulary(folder: ModelFolder, path: str) -> Vocabulary:
    """Read a vocabulary. Raises `UnusableModel`."""
    return folder.read_json(path, Vocabulary)


def build_tokenizer(kind: str, vocabulary: Vocabulary, settings: Tokenization) -> FastTokenizer:
    """Make the tokenizer of an upload. It puts special tokens where `settings` says so.

    kind: one of `inference_configs.TOKENIZATIONS`. Raises `Conflict` for a vocabulary without a
    token that the kind must have, and `UnusableModel` for one that does not fit together.
    """
    # One thread: it is never the bottleneck, and cores are lent to the models by the supervisor.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    special = SPECIAL_TOKENS[kind]
    ids = {token: number for number, token in enumerate(vocabulary.vocabulary)}
    _check_tokens(special, ids, settings)
    try:
        fast = _BUILDERS[kind](vocabulary, ids, settings)
    except Exception as error:  # the library knows nothing narrower
        raise UnusableModel(f"the vocabulary makes no [{kind}] tokenizer: {error}") from error
    _add_special_tokens(fast, special, ids)
    if settings.with_special_tokens:
        _frame(fast, special, ids)
    return fast


def _check_tokens(special: SpecialTokens, ids: Mapping[str, int], settings: Tokenization) -> None:
    wanted = [special.unknown, special.padding]
    if settings.with_special_tokens:
        wanted += [special.start, special.end]
    for token in wanted:
        if token not in ids:
            raise Conflict(f"stored vocabulary is missing required [{token}] token")


def _bert(vocabulary: Vocabulary, ids: Mapping[str, int], settings: Tokenization) -> FastTokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    fast = Tokenizer(
        models.WordPiece(
            vocab=dict(ids),
            unk_token="[UNK]",  # noqa: S106  a token of a text
            continuing_subword_prefix="##",
            max_input_chars_per_word=_LONGEST_WORD,
        )
    )
    fast.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=settings.do_lower_case,
        lowercase=settings.do_lower_case,
    )
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return fast


def _roberta(
    vocabulary: Vocabulary, ids: Mapping[str, int], settings: Tokenization
) -> FastTokenizer:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    merges = [_pair(merge) for merge in vocabulary.merges or ()]
    fast = Tokenizer(models.BPE(vocab=dict(ids), merges=merges, unk_token="<unk>"))  # noqa: S106
    prefixes = settings.add_prefix_space
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefixes)
    # The blank before a word is in its token, but no part of the word that is shown.
    fast.post_processor = processors.ByteLevel(add_prefix_space=prefixes, trim_offsets=True)
    return fast


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _xlm_roberta(
    vocabulary: Vocabulary, ids: Mapping[str, int], settings: Tokenization
) -> FastTokenizer:
    return _unigram(vocabulary, ids["<unk>"], has_bytes=False)


def _deberta(
    vocabulary: Vocabulary, ids: Mapping[str, int], settings: Tokenization
) -> FastTokenizer:
    return _unigram(vocabulary, ids["[UNK]"], has_bytes=True)


def _unigram(vocabulary: Vocabulary, unknown: int, *, has_bytes: bool) -> FastTokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    scores: Sequence[float] = vocabulary.scores or ()
    pieces = list(zip(vocabulary.vocabulary, scores, strict=True))
    fast = Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=has_bytes))
    fast.normalizer = normalizers.Precompiled(lzma.decompress(_CHARSMAP.read_bytes()))
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    return fast


def _add_special_tokens(
    fast: FastTokenizer, special: SpecialTokens, ids: Mapping[str, int]
) -> None:
    """Let the mask stand in texts, and where they are protected the others."""
    from tokenizers import AddedToken

    names = [special.mask]
    if special.are_protected:
        names += [special.unknown, special.padding, special.start, special.end]
    fast.add_special_tokens(
        [
            AddedToken(name, lstrip=special.mask_strips, normalized=False, special=True)
            for name in names
            if name in ids  # another one would get an id that the model does not know
        ]
    )


def _frame(fast: FastTokenizer, special: SpecialTokens, ids: Mapping[str, int]) -> None:
    """Put the special tokens around texts and pairs of texts."""
    from tokenizers import processors

    start, end = special.start, special.end
    between = " ".join([f"{end}:0"] * special.separators)
    frame = processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {end}:0",
        pair=f"{start}:0 $A:0 {between} $B:1 {end}:1",
        special_tokens=[(token, ids[token]) for token in (start, end)],
    )
    first = fast.post_processor
    fast.post_processor = frame if first is None else processors.Sequence([first, frame])


_BUILDERS: Mapping[str, Callable[[Vocabulary, Mapping[str, int], Tokenization], FastTokenizer]] = (
    MappingProxyType(
        {
            "bert": _bert,
            "mpnet": _bert,
            "roberta": _roberta,
            "xlm_roberta": _xlm_roberta,
            "deberta_v2": _deberta,
        }
    )
)
