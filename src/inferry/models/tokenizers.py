"""Texts to token ids, with the tokenizers library and the folder's `tokenizer.json`.

A special token that stands literally in a text is taken for one, as sentence-transformers does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from inferry.modeling import Encoded
from inferry.models.folder import ModelFolder

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

# A token has about five characters. Of a text that is far longer than the model takes only the
# beginning is read; where that has too few tokens, more of it.
_CHARACTERS_PER_TOKEN = 32
_GROWTH = 8
_UNSETTLED = 16  # tokens before such an end that may come out otherwise in the whole text


class Tokenizer:
    """Tokenizes and cuts. May be used from several threads at once."""

    def __init__(self, fast: FastTokenizer, *, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._fast = fast
        before, self._trailing = _special_tokens(fast)
        self.specials = len(before) + len(self._trailing)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self._fast.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str], *, skipped: int = 0) -> list[Encoded]:
        """Tokenize each text. skipped: leading tokens that shall not be pooled."""
        readable = [_without_lone_surrogates(text) for text in texts]
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
        read = [_beginning(text, limit) for text in readable]
        encoded = [one.ids for one in self._fast.encode_batch_fast(read)]
        for place, (text, part) in enumerate(zip(readable, read, strict=True)):
            if len(part) < len(text):
                encoded[place] = self._read_on(text, encoded[place], limit)
        return [self._cut(ids, skipped) for ids in encoded]

    def count(self, text: str) -> int:
        """Count the tokens of `text` and those before it, but not those that end a sequence."""
        return len(self._fast.encode(text).ids) - len(self._trailing)

    def _read_on(self, text: str, ids: list[int], limit: int) -> list[int]:
        """Tokenize more and more of a long text until its first `max_tokens` tokens are settled."""
        while len(ids) < self.max_tokens + self.specials + _UNSETTLED and limit < len(text):
            limit *= _GROWTH
            ids = self._fast.encode_batch_fast([_beginning(text, limit)])[0].ids
        return ids

    def _cut(self, ids: list[int], skipped: int) -> Encoded:
        if len(ids) <= self.max_tokens:
            return Encoded(ids, len(ids), skipped)
        kept = self.max_tokens - len(self._trailing)
        return Encoded(ids[:kept] + self._trailing, len(ids), skipped)


def read_tokenizer(
    folder: ModelFolder, path: str, *, max_tokens: int, lowers_case: bool
) -> Tokenizer:
    """Read a `tokenizer.json`. Raises `UnusableModel`.

    lowers_case: put all to lower case first, whatever the file says.
    """
    # One thread: it is never the bottleneck, and cores are lent to the models by the supervisor.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers
    from tokenizers import normalizers

    file = folder.file(path)
    try:
        fast = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library knows nothing narrower
        raise folder.unusable(path, f"cannot be read: {error}") from error
    fast.no_padding()
    fast.no_truncation()
    if lowers_case:
        own = [fast.normalizer] if fast.normalizer else []
        fast.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    tokenizer = Tokenizer(fast, max_tokens=max_tokens)
    if max_tokens <= tokenizer.specials:
        raise folder.unusable(
            path, f"puts [{tokenizer.specials}] special tokens into texts of [{max_tokens}]"
        )
    return tokenizer


def _special_tokens(fast: FastTokenizer) -> tuple[list[int], list[int]]:
    """Give the ids that are put before and behind the tokens of a text."""
    from tokenizers import PreTokenizedString, Token

    one_token = PreTokenizedString("a")
    one_token.tokenize(lambda _: [Token(0, "a", (0, 1))])
    whole = fast.post_process(one_token.to_encoding())
    place = whole.special_tokens_mask.index(0)
    return whole.ids[:place], whole.ids[place + 1 :]


def _beginning(text: str, limit: int) -> str:
    """Give the text up to a blank near `limit`, or up to `limit` in a script without blanks.

    Words are tokenized one by one, so those before the blank come out as in the whole text.
    """
    if len(text) <= limit:
        return text
    end = max(text.rfind(" ", limit // 2, limit), text.rfind("\n", limit // 2, limit))
    return text[: end if end > 0 else limit]


def _without_lone_surrogates(text: str) -> str:
    """Put U+FFFD where half of a surrogate pair stands alone, which no encoding has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
