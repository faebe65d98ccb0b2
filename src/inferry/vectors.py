"""Dense vectors on their way through: as the provider's JSON, or as float32.

JSON rows pass through unparsed after one linear check; float32 rows are written in the shortest
single-precision form. NumPy is imported only when float32 rows are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


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


def vector_from_json(text: bytes) -> JsonVector:
    """Check that `text`, valid JSON, is a flat array of finite numbers. Raises `ValueError`."""
    raise AssertionError(text)


def vector_from_base64(text: str) -> FloatVector:
    """Decode base64 of little-endian float32. Raises `ValueError`."""
    raise AssertionError(text)


def vectors_to_json(vectors: Sequence[Vector]) -> list[bytes]:
    """Encode each vector as a JSON array. Raises `ValueError` for a value that is not finite."""
    raise AssertionError(vectors)


def vector_to_base64(vector: Vector) -> str:
    """Encode as base64 of little-endian float32."""
    raise AssertionError(vector)
