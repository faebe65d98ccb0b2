"""The lines of requests: whole, cheap, and only where they are wanted."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from inferry.request_log import RequestLog
from inferry.sections import TelemetrySection

USUAL: dict[str, Any] = {
    "method": "GET",
    "route": "/",
    "status": 200,
    "duration_s": 0.0012345,
    "inference_id": "",
    "user": "ann",
    "api_key_id": None,
    "request_id": "7",
}


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Give both ends of a pipe, the second as a stream."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def lines_in(reading: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in os.read(reading, 1_000_000).splitlines()]


async def test_a_line_is_a_json_object_that_leaves_a_moment_later(pipe):
    reading, stream = pipe
    log = RequestLog(TelemetrySection(), stream=stream)

    log.note(**USUAL, upstream_status=None)
    line = (await asyncio.to_thread(lines_in, reading))[0]

    assert line.pop("timestamp")[-1] == "Z"
    assert line == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "route": "/",
        "status": 200,
        "duration_ms": 1.234,
        "user": "ann",
        "request_id": "7",
    }


@pytest.mark.parametrize(
    ("settings", "statuses"),
    [
        ({}, [200, 404]),
        ({"requests": "failed"}, [404]),
        ({"log_level": "debug"}, [200, 404]),
    ],
)
async def test_the_operator_chooses_which_requests_leave_a_line(pipe, settings, statuses):
    reading, stream = pipe
    log = RequestLog(TelemetrySection(**settings), stream=stream)

    for status in (200, 404):
        log.note(**{**USUAL, "status": status})
    log.flush()

    assert log.is_on
    assert [line["status"] for line in lines_in(reading)] == statuses


@pytest.mark.parametrize("settings", [{"requests": "none"}, {"log_level": "warning"}])
def test_no_line_is_made_where_none_is_wanted(settings):
    assert not RequestLog(TelemetrySection(**settings)).is_on


async def test_lines_of_several_processes_never_run_into_each_other(pipe):
    reading, stream = pipe
    logs = [RequestLog(TelemetrySection(), stream=stream) for _ in range(2)]
    received = bytearray()

    def receive() -> None:
        while received.count(b"\n") < 4000:
            received.extend(os.read(reading, 100_000))

    reader = threading.Thread(target=receive)
    reader.start()

    def write(log: RequestLog) -> None:
        asyncio.run(_note_many(log))

    writers = [threading.Thread(target=write, args=(log,)) for log in logs]
    for writer in writers:
        writer.start()
    for thread in [*writers, reader]:
        await asyncio.to_thread(thread.join)

    assert len([json.loads(line) for line in received.splitlines()]) == 4000


async def _note_many(log: RequestLog) -> None:
    for number in range(2000):
        log.note(**{**USUAL, "inference_id": "x" * (number % 200)})
    log.flush()


async def test_a_reader_that_is_gone_stops_the_lines_and_nothing_else():
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    log = RequestLog(TelemetrySection(), stream=stream)

    log.note(**USUAL)
    log.flush()

    assert not log.is_on
    stream.close()


async def test_lines_for_people_go_through_the_usual_logger(capsys):
    from inferry.telemetry import configure_logging

    section = TelemetrySection(log_format="console")
    configure_logging(section)

    RequestLog(section).note(**{**USUAL, "inference_id": "mine"})

    shown = capsys.readouterr().err
    assert "request" in shown
    assert "inference_id=mine" in shown
