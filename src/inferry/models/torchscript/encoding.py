"""Texts and pairs of texts as the windows that a module sees.

The layouts and the rules of cutting are those of Elasticsearch's tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from inferry.errors import BadRequest
from inferry.modeling import Encoded, Truncation
from inferry.models.pairs import cut_pair
from inferry.models.tokenizers import without_lone_surrogates
from inferry.models.torchscript.metadata import TaskSettings
from inferry.models.torchscript.vocabulary import SPECIAL_TOKENS, Tokenization
from inferry.models.torchscript.windows import lay_windows

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as FastTokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """What one run of the module sees of a text, or of a pair.

    ids: with special tokens. spans: of the text's own tokens - the second text's in a pair -, as
    places of characters in it; they stand at `first` in `ids`.
    """

    ids: Sequence[int]
    first: int = 0
    spans: Sequence[tuple[int, int]] = ()
    words: Sequence[int | None] = ()


@dataclass(frozen=True, slots=True)
class EncodedText(Encoded):
    """A text with all that is needed to answer about it.

    pieces: what runs, at least one. mask: how one is written.
    """

    text: str = ""
    pieces: tuple[Piece, ...] = ()
    settings: TaskSettings | None = None
    mask: str = ""


class Encoder:
    """Tokenizes for one module. May be used from several threads at once."""

    def __init__(self, fast: FastTokenizer, kind: str) -> None:
        special = SPECIAL_TOKENS[kind]
        ids = fast.get_vocab(with_added_tokens=False)
        self._fast = fast
        self._start, self._end = ids.get(special.start, 0), ids.get(special.end, 0)
        self._between = [self._end] * special.separators
        self.padding_id = ids[special.padding]
        self.mask_token = special.mask
        self.mask_id = ids.get(special.mask)

    def encode(self, text: str, settings: TaskSettings, *, prefix: str = "") -> EncodedText:
        """Tokenize a text. Raises `BadRequest` for one that is too long and may not be cut."""
        rules = settings.tokens
        found = self._tokenize(prefix + text)
        specials = 2 if rules.with_special_tokens else 0
        room = _room(rules, specials)
        tokens = len(found.ids) + specials
        if tokens > rules.max_sequence_length and rules.truncate == "none":
            places = self._windows(found, room, rules, tokens)
        else:
            places = [(0, min(len(found.ids), room))]
        pieces = tuple(
            Piece(
                self._framed(found.ids[start:end], rules),
                first=specials // 2,
                spans=found.offsets[start:end],
                words=found.word_ids[start:end],
            )
            for start, end in places
        )
        return replace(_encoded(pieces, tokens, text, settings), mask=self.mask_token)

    def encode_against(
        self, text: str, hypotheses: Sequence[str], settings: TaskSettings
    ) -> EncodedText:
        """Tokenize a text as a pair with each hypothesis, a piece for each."""
        pairs = [self.encode_pair(text, one, settings) for one in hypotheses]
        pieces = tuple(pair.pieces[0] for pair in pairs)
        tokens = max(pair.tokens for pair in pairs)
        whole = any(pair.is_truncated for pair in pairs)
        longest = max((piece.ids for piece in pieces), key=len)
        return EncodedText(
            longest, tokens if whole else len(longest), text=text, pieces=pieces, settings=settings
        )

    def encode_pair(self, first: str, second: str, settings: TaskSettings) -> EncodedText:
        """Tokenize a pair. Raises `BadRequest` where it is too long and may not be cut."""
        rules = settings.tokens
        if not rules.with_special_tokens:
            raise BadRequest("Unable to do sequence pair tokenization without special tokens")
        one, other = self._tokenize(first), self._tokenize(second)
        specials = 2 + len(self._between)
        room = _room(rules, specials)
        tokens = len(one.ids) + len(other.ids) + specials
        kept = len(one.ids)
        if tokens > rules.max_sequence_length and rules.truncate == "none":
            if kept >= room:
                raise BadRequest(
                    f"Unable to do sequence pair tokenization: the first sequence [{kept} tokens]"
                    f" is longer than the max sequence length [{room} tokens]"
                )
            places = self._windows(other, room - kept, rules, tokens)
        else:
            kept, beside = cut_pair(kept, len(other.ids), room, _cutting(rules.truncate))
            places = [(0, beside)]
        head = [self._start, *one.ids[:kept], *self._between]
        pieces = tuple(
            Piece(
                [*head, *other.ids[start:end], self._end],
                first=len(head),
                spans=other.offsets[start:end],
                words=other.word_ids[start:end],
            )
            for start, end in places
        )
        return _encoded(pieces, tokens, second, settings)

    def _tokenize(self, text: str) -> Encoding:
        return self._fast.encode(without_lone_surrogates(text), add_special_tokens=False)

    def _framed(self, ids: Sequence[int], rules: Tokenization) -> Sequence[int]:
        return [self._start, *ids, self._end] if rules.with_special_tokens else ids

    def _windows(
        self, found: Encoding, room: int, rules: Tokenization, tokens: int
    ) -> list[tuple[int, int]]:
        if rules.span < 0:
            raise BadRequest(
                f"Input too large. The tokenized input length [{tokens}] exceeds the maximum"
                f" sequence length [{rules.max_sequence_length}]"
            )
        return [(one.start, one.end) for one in lay_windows(found.word_ids, room, rules.span)]


def _encoded(
    pieces: tuple[Piece, ...], tokens: int, text: str, settings: TaskSettings
) -> EncodedText:
    longest = max((piece.ids for piece in pieces), key=len)
    whole = len(longest) if len(pieces) > 1 else tokens
    return EncodedText(longest, whole, text=text, pieces=pieces, settings=settings)


def _room(rules: Tokenization, specials: int) -> int:
    room = rules.max_sequence_length - specials
    if room < 1:
        raise BadRequest(
            f"[max_sequence_length] of [{rules.max_sequence_length}] leaves no room beside"
            f" [{specials}] special tokens"
        )
    return room


def _cutting(truncate: str) -> Truncation:
    """Give how a pair is cut; one that is not to be cut fits anyway."""
    return "second" if truncate == "none" else cast("Truncation", truncate)
