"""The fast decoder takes what the strict parser takes, whatever the size."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.api import fast_json
from inferry.api.fast_json import decode_json

NAMES = st.sampled_from(["a", "b:", "é", "\\", '"', "\\u003a"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(':a\\"u03é', max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=20,
)


def escape_colons(body: bytes) -> bytes:
    """Write the colons in strings as escapes."""
    value = json.loads(body)
    return json.dumps(_marked(value), ensure_ascii=False).replace("\ue000", "\\u003A").encode()


def _marked(value):
    match value:
        case str():
            return value.replace(":", "\ue000")
        case dict():
            return {_marked(key): _marked(one) for key, one in value.items()}
        case list():
            return [_marked(one) for one in value]
    return value


@given(values, st.booleans(), st.booleans())
def test_every_json_value_comes_back(value, ascii_only, escapes) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert decode_json(escape_colons(body) if escapes else body) == value


@given(values, NAMES, values, values)
def test_a_field_that_stands_twice_is_refused_wherever_it_is(value, name, one, other) -> None:
    key = json.dumps(name)
    twice = f"{{{key}: {json.dumps(one)}, {key}: {json.dumps(other)}}}"
    body = f'{{"outer": [{json.dumps(value)}, {twice}]}}'.encode()

    with pytest.raises(msgspec.DecodeError, match="Duplicate field"):
        decode_json(body)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_what_lies_across_the_ends_of_slices_is_counted_once(monkeypatch, size) -> None:
    monkeypatch.setattr(fast_json, "_SLICE", size)
    text = rb'{"a:": "::\u003a\\u003a\\\u003A", "b": {"c": [1, 2, ":"]}}'

    assert decode_json(text) == json.loads(text)


@pytest.mark.parametrize("name", [b'"a"', rb'"\u0061"'], ids=["as it is", "written in another way"])
def test_the_size_of_a_body_makes_no_difference(name) -> None:
    filling = b'"f": "' + b":" * 2_000_000 + b'"'

    assert decode_json(b"{" + filling + b"}") == {"f": ":" * 2_000_000}
    with pytest.raises(msgspec.DecodeError, match="Duplicate field"):
        decode_json(b'{"a": 1,' + filling + b"," + name + b": 1}")


@pytest.mark.parametrize("body", [b'{"input":"\xff"}', b'{"\xff":1}', b"\xff"])
def test_what_is_not_utf_8_is_refused_as_all_that_is_no_json(body) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_json(body)
