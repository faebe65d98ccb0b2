"""Tokenizers rebuilt from a vocabulary: what stands around texts, and what is no special token."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.errors import Conflict, UnusableModel
from inferry.models.torchscript.vocabulary import Tokenization, Vocabulary, build_tokenizer
from tests.models.torchscript.uploads import WORDS

ANGLES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def rules(**given: Any) -> Tokenization:
    usual: dict[str, Any] = {
        "do_lower_case": True,
        "with_special_tokens": True,
        "max_sequence_length": 512,
        "truncate": "first",
        "span": -1,
    }
    return Tokenization(**usual | given)


def test_special_tokens_stand_around_texts_and_between_pairs():
    fast = build_tokenizer("bert", Vocabulary(WORDS), rules())

    assert fast.encode("My words.").tokens == ["[CLS]", "my", "words", ".", "[SEP]"]
    assert fast.encode("my", "words").tokens == ["[CLS]", "my", "[SEP]", "words", "[SEP]"]


def test_other_models_have_two_separators_between_pairs():
    vocabulary = Vocabulary([*ANGLES, "[UNK]", "my", "words"])

    fast = build_tokenizer("mpnet", vocabulary, rules())

    assert fast.encode("my", "words").tokens == ["<s>", "my", "</s>", "</s>", "words", "</s>"]


def test_a_special_token_in_a_text_is_text_but_for_the_mask():
    fast = build_tokenizer("bert", Vocabulary([*WORDS, "[", "]", "sep"]), rules())

    found = fast.encode("my [SEP] [MASK]").tokens

    assert found == ["[CLS]", "my", "[", "sep", "]", "[MASK]", "[SEP]"]


def test_local_row_002_a_vocabulary_without_special_tokens_is_enough_where_none_are_put():
    fast = build_tokenizer(
        "bert", Vocabulary(["[PAD]", "[UNK]", "my"]), rules(with_special_tokens=False)
    )

    assert fast.encode("my word").ids == [2, 1]


@pytest.mark.parametrize(
    ("kind", "tokens", "missing"),
    [
        ("bert", ["[PAD]", "[CLS]", "[SEP]"], "[UNK]"),
        ("bert", ["[UNK]", "[CLS]", "[SEP]"], "[PAD]"),
        ("bert", ["[UNK]", "[PAD]", "[SEP]"], "[CLS]"),
        ("mpnet", ["[UNK]", "<pad>", "<s>"], "</s>"),
        ("roberta", ["<pad>", "<s>", "</s>"], "<unk>"),
        ("deberta_v2", ["[UNK]", "[PAD]", "[CLS]"], "[SEP]"),
    ],
)
def test_a_vocabulary_without_a_token_that_it_must_have_is_refused(kind, tokens, missing):
    scores = [0.0] * len(tokens)

    with pytest.raises(Conflict) as refusal:
        build_tokenizer(kind, Vocabulary(tokens, [], scores), rules(do_lower_case=False))

    assert str(refusal.value) == f"stored vocabulary is missing required [{missing}] token"


def test_merges_of_tokens_that_are_not_there_are_refused():
    vocabulary = Vocabulary([*ANGLES, "a", "b"], merges=["a c"])

    with pytest.raises(UnusableModel, match="makes no"):
        build_tokenizer("roberta", vocabulary, rules(do_lower_case=False))
