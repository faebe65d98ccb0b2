"""Chunking settings: rows 68 to 83 of the checklist, and the limits between them."""

import pytest

from inferry.core.chunking import DEFAULT_CHUNKING, resolve_chunking
from inferry.domain import Json
from inferry.errors import IllegalArgument, InvalidSettings


def problem(given) -> str:
    with pytest.raises(InvalidSettings) as refused:
        resolve_chunking(given)
    return refused.value.message


@pytest.mark.parametrize("given", [None, {}])
def test_rows_68_69_nothing_given_is_the_default(given) -> None:
    assert resolve_chunking(given) == {
        "strategy": "sentence",
        "max_chunk_size": 250,
        "sentence_overlap": 1,
    }
    assert resolve_chunking(given) == dict(DEFAULT_CHUNKING)


def test_row_71_an_object_without_strategy_is_refused() -> None:
    with pytest.raises(IllegalArgument) as refused:
        resolve_chunking({"max_chunk_size": 50})

    assert refused.value.message == "Can't generate Chunker without ChunkingStrategy provided"


@pytest.mark.parametrize(("given", "shown"), [("page", "page"), (5, "5"), ({}, "{}")])
def test_row_72_an_unknown_strategy_is_refused(given, shown: str) -> None:
    with pytest.raises(IllegalArgument) as refused:
        resolve_chunking({"strategy": given})

    assert refused.value.message == f"Invalid chunkingStrategy {shown}"


def test_strategies_are_read_whatever_their_case() -> None:
    assert resolve_chunking({"strategy": " NONE "}) == {"strategy": "none"}


def test_row_73_a_sentence_chunk_has_at_least_20_words() -> None:
    assert problem({"strategy": "sentence", "max_chunk_size": 19}) == (
        "Validation Failed: 1: [chunking_settings] Invalid value [19.0]. [max_chunk_size] must be "
        "a greater than or equal to [20.0];"
    )


def test_sizes_have_no_upper_limit() -> None:
    given: Json = {"strategy": "sentence", "max_chunk_size": 5000, "sentence_overlap": 0}

    assert resolve_chunking(given) == given


@pytest.mark.parametrize("overlap", [2, -1])
def test_row_74_sentences_overlap_by_one_or_not_at_all(overlap: int) -> None:
    given: Json = {"strategy": "sentence", "max_chunk_size": 50, "sentence_overlap": overlap}

    assert f"1: sentence_overlap[{overlap}] must be either 0 or 1;" in problem(given)


def test_a_sentence_overlap_that_is_not_given_is_1() -> None:
    assert resolve_chunking({"strategy": "sentence", "max_chunk_size": 20}) == {
        "strategy": "sentence",
        "max_chunk_size": 20,
        "sentence_overlap": 1,
    }


@pytest.mark.parametrize(
    ("strategy", "given", "text"),
    [
        ("sentence", {"overlap": 1, "x": 2}, "Sentence based chunking settings can not have the "),
        ("word", {"sentence_overlap": 1, "x": 2}, "Word based chunking settings can not have the "),
        ("recursive", {"overlap": 1, "x": 2}, "Recursive chunking settings can not have the "),
        ("none", {"overlap": 1, "x": 2}, "Sentence based chunking settings can not have the "),
    ],
)
def test_rows_75_83_keys_of_another_strategy_are_refused(strategy, given, text) -> None:
    names = ", ".join(given)

    assert f"1: {text}following settings: [{names}];" in problem({"strategy": strategy, **given})


def test_row_83_none_takes_no_size() -> None:
    assert "following settings: [max_chunk_size];" in problem(
        {"strategy": "none", "max_chunk_size": 20}
    )


def test_row_76_a_word_chunk_has_at_least_10_words() -> None:
    assert "Invalid value [9.0]. [max_chunk_size] must be a greater than or equal to [10.0]" in (
        problem({"strategy": "word", "max_chunk_size": 9, "overlap": 1})
    )


def test_row_77_words_overlap_by_half_of_the_size_at_most() -> None:
    assert problem({"strategy": "word", "max_chunk_size": 25, "overlap": 13}) == (
        "Validation Failed: 1: [chunking_settings] Invalid value [13.0]. [overlap] must be a less "
        "than or equal to [12.0];"
    )


@pytest.mark.parametrize("overlap", [0, 1, 12])
def test_words_may_overlap_from_0_to_half_of_the_size(overlap: int) -> None:
    given: Json = {"strategy": "word", "max_chunk_size": 25, "overlap": overlap}

    assert resolve_chunking(given) == given


def test_words_do_not_overlap_by_less_than_nothing() -> None:
    assert "[overlap] must be a greater than or equal to [0.0]" in problem(
        {"strategy": "word", "max_chunk_size": 25, "overlap": -1}
    )


