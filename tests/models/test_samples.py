"""Texts by which models are quantized."""

from __future__ import annotations

import pytest

from inferry.errors import IllegalArgument
from inferry.models.samples import FEWEST, MOST, Sample, part, read_sample


@pytest.fixture
def file(tmp_path):
    return tmp_path / "texts.txt"


def test_texts_are_lines_and_blank_ones_are_none(file):
    lines = [f"Straße {number}" for number in range(20)]
    file.write_text("\n\n".join(lines) + "\r\n", encoding="utf-8")

    assert read_sample(file).lines == tuple(lines)


def test_of_many_texts_some_are_taken_from_all_over_the_file(file):
    file.write_text("\n".join(map(str, range(3000))))

    lines = read_sample(file).lines

    assert len(lines) == MOST
    assert lines[:3] == ("0", "10", "20")
    assert lines[-1] == "2990"


def test_without_texts_it_says_which_are_good():
    with pytest.raises(
        IllegalArgument, match=r"--texts FILE; 50 to 300 of the texts that the mode"
    ):
        read_sample(None)


def test_too_few_texts_are_counted(file):
    file.write_text("a text\n\n" * (FEWEST - 1))

    with pytest.raises(IllegalArgument, match=r"are \[15\], a line each: 50 to 300 .* least 16"):
        read_sample(file)


def test_texts_in_another_encoding_are_refused_with_the_line(file):
    file.write_bytes(b"one\ntwo\nStra\xdfe\n")

    with pytest.raises(IllegalArgument, match=r"are not UTF-8 in line \[3\]"):
        read_sample(file)


def test_a_file_that_is_not_there_is_named(file):
    with pytest.raises(IllegalArgument, match=r"cannot read the texts \[.*texts.txt\]: No such"):
        read_sample(file)


def test_every_tenth_text_is_held_out():
    chosen, held_out = part(range(25))

    assert held_out == [0, 10, 20]
    assert sorted(chosen + held_out) == [*range(25)]


def test_pairs_are_parted_by_a_tab():
    pairs = Sample("t", ("a query\ta document\twith a TAB", "another\tone")).pairs()

    assert [(pair.query, pair.document) for pair in pairs] == [
        ("a query", "a document\twith a TAB"),
        ("another", "one"),
    ]


def test_queries_are_made_of_the_beginnings_of_this_document_and_of_another():
    documents = tuple(" ".join([name] * 20) for name in "abcd")

    pairs = Sample("t", documents).pairs()

    assert [pair.document for pair in pairs] == [*documents]
    assert [pair.query for pair in pairs] == [" ".join([name] * 8) for name in "dbbd"]


def test_a_tab_in_some_lines_only_is_refused():
    with pytest.raises(
        IllegalArgument, match=r"but \[2\] have no TAB: all lines have one, or none"
    ):
        Sample("t", ("a query\ta document", "one", "another")).pairs()
