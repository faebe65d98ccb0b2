"""The strict parser agrees with RFC 8259, and its positions are those a caller counts."""

import json
from typing import Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.api.strict_json import (
    MAX_DEPTH,
    MOST_EXACT,
    parse_json,
    parse_object,
    position_of,
    token_name,
)
from inferry.errors import MissingBody, UnreadableBody

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('aé\n"\\'), inner),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 2]), st.booleans())
def test_every_json_value_comes_back(value, indent, ascii_only) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()

    assert parse_json(body) == value


@given(st.text('{}[]":,\\ \n1-.eEtrufalsn', max_size=12))
def test_it_takes_exactly_what_the_standard_library_takes(text) -> None:
    def refuse_duplicates(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("duplicate")
        return dict(pairs)

    def refuse(_) -> Never:
        raise ValueError("not JSON")

    try:
        expected = json.loads(text, object_pairs_hook=refuse_duplicates, parse_constant=refuse)
    except ValueError:
        with pytest.raises(UnreadableBody, match=r"^\[\d+:\d+\] "):
            parse_json(text.encode())
    else:
        if expected not in (float("inf"), float("-inf")):
            assert parse_json(text.encode()) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a":1,"a":2}', "[1:8] Duplicate field 'a'"),
        (b'{"x":{"a":1,\n  "a":2}}', "[2:3] Duplicate field 'a'"),
        (b'{"a":1,}', ("[1:8] Unexpected character ('}' (code 125)), "
         "expected a field name in double quotes")),
        (b'{"a" 1}', "[1:6] Unrecognized token, expected a colon behind the field name"),
        (b"[1 2]", "[1:4] Unrecognized token, expected a comma or []]"),
        (b"[1", "[1:3] Unexpected end of input, expected a comma or []]"),
        (b'{"a":"b', "[1:8] Unexpected end of input in a string"),
        (b'"a\nb"', "[1:3] Illegal unquoted character (code 10) in a string"),
        (rb'"\x"', "[1:2] Unrecognized escape in a string"),
        (rb'"\ud800"', "[1:1] Unpaired surrogate [0xd800] in a string"),
        (b"NaN", "[1:1] Unrecognized token, expected a value"),
        (b"01", "[1:1] Unrecognized token"),
        (b"1e999", "[1:1] Number out of range"),
        (b"1" * 500, "[1:1] Number with more than 400 digits"),
        (b"{} {}", "[1:4] Unexpected character ('{' (code 123)), expected the end of the document"),
        (b"\xef\xbb\xbf{}", "[1:1] Unexpected byte order mark"),
        (b'{\n"\xff":1}', "[2:2] Invalid UTF-8"),
        (b"[" * (MAX_DEPTH + 1), "[1:201] Document nesting depth exceeds the maximum [200]"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_place(body, message) -> None:
    with pytest.raises(UnreadableBody) as caught:
        parse_json(body)

    assert caught.value.message == message


def test_an_unquoted_secret_is_not_repeated() -> None:
    with pytest.raises(UnreadableBody) as caught:
        parse_json(b'{"api_key": sk-marker}')

    assert "marker" not in caught.value.message


def test_the_depth_limit_is_itself_allowed() -> None:
    parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_no_body_is_not_an_unreadable_one(body) -> None:
    with pytest.raises(MissingBody, match="request body is required"):
        parse_object(body)


def test_a_body_that_is_no_object_says_what_it_is() -> None:
    with pytest.raises(UnreadableBody) as caught:
        parse_object(b" [1]")

    assert caught.value.message == "[1:2] Expected START_OBJECT but found START_ARRAY"


HUGE = b" " * MOST_EXACT


def test_a_huge_body_is_decoded_and_not_walked_through() -> None:
    assert parse_object(HUGE + b'{"a": 1, "b": 2}') == {"a": 1, "b": 2}
    assert position_of(HUGE + b'{"a": 1}', ("a",)) == "[1:1]"


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a":1,"a":1}'])
def test_a_fault_of_a_huge_body_has_no_position(body) -> None:
    with pytest.raises(UnreadableBody, match=r"^\[1:1\] "):
        parse_object(HUGE + body)


def test_a_huge_body_of_nothing_is_none() -> None:
    with pytest.raises(MissingBody):
        parse_object(HUGE * 3)


BODY = b'{"a": [1, {"b": true}],\n "c": "x", "d": {}}'


@pytest.mark.parametrize(
    ("path", "at_key", "position"),
    [
        ((), False, "[1:1]"),
        (("a",), True, "[1:2]"),
        (("a",), False, "[1:7]"),
        (("a", 1), False, "[1:11]"),
        (("a", 1, "b"), True, "[1:12]"),
        (("a", 1, "b"), False, "[1:17]"),
        (("c",), False, "[2:7]"),
        (("d",), True, "[2:12]"),
        (("nowhere",), False, "[1:1]"),
    ],
)
def test_a_path_has_a_position(path, at_key, position) -> None:
    assert position_of(BODY, path, at_key=at_key) == position


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "VALUE_NULL"),
        (True, "VALUE_BOOLEAN"),
        ("x", "VALUE_STRING"),
        (1, "VALUE_NUMBER"),
        (1.5, "VALUE_NUMBER"),
        ([], "START_ARRAY"),
        ({}, "START_OBJECT"),
    ],
)
def test_values_have_the_names_of_the_wire(value, name) -> None:
    assert token_name(value) == name
