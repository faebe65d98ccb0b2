"""Values of query parameters, and the hints for those that nobody knows."""

from __future__ import annotations

import pytest

from inferry.api.parameters import (
    check_parameters,
    hint,
    parse_flag,
    parse_query,
    parse_timeout,
)
from inferry.errors import IllegalArgument


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (b"a=1&b", {"a": "1", "b": ""}),
        (b"a=1&a=2", {"a": "2"}),
        (b"a=x+y%20z%3D&&", {"a": "x y z="}),
        (b"a=%ff", {"a": "\ufffd"}),
    ],
)
def test_a_query_string_becomes_values(query, values):
    assert parse_query(query) == values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m", 60),
        ("500ms", 0.5),
        ("2h", 7200),
        ("1d", 86400),
        ("5micros", 5e-6),
        ("5nanos", 5e-9),
        ("0", 0),
        (" 30S ", 30),
    ],
)
def test_a_duration_has_a_unit(text, seconds):
    given_s, written = parse_timeout(text)

    assert given_s == pytest.approx(seconds)
    assert written == text.strip()


def test_without_limit_means_very_long():
    assert parse_timeout("-1")[0] > 10_000_000
    assert parse_timeout("999999999999999999d")[0] == parse_timeout("-1")[0]


@pytest.mark.parametrize("text", ["abc", "30", "1.5s", "-1s", "-5s", "s", "", "1w", "٣s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(IllegalArgument, match="unit is missing or unrecognized"):
        parse_timeout(text)


def test_flags_are_false_unless_given():
    assert [parse_flag(query, "x") for query in ({}, {"x": ""}, {"x": "true"}, {"x": "false"})] == [
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(IllegalArgument, match=r"Failed to parse value \[TRUE\]"):
        parse_flag({"x": "TRUE"}, "x")


def test_unknown_parameters_are_sorted_and_near_ones_suggested():
    with pytest.raises(IllegalArgument) as caught:
        check_parameters(["timeot", "foo", "pretty"], frozenset({"timeout"}), "/_inference/a")

    assert caught.value.message == (
        "request [/_inference/a] contains unrecognized parameters: "
        "[foo], [timeot] -> did you mean [timeout]?"
    )


def test_a_hint_is_cheap_for_a_hostile_name():
    assert hint("x" * 100_000, ["timeout"]) == ""


def test_several_near_names_are_all_suggested():
    shown = hint("inputa", ["input", "inputs", "query"], arrow="")

    assert shown == " did you mean any of [input, inputs]?"
