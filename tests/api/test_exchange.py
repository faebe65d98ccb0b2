"""How handlers get at the body of a request."""

from __future__ import annotations

import threading

import pytest

from inferry.api.http.reading import AT_ONCE, QUICK, Reading


@pytest.fixture
def reading():
    opened = Reading()
    yield opened
    opened.close()


def thread_of(_: bytes) -> int:
    """Tell where it is read."""
    return threading.get_ident()


@pytest.mark.parametrize("size", [0, AT_ONCE])
async def test_a_small_body_is_read_at_once(make_request, reading, size):
    request = make_request(body=b"x" * size, reading=reading)

    assert await request.read(thread_of) == threading.get_ident()


@pytest.mark.parametrize("size", [AT_ONCE + 1, QUICK + 1, 2_000_000])
async def test_a_larger_one_is_read_aside(make_request, reading, size):
    request = make_request(body=b"x" * size, reading=reading)

    assert await request.read(thread_of) != threading.get_ident()


async def test_bodies_of_different_size_do_not_wait_for_each_other(make_request, reading):
    sizes = (AT_ONCE + 1, QUICK + 1, 2_000_000)
    requests = [make_request(body=b"x" * size, reading=reading) for size in sizes]

    assert len({await request.read(thread_of) for request in requests}) == 3


async def test_a_quick_way_is_tried_first(make_request, reading):
    request = make_request(body=b"x" * QUICK, reading=reading)

    found = await request.read(thread_of, quickly=thread_of)

    assert found == threading.get_ident()


@pytest.mark.parametrize("size", [AT_ONCE + 1, QUICK + 1])
async def test_the_quick_way_may_be_in_doubt_and_is_not_for_large_bodies(
    make_request, reading, size
):
    request = make_request(body=b"x" * size, reading=reading)

    def quickly(body: bytes) -> int | None:
        assert len(body) <= QUICK
        return None

    assert await request.read(thread_of, quickly=quickly) != threading.get_ident()
