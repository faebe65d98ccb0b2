"""Texts to token ids, cut to what the model takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.errors import UnusableModel
from inferry.modeling import ModelSource
from inferry.models.folder import ModelFolder
from inferry.models.tokenizers import read_tokenizer
from tests.models.folders import write_tokenizer

CLS, SEP, A, B = 2, 3, 5, 6


def read(top, *, max_tokens=8, lowers_case=False, **changes):
    write_tokenizer(top / "tokenizer.json", **changes)
    folder = ModelFolder(ModelSource("demo", top))
    return read_tokenizer(folder, "tokenizer.json", max_tokens=max_tokens, lowers_case=lowers_case)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return read(tmp_path_factory.mktemp("tokenizer"))


def test_special_tokens_stand_around_a_text(tokenizer):
    (encoded,) = tokenizer.encode(["a b"])

    assert encoded.ids == [CLS, A, B, SEP]
    assert encoded.tokens == 4
    assert not encoded.is_truncated


def test_padding_and_truncation_of_the_file_are_switched_off(tmp_path):
    (encoded,) = read(tmp_path, max_tokens=30).encode(["a " * 20])

    assert len(encoded.ids) == 22


def test_a_long_text_keeps_its_beginning_and_its_special_tokens(tokenizer):
    (encoded,) = tokenizer.encode(["a b " * 10])

    assert encoded.ids == [CLS, A, B, A, B, A, B, SEP]
    assert encoded.tokens == 22
    assert encoded.is_truncated


def test_a_text_that_just_fits_is_whole(tokenizer):
    (encoded,) = tokenizer.encode(["a b a b a b"])

    assert len(encoded.ids) == 8
    assert not encoded.is_truncated


def test_an_empty_text_has_its_special_tokens(tokenizer):
    assert [one.ids for one in tokenizer.encode(["", " \n\t"])] == [[CLS, SEP], [CLS, SEP]]


def test_no_text_has_no_tokens(tokenizer):
    assert tokenizer.encode([]) == []


def test_a_special_token_in_a_text_is_taken_for_one(tokenizer):
    assert tokenizer.encode(["a [SEP] b [MASK]"])[0].ids == [CLS, A, SEP, B, 4, SEP]


def test_half_of_a_surrogate_pair_is_an_unknown_character(tokenizer):
    (encoded, pair) = tokenizer.encode(["a \ud800 b", "\ud83d\ude00"])

    assert encoded.ids[:2] == [CLS, A]
    assert pair.ids == tokenizer.encode(["😀"])[0].ids


def test_case_is_lowered_where_the_model_asks_for_it(tmp_path):
    cased = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    cased |= {"strip_accents": False, "lowercase": False}

    kept = read(tmp_path, normalizer=cased).encode(["A"])
    lowered = read(tmp_path, normalizer=cased, lowers_case=True).encode(["A"])
    without_any = read(tmp_path, normalizer=None, lowers_case=True).encode(["A"])

    assert kept[0].ids == [CLS, 1, SEP]
    assert lowered[0].ids == without_any[0].ids == [CLS, A, SEP]


def test_the_tokens_of_a_prompt_are_counted_with_what_begins_a_text(tokenizer):
    assert tokenizer.count("a b ") == 3


def test_a_tokenizer_may_add_nothing(tmp_path):
    tokenizer = read(tmp_path, max_tokens=2, post_processor=None)

    assert tokenizer.encode(["a b a"])[0].ids == [A, B]


# Long enough that only the beginning is read: 8 tokens times 32 characters.
WORDS = st.sampled_from(["a", "bcd", "e.f", "xyz" * 50, "é", "日本", "[SEP]", "\n\n", "\t", "😀"])
JOINTS = st.sampled_from([" ", "  ", "", "\n", "\u3000"])


@given(st.lists(st.tuples(WORDS, JOINTS), min_size=20, max_size=300))
def test_the_beginning_of_a_long_text_is_tokenized_as_in_the_whole(tokenizer, parts):
    text = "".join(word + joint for word, joint in parts)

    (encoded,) = tokenizer.encode([text])

    whole = tokenizer._fast.encode(text).ids
    expected = whole if len(whole) <= 8 else [*whole[:7], SEP]
    assert encoded.ids == expected
    assert encoded.is_truncated == (len(whole) > 8)


def test_of_a_very_long_text_only_as_much_is_read_as_it_takes(tokenizer):
    (encoded,) = tokenizer.encode(["a " * 1_000_000])

    assert encoded.ids == [CLS, *[A] * 6, SEP]
    assert 8 < encoded.tokens < 1000


def test_a_very_long_word_is_read_to_its_end(tokenizer):
    (encoded,) = tokenizer.encode(["x" * 100_000 + " a"])

    assert encoded.ids == [CLS, 1, A, SEP]


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model": 1}', "null"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    folder = ModelFolder(ModelSource("demo", tmp_path))

    with pytest.raises(UnusableModel, match=r"\[tokenizer.json\] cannot be read: "):
        read_tokenizer(folder, "tokenizer.json", max_tokens=8, lowers_case=False)


def test_a_limit_that_leaves_no_room_for_text_is_refused(tmp_path):
    with pytest.raises(UnusableModel, match=r"puts \[2\] special tokens into texts of \[2\]"):
        read(tmp_path, max_tokens=2)
