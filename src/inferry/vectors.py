"""Dense vectors on their way through: as the provider's JSON, or as float32.

JSON rows pass through unparsed after one linear check; float32 rows are written in the shortest
single-precision form. NumPy is imported only when float32 rows are written.
"""

from __future__ import annotations

import binascii
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class JsonVector:
    """A flat JSON array of numbers, checked. width: its elements."""

    text: bytes
    width: int


@dataclass(frozen=True, slots=True)
class FloatVector:
    """float32[width], little-endian, in a buffer. Rows of a batch may share one buffer."""

    buffer: memoryview | bytes
    width: int


Vector: TypeAlias = JsonVector | FloatVector

_FLOAT32_END = 3.4028235677973366e38  # from here on, rounding to float32 gives infinity
_BLANKS = b" \t\r\n"
_OUTLINE = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_RUN = b"0" * 39


def vector_from_json(text: bytes) -> JsonVector:
    """Check that `text`, valid JSON, is a flat array of finite float32 numbers.

    Raises `ValueError`, for an empty array too.
    """
    if b" " in text or b"\n" in text:
        text = text.translate(None, _BLANKS)
    # Two passes of C: every digit becomes 0, then the zeros go. What is left of valid JSON tells
    # what it was: commas part numbers, an e without a minus grows, anything else is no number.
    digits = text.translate(_OUTLINE, b"+.")
    outline = digits.translate(None, b"0")
    if len(text) <= 2 or outline.translate(None, b",-e") != b"[]":
        raise ValueError("not a flat array of numbers")
    if _LONG_RUN in digits or outline.count(b"e") != outline.count(b"e-"):
        _floats(text)
    return JsonVector(text, outline.count(b",") + 1)


def byte_vector_from_json(text: bytes) -> JsonVector:
    """Check that `text`, valid JSON, is a flat array of signed bytes.

    Raises `ValueError`, for an empty array too.
    """
    try:
        numbers = msgspec.json.decode(text, type=list[int])
    except msgspec.MsgspecError as error:
        raise ValueError("not a flat array of whole numbers") from error
    if not numbers:
        raise ValueError("not a flat array of whole numbers")
    for number in (min(numbers), max(numbers)):
        if not -128 <= number <= 127:
            raise ValueError(f"Value [{number}] is out of range for a byte")
    return JsonVector(text.translate(None, _BLANKS), len(numbers))


def vector_from_base64(text: str | bytes) -> FloatVector:
    """Decode base64 of little-endian float32. Raises `ValueError`, for no vector at all too."""
    buffer = binascii.a2b_base64(text, strict_mode=True)
    if not buffer or len(buffer) % 4:
        raise ValueError(f"[{len(buffer)}] bytes are no vector of float32")
    return FloatVector(buffer, len(buffer) // 4)


def vectors_to_json(vectors: Sequence[Vector]) -> list[bytes]:
    """Encode each vector as a JSON array. Raises `ValueError` for a value that is not finite."""
    return [
        vector.text if isinstance(vector, JsonVector) else _float_row_to_json(vector)
        for vector in vectors
    ]


def vector_to_base64(vector: Vector) -> str:
    """Encode as base64 of little-endian float32."""
    buffer = vector.buffer if isinstance(vector, FloatVector) else _floats(vector.text)
    return binascii.b2a_base64(buffer, newline=False).decode("ascii")


def shortest(numbers: NDArray[np.float32]) -> list[float]:
    """Give float32[n] as the shortest decimals that mean the same float32: 0.1, not 0.10000000149.

    Raises `ValueError` for a value that is not finite.
    """
    import orjson

    text = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" in text:  # orjson writes null for what is not finite
        raise ValueError("a value is not finite")
    return msgspec.json.decode(text, type=list[float])


def byte_vector(vector: FloatVector) -> JsonVector:
    """Give a vector as signed bytes: at unit length, times 127, rounded.

    So cosines keep their meaning, and lengths do not.
    """
    import numpy as np
    import orjson

    row = np.frombuffer(vector.buffer, dtype="<f4", count=vector.width)
    scaled = row * (127 / max(float(np.linalg.norm(row)), 1e-12))
    text = orjson.dumps(np.rint(scaled).astype(np.int8), option=orjson.OPT_SERIALIZE_NUMPY)
    return JsonVector(text, vector.width)


def bit_vector(vector: FloatVector) -> JsonVector:
    """Give the signs of a vector, 1 for what is above 0: eight in a signed byte, the first highest.

    The width of `vector` is a multiple of 8.
    """
    import numpy as np
    import orjson

    row = np.frombuffer(vector.buffer, dtype="<f4", count=vector.width)
    packed = np.packbits(row > 0).view(np.int8)
    text = orjson.dumps(packed, option=orjson.OPT_SERIALIZE_NUMPY)
    return JsonVector(text, len(packed))


def _floats(text: bytes) -> array[float]:
    """Parse a flat array of numbers into little-endian float32."""
    numbers = msgspec.json.decode(text, type=list[float])
    if not all(-_FLOAT32_END < number < _FLOAT32_END for number in numbers):
        raise ValueError("a number is beyond single precision")
    floats = array("f", numbers)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def _float_row_to_json(vector: FloatVector) -> bytes:
    import numpy as np  # 20 MB that a process without float32 rows shall not carry
    import orjson

    row = np.frombuffer(vector.buffer, dtype="<f4", count=vector.width)
    text = orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" in text:  # orjson writes null for what is not finite
        raise ValueError("a value of the vector is not finite")
    return text
