"""Vectors keep their numbers, whatever form they came in."""

from __future__ import annotations

import base64
import json
import math
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.vectors import (
    FloatVector,
    JsonVector,
    Vector,
    bit_vector,
    byte_vector,
    byte_vector_from_json,
    shortest,
    vector_from_base64,
    vector_from_json,
    vector_to_base64,
    vectors_to_json,
)

singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_a_row_of_numbers_passes_through_unparsed():
    assert vector_from_json(b"[0.10,-2e-05,3]") == JsonVector(b"[0.10,-2e-05,3]", 3)


def test_blanks_of_a_pretty_printed_row_are_left_out():
    assert vector_from_json(b"[\n    0.5,\n    -1\n  ]") == JsonVector(b"[0.5,-1]", 2)


@pytest.mark.parametrize(
    "text", [b"[]", b"[ ]", b"3", b"null", b'"x"', b"{}", b"[[1]]", b"[null]", b"[true]", b'["1"]']
)
def test_what_is_not_a_flat_array_of_numbers_is_refused(text):
    with pytest.raises(ValueError, match="not a flat array of numbers"):
        vector_from_json(text)


@pytest.mark.parametrize(
    "text", [b"[1e39]", b"[1,-3.5E+38]", b"[1e999]", b"[" + b"9" * 400 + b"]", b"[1e0000000039]"]
)
def test_a_number_that_single_precision_cannot_hold_is_refused(text):
    with pytest.raises(ValueError, match=r"single precision|out of range"):
        vector_from_json(text)


@pytest.mark.parametrize("text", [b"[3.4e38]", b"[1e-400]", b"[0." + b"1" * 60 + b"]", b"[1E5]"])
def test_unusual_but_finite_numbers_are_kept(text):
    assert vector_from_json(text).text == text


@given(json_values)
def test_the_linear_check_agrees_with_a_parser(value):
    text = json.dumps(value).encode()
    is_vector = (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(item, float) and abs(item) < 3.4e38 for item in value)
    )

    try:
        width = vector_from_json(text).width
    except ValueError:
        width = None

    assert width == (len(value) if is_vector else None)


@given(st.lists(singles, min_size=1))
def test_float32_survives_base64_and_json(numbers):
    vector = vector_from_base64(packed(*numbers))

    (text,) = vectors_to_json([vector])
    again = vector_to_base64(vector_from_json(text))

    assert vector.width == len(numbers)
    assert again == vector_to_base64(vector) == packed(*numbers)


def test_float32_is_written_in_its_shortest_form():
    assert vectors_to_json([vector_from_base64(packed(0.1, 1, -2.5))]) == [b"[0.1,1.0,-2.5]"]


def test_rows_may_share_a_buffer():
    buffer = memoryview(struct.pack("<4f", 1, 2, 3, 4))

    rows: list[Vector] = [
        FloatVector(buffer[:8], 2),
        FloatVector(buffer[8:], 2),
        JsonVector(b"[5]", 1),
    ]

    assert vectors_to_json(rows) == [b"[1.0,2.0]", b"[3.0,4.0]", b"[5]"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_when_written(number):
    with pytest.raises(ValueError, match="not finite"):
        vectors_to_json([vector_from_base64(packed(1.0, number))])


@pytest.mark.parametrize("text", ["", "AAA=", "AAAAAAA=", "AAAA AAA=", "!!!!", "AAAAAA"])
def test_what_is_not_base64_of_float32_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  (the words are those of binascii)
        vector_from_base64(text)


def test_numpy_waits_until_float32_rows_are_written():
    code = (
        "import sys; from inferry.vectors import *; v = vector_from_base64('AACAPw==');"
        "vector_from_json(b'[1]'); vector_to_base64(v); assert 'numpy' not in sys.modules;"
        "vectors_to_json([v]); assert 'numpy' in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_signed_bytes_pass_through_as_they_came():
    assert byte_vector_from_json(b"[-128, 0,\n127]") == JsonVector(b"[-128,0,127]", 3)


@pytest.mark.parametrize("text", [b"[]", b"3", b'["1"]', b"[0.5]", b"[[1]]", b"[true]", b"[null]"])
def test_what_is_not_a_flat_array_of_whole_numbers_is_refused(text):
    with pytest.raises(ValueError, match="not a flat array of whole numbers"):
        byte_vector_from_json(text)


@pytest.mark.parametrize("number", [128, -129, 10**30])
def test_a_number_that_a_byte_cannot_hold_is_refused(number):
    with pytest.raises(ValueError, match=rf"Value \[{number}\] is out of range for a byte"):
        byte_vector_from_json(b"[0,%d]" % number)


# --- numbers of local models ----------------------------------------------------------------------


def row(*numbers: float) -> FloatVector:
    return FloatVector(struct.pack(f"<{len(numbers)}f", *numbers), len(numbers))


@given(st.lists(singles))
def test_the_shortest_number_means_the_same_float32(numbers):
    found = shortest(np.array(numbers, np.float32))

    assert np.array_equal(np.array(found, np.float32), np.array(numbers, np.float32))
    assert all(
        len(repr(one)) <= len(repr(other)) for one, other in zip(found, numbers, strict=True)
    )


def test_bytes_keep_the_direction_of_a_vector():
    assert byte_vector(row(1.0, -0.5, 0.0)) == byte_vector(row(10.0, -5.0, 0.0))
    assert byte_vector(row(-2.0)) == JsonVector(b"[-127]", 1)
    assert byte_vector(row(0.0, 0.0)) == JsonVector(b"[0,0]", 2)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=64))
def test_bytes_are_signed_bytes(numbers):
    vector = byte_vector(row(*numbers))

    assert byte_vector_from_json(vector.text) == vector


def test_bits_are_signs_the_first_one_highest():
    assert bit_vector(row(1, -1, 1, 1, 0, -2, 3, 4)) == JsonVector(b"[-77]", 1)  # 10110011
    assert bit_vector(row(*[-1.0] * 8, *[1.0] * 8)) == JsonVector(b"[0,-1]", 2)
