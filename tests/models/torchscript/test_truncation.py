"""How texts and pairs of every tokenizer are cut, or seen through windows.

Words are letters, each of which is one token; the models take sixteen tokens at once. What is
expected is counted by hand from the rules of Elasticsearch's tokenizers: a pair has three special
tokens where one separator parts its texts, and four where two do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inferry.domain import InputType
from inferry.errors import BadRequest, IllegalArgument
from inferry.modeling import Encoded, Network
from inferry.models.folder import ModelFolder
from inferry.models.networks import Networks
from inferry.models.tokenizers import Tokenizer
from inferry.models.torchscript.encoding import EncodedText, Encoder
from inferry.models.torchscript.metadata import read_purpose
from inferry.models.torchscript.model import ModuleModel, Parts
from inferry.models.torchscript.preparation import Verdict
from inferry.models.torchscript.vocabulary import Vocabulary, build_tokenizer
from tests.models.torchscript.uploads import write_upload

LONGEST = 16
WORDS = [*"abcdefghijklmnopqrstuvwxyz0123"]
BRACKETS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ANGLES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
PIECES = [*(f"▁{word}" for word in WORDS), *WORDS, "▁"]
VOCABULARIES: dict[str, dict[str, Any]] = {
    "bert": {"vocabulary": [*BRACKETS, *WORDS, *(f"##{word}" for word in WORDS)]},
    "mpnet": {"vocabulary": [*ANGLES, "[UNK]", *WORDS, *(f"##{word}" for word in WORDS)]},
    "roberta": {
        "vocabulary": [*ANGLES, "Ġ", *WORDS, *(f"Ġ{word}" for word in WORDS)],
        "merges": [f"Ġ {word}" for word in WORDS],
    },
    "xlm_roberta": {
        "vocabulary": [*ANGLES, *PIECES],
        "scores": [0.0] * 5 + [-1.0] * len(WORDS) + [-3.0] * (len(WORDS) + 1),
    },
    "deberta_v2": {
        "vocabulary": [*BRACKETS, *PIECES],
        "scores": [0.0] * 5 + [-1.0] * len(WORDS) + [-3.0] * (len(WORDS) + 1),
    },
}
KINDS = pytest.mark.parametrize("kind", VOCABULARIES)
SEPARATORS = {"bert": 1, "deberta_v2": 1, "mpnet": 2, "roberta": 2, "xlm_roberta": 2}


class Nothing:
    """A network that is not asked."""

    def run(self, ids: Any, mask: Any, marks: Any) -> Any:
        raise AssertionError


class Cutting:
    """A model that tokenizes."""

    def __init__(self, folder: Path, kind: str, task: str, **tokenization: Any) -> None:
        given = {"max_sequence_length": LONGEST, **tokenization}
        if kind == "roberta":
            given["add_prefix_space"] = True
        source = write_upload(
            folder, b"", task=task, kind=kind, vocabulary=VOCABULARIES[kind], **given
        )
        purpose = read_purpose(ModelFolder(source))
        vocabulary = Vocabulary(**VOCABULARIES[kind])
        fast = build_tokenizer(kind, vocabulary, purpose.settings.tokens)
        tokenizer = Tokenizer(fast, max_tokens=LONGEST)
        verdict = Verdict("openvino", is_batchable=True, shape=(4,), tokens=4)
        encoder = Encoder(fast, kind)
        parts = Parts(purpose, tokenizer, encoder, vocabulary.vocabulary, verdict)
        network: Network = Nothing()
        self._model = ModuleModel(parts, Networks(network, network))
        self._tokens = vocabulary.vocabulary

    def encode(self, text: str, query: str | None = None) -> Encoded:
        (found,) = self._model.encode([text], InputType.UNSPECIFIED, query)
        return found

    def seen(self, text: str, query: str | None = None) -> list[str]:
        """Give what reaches the model of each window, specials as `|`."""
        found = self.encode(text, query)
        pieces = [piece.ids for piece in found.pieces] if isinstance(found, EncodedText) else []
        return [self._written(ids) for ids in pieces or [found.ids]]

    def _written(self, ids: Any) -> str:
        tokens = [self._tokens[one].strip("▁Ġ#") for one in ids]
        return "".join("|" if one in (*BRACKETS, *ANGLES) else one for one in tokens)


def words(count: int) -> str:
    return " ".join(WORDS[:count])


def joined(count: int, first: int = 0) -> str:
    return "".join(WORDS[first : first + count])


@pytest.fixture
def cutting(tmp_path):
    def make(kind: str, task: str = "text_embedding", **tokenization: Any) -> Cutting:
        return Cutting(tmp_path / "m", kind, task, **tokenization)

    return make


@KINDS
@pytest.mark.parametrize("with_special_tokens", [True, False])
def test_the_place_of_a_word_is_that_of_its_letters(cutting, kind, with_special_tokens):
    model = cutting(
        kind,
        "question_answering" if with_special_tokens else "ner",
        with_special_tokens=with_special_tokens,
    )

    found = model.encode("ab c d", "a" if with_special_tokens else None)

    assert isinstance(found, EncodedText)
    assert list(found.pieces[0].spans) == [(0, 1), (1, 2), (3, 4), (5, 6)]


# --- one text ----------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("truncate", ["first", "second", "balanced"])
def test_local_row_013_the_tail_of_a_text_is_cut(cutting, kind, truncate):
    model = cutting(kind, truncate=truncate)

    assert model.seen(words(14)) == [f"|{joined(14)}|"]
    assert not model.encode(words(14)).is_truncated
    assert model.seen(words(20)) == [f"|{joined(14)}|"]
    assert model.encode(words(20)).is_truncated


@KINDS
def test_local_row_013_a_text_that_may_not_be_cut_is_refused(cutting, kind):
    model = cutting(kind, truncate="none")

    assert model.seen(words(14)) == [f"|{joined(14)}|"]
    with pytest.raises(BadRequest) as refused:
        model.encode(words(20))

    assert str(refused.value) == (
        "Input too large. The tokenized input length [22] exceeds the maximum sequence length [16]"
    )


@KINDS
@pytest.mark.parametrize(
    ("span", "starts"), [(0, [(0, 14), (14, 28), (28, 30)]), (4, [(0, 14), (10, 24), (20, 30)])]
)
def test_local_row_013_windows_are_laid_over_a_text(cutting, kind, span, starts):
    model = cutting(kind, truncate="none", span=span)

    expected = [f"|{joined(end - start, start)}|" for start, end in starts]
    assert model.seen(words(30)) == expected
    assert not model.encode(words(30)).is_truncated


@KINDS
def test_local_row_013_windows_begin_and_end_between_words(cutting, kind):
    model = cutting(kind, truncate="none", span=3, max_sequence_length=15)

    found = model.seen(" ".join(joined(2, start) for start in range(0, 20, 2)))

    assert found == [f"|{joined(12)}|", f"|{joined(12, 8)}|"]


@KINDS
@pytest.mark.parametrize("truncate", ["first", "none"])
def test_local_row_013_nothing_is_added_without_special_tokens(cutting, kind, truncate):
    model = cutting(kind, truncate=truncate, with_special_tokens=False)

    assert model.seen(words(16)) == [joined(16)]
    if truncate == "first":
        assert model.seen(words(20)) == [joined(16)]
    else:
        with pytest.raises(BadRequest, match=r"length \[20\] exceeds the maximum .* \[16\]"):
            model.encode(words(20))


# --- pairs -------------------------------------------------------------------------------------


def pair(kind: str, query: int, document: int, first: int = 0) -> str:
    return f"|{joined(query)}{'|' * SEPARATORS[kind]}{joined(document, first)}|"


def room(kind: str) -> int:
    return LONGEST - 2 - SEPARATORS[kind]


@KINDS
@pytest.mark.parametrize("truncate", ["first", "second", "balanced", "none"])
def test_local_row_013_a_pair_that_fits_is_whole(cutting, kind, truncate):
    model = cutting(kind, "text_similarity", truncate=truncate)

    assert model.seen(words(7), words(5)) == [pair(kind, 5, 7)]
    assert not model.encode(words(7), words(5)).is_truncated


@KINDS
def test_local_row_013_the_document_of_a_pair_is_cut(cutting, kind):
    model = cutting(kind, "text_similarity", truncate="second")

    assert model.seen(words(20), words(5)) == [pair(kind, 5, room(kind) - 5)]
    assert model.encode(words(20), words(5)).is_truncated
    with pytest.raises(IllegalArgument, match="too large for the first sequence"):
        model.encode(words(2), words(room(kind) + 1))


@KINDS
def test_local_row_013_the_query_of_a_pair_is_cut(cutting, kind):
    model = cutting(kind, "text_similarity", truncate="first")

    assert model.seen(words(5), words(20)) == [pair(kind, room(kind) - 5, 5)]
    assert model.encode(words(5), words(20)).is_truncated
    with pytest.raises(IllegalArgument, match="too large for the second sequence"):
        model.encode(words(room(kind) + 1), words(2))


@KINDS
@pytest.mark.parametrize(
    ("query", "document", "kept"),
    [
        (20, 20, (6, None)),  # half of 13 or of 12 for the query, the rest for the document
        (3, 20, (3, None)),
        (20, 4, (None, 4)),
    ],
)
def test_local_row_013_both_texts_of_a_pair_are_cut(cutting, kind, query, document, kept):
    model = cutting(kind, "text_similarity", truncate="balanced")

    left, right = kept
    left = room(kind) - right if left is None else left
    right = room(kind) - left if right is None else right
    assert model.seen(words(document), words(query)) == [pair(kind, left, right)]
    assert model.encode(words(document), words(query)).is_truncated


@KINDS
def test_local_row_013_a_pair_that_may_not_be_cut_is_refused(cutting, kind):
    model = cutting(kind, "text_similarity", truncate="none")

    length = 25 + 2 + SEPARATORS[kind]
    with pytest.raises(BadRequest) as refused:
        model.encode(words(20), words(5))

    assert str(refused.value) == (
        f"Input too large. The tokenized input length [{length}] exceeds the maximum sequence"
        f" length [{LONGEST}]"
    )


@KINDS
@pytest.mark.parametrize("span", [0, 2])
def test_local_row_013_windows_are_laid_over_the_document_of_a_pair(cutting, kind, span):
    model = cutting(kind, "text_similarity", truncate="none", span=span)

    found = model.seen(words(20), words(5))

    wide = room(kind) - 5
    starts = range(0, 20 - span, wide - span)
    assert found == [pair(kind, 5, min(wide, 20 - start), start) for start in starts]
    assert not model.encode(words(20), words(5)).is_truncated
    with pytest.raises(BadRequest, match="first sequence"):
        model.encode(words(20), words(LONGEST))


@KINDS
def test_local_row_013_a_span_as_long_as_a_window_is_refused(cutting, kind):
    model = cutting(kind, "text_similarity", truncate="none", span=8)

    with pytest.raises(BadRequest, match="would not begin behind"):
        model.encode(words(20), words(5))


@KINDS
def test_local_row_013_pairs_need_special_tokens(cutting, kind):
    model = cutting(kind, "text_similarity", with_special_tokens=False)

    with pytest.raises(BadRequest) as refused:
        model.encode("a", "b")

    assert str(refused.value) == ("Unable to do sequence pair tokenization without special tokens")
