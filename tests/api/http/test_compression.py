"""gzip: what is taken, what is refused, and that a bomb stays small."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from inferry.api.http.compression import accepts_gzip, compress, decompress, decompress_small
from inferry.errors import BodyTooLarge, IllegalArgument


@pytest.mark.parametrize("size", [0, 10, 1000, 200_000, 3_000_000])
async def test_what_is_packed_can_be_unpacked(size):
    body = (b"0123456789" * (size // 10 + 1))[:size]

    packed = await compress(body)

    assert gzip.decompress(packed) == body
    assert decompress(packed, max_bytes=size) == body


async def test_a_file_of_several_members_is_one_body():
    packed = gzip.compress(b"one ") + gzip.compress(b"two")

    assert decompress(packed, max_bytes=100) == b"one two"


@pytest.mark.parametrize("body", [b"x", b"\x1f\x8b", gzip.compress(b"x" * 100, mtime=0)[:-5]])
async def test_what_is_not_gzip_is_refused(body):
    with pytest.raises(IllegalArgument, match="not valid gzip"):
        decompress(body, max_bytes=1000)


@pytest.mark.parametrize("size", [1001, 100_000, 50_000_000])
async def test_a_body_is_unpacked_to_its_limit_only(size):
    packed = gzip.compress(b"\0" * size)
    tracemalloc.start()

    with pytest.raises(BodyTooLarge):
        decompress(packed, max_bytes=1000)

    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("identity", False),
        ("x-gzippy", False),
    ],
)
def test_callers_say_whether_they_take_gzip(header, expected):
    assert accepts_gzip(header) is expected


def test_a_small_body_is_unpacked_without_waiting():
    assert decompress_small(gzip.compress(b"one"), max_bytes=100) == b"one"


@pytest.mark.parametrize("size", [1001, 100_000, 50_000_000])
def test_what_is_not_small_is_left_to_a_thread(size):
    assert decompress_small(gzip.compress(b"\0" * size), max_bytes=1000) is None
