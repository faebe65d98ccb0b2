"""Texts to token ids, with the tokenizers library and the folder's `tokenizer.json`.

A special token that stands literally in a text is taken for one, as sentence-transformers does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from inferry.modeling import Encoded, Truncation
from inferry.models.folder import ModelFolder
from inferry.models.pairs import Frame, cut_pair

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
        self._frame = _frame_of_pairs(fast)

    @property
    def specials_of_pairs(self) -> int:
        """How many special tokens a pair has."""
        return self._frame.specials

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self._fast.get_vocab_size(with_added_tokens=True))

    def tokens(self) -> list[str]:
        """Give every token, by its id; an id that none has has an empty one."""
        tokens = [""] * self.vocabulary
        for token, number in self._fast.get_vocab(with_added_tokens=True).items():
            if number < len(tokens):
                tokens[number] = token
        return tokens

    def encode(self, texts: Sequence[str], *, skipped: int = 0) -> list[Encoded]:
        """Tokenize each text. skipped: leading tokens that shall not be pooled."""
        return [self._cut(ids, skipped) for ids in self._ids(texts, has_specials=True)]

    def encode_bare(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokenize each text without special tokens, to be looked up."""
        cut = self.max_tokens
        return [
            Encoded(ids[:cut], len(ids), is_looked_up=True)
            for ids in self._ids(texts, has_specials=False)
        ]

    def encode_pairs(
        self, query: str, documents: Sequence[str], truncation: Truncation
    ) -> list[Encoded]:
        """Tokenize `query` with each of `documents`, and cut one of them or both.

        Raises `IllegalArgument` where what is not to be cut leaves no room.
        """
        frame = self._frame
        room = self.max_tokens - frame.specials
        first, *others = self._ids([query, *documents], has_specials=False)
        pairs = []
        for other in others:
            kept, beside = cut_pair(len(first), len(other), room, truncation)
            ids, types = frame.put(first[:kept], other[:beside])
            tokens = len(first) + len(other) + frame.specials
            pairs.append(Encoded(ids, tokens, types=types))
        return pairs

    def _ids(self, texts: Sequence[str], *, has_specials: bool) -> list[list[int]]:
        """Tokenize; of a text that is far longer than the model takes only the beginning."""
        readable = [without_lone_surrogates(text) for text in texts]
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
        read = [_beginning(text, limit) for text in readable]
        batch = self._fast.encode_batch_fast(read, add_special_tokens=has_specials)
        encoded = [one.ids for one in batch]
        for place, (text, part) in enumerate(zip(readable, read, strict=True)):
            if len(part) < len(text):
                encoded[place] = self._read_on(text, encoded[place], limit, has_specials)
        return encoded

    def count(self, text: str) -> int:
        """Count the tokens of `text` and those before it, but not those that end a sequence."""
        return len(self._fast.encode(text).ids) - len(self._trailing)

    def _read_on(self, text: str, ids: list[int], limit: int, has_specials: bool) -> list[int]:  # noqa: FBT001 - private
        """Tokenize more and more of a long text until its first `max_tokens` tokens are settled."""
        while len(ids) < self.max_tokens + self.specials + _UNSETTLED and limit < len(text):
            limit *= _GROWTH
            beginning = [_beginning(text, limit)]
            batch = self._fast.encode_batch_fast(beginning, add_special_tokens=has_specials)
            ids = batch[0].ids
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


def _frame_of_pairs(fast: FastTokenizer) -> Frame:
    """Find what is put around the texts of a pair, by way of a pair of one token each."""
    from tokenizers import PreTokenizedString, Token

    texts = []
    for number in range(2):
        one_token = PreTokenizedString("a")
        one_token.tokenize(lambda _, number=number: [Token(number, "a", (0, 1))])
        texts.append(one_token.to_encoding())
    whole = fast.post_process(texts[0], texts[1])
    first, second = (at for at, mark in enumerate(whole.special_tokens_mask) if not mark)
    return Frame(tuple(whole.ids), tuple(whole.type_ids), first, second)


def _beginning(text: str, limit: int) -> str:
    """Give the text up to a blank near `limit`, or up to `limit` in a script without blanks.

    Words are tokenized one by one, so those before the blank come out as in the whole text.
    """
    if len(text) <= limit:
        return text
    end = max(text.rfind(" ", limit // 2, limit), text.rfind("\n", limit // 2, limit))
    return text[: end if end > 0 else limit]


def without_lone_surrogates(text: str) -> str:
    """Put U+FFFD where half of a surrogate pair stands alone, which no encoding has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
