"""Three corpora of running text from what is on every machine with Python: documentation.

Docstrings of the standard library and the descriptions of installed packages, shuffled with a
fixed seed and cut into texts. Nothing is fetched; the texts of two machines differ a little, their
lengths do not.
"""

from __future__ import annotations

import ast
import importlib.metadata
import random
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

LONGEST = 512
"""Tokens of a text that reach the model, in every candidate."""

_SPECIALS = 2  # what is put around a text
_LEAST_LETTERS = 0.88
_RUN = 4  # tokens of the longest word that is taken

Length: TypeAlias = Callable[[random.Random], int]


def _mixed(chance: random.Random) -> int:
    return 16 + round(484 * chance.random() ** 2)  # many short ones, few long ones


# Texts, and the tokens of one.
_SHAPES: Mapping[str, tuple[int, Length]] = {
    "short": (512, lambda chance: chance.randint(9, 23)),
    "mixed": (192, _mixed),
    "long": (80, lambda chance: chance.randint(256, LONGEST)),
}
CORPORA = tuple(_SHAPES)


class Corpus:
    """Texts of one kind. lengths: their tokens, special ones included."""

    def __init__(self, texts: list[str], lengths: list[int]) -> None:
        self.texts = texts
        self.lengths = lengths
        self.tokens = sum(lengths)


def build_corpora(tokenizer: Path) -> dict[str, Corpus]:
    """Cut the texts by a `tokenizer.json`; they are the same ones every time on one machine."""
    chance = random.Random(7)
    paragraphs = sorted(set(_paragraphs()))
    chance.shuffle(paragraphs)
    words = _counted(" ".join(paragraphs).split(), tokenizer)
    return {
        name: _cut(words, [length(chance) for _ in range(count)])
        for name, (count, length) in _SHAPES.items()
    }


def documents_of(tokenizer: Path, count: int, tokens: int) -> list[str]:
    """Cut texts of about so many tokens each."""
    chance = random.Random(11)
    paragraphs = sorted(set(_paragraphs()))
    chance.shuffle(paragraphs)
    words = _counted(" ".join(paragraphs).split(), tokenizer)
    return _cut(words, [tokens] * count).texts


def query_of(tokens: int) -> str:
    """Give a text of so many tokens, the special ones included."""
    return " ".join(["house"] * (tokens - _SPECIALS))


def _counted(words: list[str], tokenizer: Path) -> Iterator[tuple[str, int]]:
    """Give each word with its tokens, of which a text has the sum."""
    from tokenizers import Tokenizer

    fast = Tokenizer.from_file(str(tokenizer))
    fast.no_padding()
    fast.no_truncation()
    counts = [len(one.ids) for one in fast.encode_batch_fast(words, add_special_tokens=False)]
    return ((word, count) for word, count in zip(words, counts, strict=True) if count <= _RUN)


def _cut(words: Iterator[tuple[str, int]], lengths: list[int]) -> Corpus:
    """Fill texts up to `lengths`, none of which is exceeded."""
    texts, reached = [], []
    for wanted in lengths:
        chosen: list[str] = []
        tokens = _SPECIALS
        for word, count in words:
            if tokens + count > wanted:
                break  # the word is lost, there are enough
            chosen.append(word)
            tokens += count
        texts.append(" ".join(chosen))
        reached.append(tokens)
    return Corpus(texts, reached)


def _paragraphs() -> Iterator[str]:
    for text in [*_docstrings(), *_descriptions()]:
        for paragraph in re.split(r"\n\s*\n", text):
            joined = " ".join(paragraph.split())
            letters = sum(one.isalpha() or one == " " for one in joined)
            if len(joined) > 60 and letters > _LEAST_LETTERS * len(joined):
                yield joined


def _docstrings() -> Iterator[str]:
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def _descriptions() -> Iterator[str]:
    for distribution in importlib.metadata.distributions():
        yield str(distribution.metadata.get_payload() or "")
