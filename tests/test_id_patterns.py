"""Expressions of the wire that mean several ids."""

from __future__ import annotations

import pytest

from inferry.id_patterns import fits, patterns_of


@pytest.mark.parametrize("expression", ["", "*", "_all"])
def test_all_ids_have_three_names(expression):
    assert patterns_of(expression) == ["*"]


def test_commas_part_ids_and_patterns():
    assert patterns_of("a,b-*,_all") == ["a", "b-*", "_all"]


@pytest.mark.parametrize(
    ("pattern", "means"),
    [("m-[1]?", True), ("m-*", True), ("*?", True), ("m-[1]x", False), ("m-??", False)],
)
def test_only_the_asterisk_is_special(pattern, means):
    assert fits("m-[1]?", pattern) is means
