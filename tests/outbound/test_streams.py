"""Bytes of streams become events, wherever the network cuts them."""

from __future__ import annotations

import struct
import zlib
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.calls import Event
from inferry.errors import UnreadableReply
from inferry.outbound.streams import AwsFrameDecoder, Decoder, JsonLinesDecoder, SseDecoder
from tests.services.simulated import aws_frame

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


# --- frames of AWS -----------------------------------------------------------------------------

FRAMES = [
    aws_frame("messageStart", b'{"role": "assistant"}'),
    aws_frame("contentBlockDelta", '{"delta": {"text": "één"}}'.encode()),
    aws_frame("throttlingException", b'{"message": "slow down"}', kind="exception"),
]
FRAMED = b"".join(FRAMES)
ENDS = list(accumulate(map(len, FRAMES)))
FRAME_EVENTS = [
    Event('{"role": "assistant"}', "messageStart"),
    Event('{"delta": {"text": "één"}}', "contentBlockDelta"),
    Event('{"message": "slow down"}', "throttlingException", is_error=True),
]


def decode_damaged(*chunks: bytes) -> list[Event]:
    """Give the events before the damage, which must be told."""
    decoder = AwsFrameDecoder()
    events: list[Event] = []
    with pytest.raises(UnreadableReply, match="Failed to parse the stream"):
        for chunk in chunks:
            events += decoder.feed(chunk)
        decoder.finish()
    return events


@pytest.mark.parametrize("at", range(len(FRAMED) + 1))
def test_frames_are_the_same_events_wherever_the_stream_is_split_in_two(at) -> None:
    assert decode(AwsFrameDecoder(), FRAMED[:at], FRAMED[at:]) == FRAME_EVENTS


def test_frames_are_the_same_events_when_bytes_come_one_by_one() -> None:
    assert decode(AwsFrameDecoder(), *(bytes([byte]) for byte in FRAMED)) == FRAME_EVENTS


def test_a_stream_that_ends_within_a_frame_is_told_so() -> None:
    for length in range(1, len(FRAMED)):
        if length not in ENDS:
            whole = FRAME_EVENTS[: sum(end <= length for end in ENDS)]

            assert decode_damaged(FRAMED[:length]) == whole


def test_a_byte_that_changed_is_found_and_what_came_before_is_not_lost() -> None:
    for at in range(len(FRAMED)):
        damaged = bytearray(FRAMED)
        damaged[at] ^= 0x41
        before = FRAME_EVENTS[: sum(end <= at for end in ENDS)]

        assert decode_damaged(bytes(damaged)) == before
        assert decode_damaged(*(bytes([byte]) for byte in damaged)) == before


def test_nothing_is_read_behind_a_damaged_frame() -> None:
    decoder = AwsFrameDecoder()
    assert decoder.feed(FRAMES[0] + bytes(16)) == FRAME_EVENTS[:1]

    for _ in range(2):
        with pytest.raises(UnreadableReply, match="a frame is damaged"):
            decoder.feed(FRAMES[1])


@given(st.binary(max_size=100), st.integers(0, 100))
def test_any_bytes_are_frames_or_damage_however_they_are_split(stream, at) -> None:
    if stream:
        assert decode_damaged(stream[:at], stream[at:]) == decode_damaged(stream)


def test_an_error_without_a_payload_says_what_its_headers_say() -> None:
    headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": "Oh"}

    (event,) = decode(AwsFrameDecoder(), aws_frame_of(headers))

    assert event == Event('{"message": "Oh"}', "InternalError", is_error=True)


def test_headers_that_make_no_sense_are_damage() -> None:
    assert decode_damaged(aws_frame_of({"": ""}, kind=99)) == []
    assert decode_damaged(aws_frame_of({"\udcff": "a"})) == []


@pytest.mark.parametrize("size", [101, 1000])
def test_a_frame_above_the_limit_is_refused_whole_or_not(size) -> None:
    frame = aws_frame("contentBlockDelta", b"x" * 200)

    with pytest.raises(UnreadableReply, match="an event is larger than 100 bytes"):
        decode(AwsFrameDecoder(100), frame[:size])


def test_a_long_stream_of_small_frames_has_no_limit() -> None:
    decoder = AwsFrameDecoder(200)

    events = [event for _ in range(100) for event in decoder.feed(FRAMES[0])]

    assert len(events) == 100


def aws_frame_of(headers: dict[str, str], *, kind: int = 7) -> bytes:
    """Encode a frame with headers of a type, texts by default, and no payload."""
    encoded = b""
    for name, value in headers.items():
        raw = name.encode("utf-8", "surrogateescape")
        encoded += bytes([len(raw)]) + raw + bytes([kind])
        encoded += struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(encoded), len(encoded))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + encoded
    return head + struct.pack(">I", zlib.crc32(head))