def test_row_78_a_word_chunk_names_its_overlap() -> None:
    assert problem({"strategy": "word", "max_chunk_size": 25}) == (
        "Validation Failed: 1: [chunking_settings] does not contain the required setting [overlap];"
    )


@pytest.mark.parametrize("strategy", ["sentence", "word", "recursive"])
def test_a_chunk_names_its_size(strategy: str) -> None:
    assert "1: [chunking_settings] does not contain the required setting [max_chunk_size];" in (
        problem(
            {"strategy": strategy, "overlap": 1} if strategy == "word" else {"strategy": strategy}
        )
    )


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_is_positive(size: int) -> None:
    assert f"Invalid value [{size}]. [max_chunk_size] must be a positive integer" in problem(
        {"strategy": "recursive", "max_chunk_size": size}
    )


@pytest.mark.parametrize(
    ("size", "shown"), [("50", "50"), (50.0, "50.0"), (True, "true"), ([1], "[1]"), (2**31, 2**31)]
)
def test_a_size_of_another_type_is_refused(size, shown) -> None:
    assert problem({"strategy": "sentence", "max_chunk_size": size}) == (
        "Validation Failed: 1: field [max_chunk_size] is not of the expected type. The value "
        f"[{shown}] cannot be converted to a [Integer];"
    )


def test_row_79_the_group_of_separators_is_expanded_and_not_kept() -> None:
    given: Json = {"strategy": "recursive", "max_chunk_size": 10, "separator_group": "plaintext"}

    assert resolve_chunking(given) == {
        "strategy": "recursive",
        "max_chunk_size": 10,
        "separators": ["(?<!\\n)\\n\\n(?!\\n)", "(?<!\\n)\\n(?!\\n)"],
    }


def test_the_group_markdown_has_headings_of_six_levels_and_underlined_ones() -> None:
    given: Json = {"strategy": "recursive", "max_chunk_size": 10, "separator_group": "markdown"}

    separators = resolve_chunking(given)["separators"]

    assert isinstance(separators, list)
    assert separators[:2] == ["\n# ", "\n## "]
    assert separators[5:] == [
        "\n###### ",
        "\\n^(?!\\s*$).*\\n-{1,}\\n",
        "\\n^(?!\\s*$).*\\n={1,}\\n",
    ]


def test_separators_that_are_not_given_are_those_of_plain_text() -> None:
    separators = resolve_chunking({"strategy": "recursive", "max_chunk_size": 10})["separators"]

    assert separators == ["(?<!\\n)\\n\\n(?!\\n)", "(?<!\\n)\\n(?!\\n)"]


def test_separators_of_the_caller_are_kept() -> None:
    given: Json = {"strategy": "recursive", "max_chunk_size": 10, "separators": ["--", "\n"]}

    assert resolve_chunking(given) == given


def test_an_unknown_group_of_separators_is_refused() -> None:
    assert (
        "Invalid value [html] received. [separator_group] must be one of [markdown, plaintext]"
        in (problem({"strategy": "recursive", "max_chunk_size": 10, "separator_group": "html"}))
    )


def test_row_80_separators_and_a_group_exclude_each_other() -> None:
    given = {"separators": ["a"], "separator_group": "plaintext", "max_chunk_size": 10}

    assert "1: Recursive chunking settings can not have both separators and separator_set;" in (
        problem({"strategy": "recursive", **given})
    )


def test_row_81_an_empty_list_of_separators_is_refused() -> None:
    assert "1: Recursive chunking settings can not have an empty list of separators;" in problem(
        {"strategy": "recursive", "max_chunk_size": 10, "separators": []}
    )


def test_at_most_50_separators_are_taken() -> None:
    given: dict[str, Json] = {"strategy": "recursive", "max_chunk_size": 10}

    assert "must not exceed [50]" in problem({**given, "separators": ["x"] * 51})
    assert resolve_chunking({**given, "separators": ["x"] * 50})


@pytest.mark.parametrize("separators", ["x", [1], {"a": 1}])
def test_separators_are_a_list_of_strings(separators) -> None:
    assert "field [separators] is not of the expected type" in problem(
        {"strategy": "recursive", "max_chunk_size": 10, "separators": separators}
    )


def test_row_82_none_is_answered_as_the_strategy_alone() -> None:
    assert resolve_chunking({"strategy": "none"}) == {"strategy": "none"}


@pytest.mark.parametrize("given", ["sentence", 5, ["sentence"]])
def test_settings_that_are_no_object_are_refused(given) -> None:
    assert "field [chunking_settings] is not of the expected type" in problem(given)


def test_all_problems_of_one_object_are_reported_together() -> None:
    message = problem({"strategy": "word", "max_chunk_size": 5, "x": 1})

    assert message.count(";") == 3
    assert " 1: Word" in message
    assert ";2: [chunking_settings] Invalid value [5.0]" in message
    assert ";3: [chunking_settings] does not contain" in message
