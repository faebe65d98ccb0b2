"""Bytes of streams become events, wherever the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.calls import Event
from inferry.errors import UnreadableReply
from inferry.outbound.streams import Decoder, JsonLinesDecoder, SseDecoder

STREAM = (
    "\ufeff: a comment\r\n"
    "event: first\r\ndata: één\r\n\r\n"
    "data:no blank\ndata:  two blanks\n\n"
    "id: 7\nretry: 10\nevent: nothing to say\n\n"
    "data: \U0001f600\r\rdata\rdata:\r\r"
    "event: error\ndata: {}\n\n"
    "data: [DONE]"
).encode()
EVENTS = [
    Event("één", "first"),
    Event("no blank\n two blanks"),
    Event("\U0001f600"),
    Event("\n"),
    Event("{}", "error"),
    Event("[DONE]"),
]


def decode(decoder: Decoder, *chunks: bytes) -> list[Event]:
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.finish()


def test_events_have_the_fields_of_the_specification() -> None:
    assert decode(SseDecoder(), STREAM) == EVENTS


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_events_are_the_same_wherever_the_stream_is_split_in_two(at) -> None:
    assert decode(SseDecoder(), STREAM[:at], STREAM[at:]) == EVENTS


def test_events_are_the_same_when_bytes_come_one_by_one() -> None:
    assert decode(SseDecoder(), *(bytes([byte]) for byte in STREAM)) == EVENTS


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_any_bytes_decode_alike_however_they_are_split(stream, cuts) -> None:
    bounds = [0, *sorted(cuts), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(bounds)]

    assert decode(SseDecoder(), *chunks) == decode(SseDecoder(), stream)
    assert decode(JsonLinesDecoder(), *chunks) == decode(JsonLinesDecoder(), stream)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"), min_size=1), max_size=5))
def test_every_text_survives_as_data(texts) -> None:
    stream = "".join(f"data: {text}\n\n" for text in texts).encode("utf-8", "surrogatepass")

    found = [event.data for event in decode(SseDecoder(), stream)]

    assert found == [
        text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for text in texts
    ]


@pytest.mark.parametrize("chunk", [b"x" * 101, b"data: " + b"x" * 101 + b"\n"])
def test_an_event_above_the_limit_is_refused(chunk) -> None:
    with pytest.raises(UnreadableReply, match="an event is larger than 100 bytes"):
        SseDecoder(100).feed(chunk)


def test_many_small_lines_of_one_event_count_together() -> None:
    decoder = SseDecoder(100)

    with pytest.raises(UnreadableReply):
        for _ in range(20):
            decoder.feed(b"data: 0123456789\n")


def test_a_long_stream_of_small_events_has_no_limit() -> None:
    decoder = SseDecoder(100)

    events = [event for _ in range(100) for event in decoder.feed(b"data: 0123456789\n\n")]

    assert len(events) == 100


def test_json_lines_are_events_without_names() -> None:
    events = decode(JsonLinesDecoder(), b'{"a": 1}\r\n\r\n{"b"', b': "\xc3', b'\xa9"}\n \n{}')

    assert events == [Event('{"a": 1}'), Event('{"b": "é"}'), Event("{}")]


def test_a_json_line_above_the_limit_is_refused() -> None:
    with pytest.raises(UnreadableReply):
        JsonLinesDecoder(100).feed(b"x" * 101)
