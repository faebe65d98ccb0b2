"""Logs say what happened and no more; metrics count, cheaply and with a bound."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys

import pytest

from inferry.concurrency import run_all
from inferry.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotAuthorized,
    QueueFull,
    UpstreamUnreachable,
)
from inferry.sections import TelemetrySection
from inferry.telemetry import (
    Metrics,
    Outcome,
    Stage,
    bind_request_id,
    clear_metrics_directory,
    configure_logging,
    get_logger,
    outcome_of,
)


@pytest.fixture
def log():
    """Send the log to a string, as JSON, and put everything back afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    configure_logging(TelemetrySection(log_format="json"), stream=stream)
    yield stream
    root.handlers[:], _ = before
    root.setLevel(before[1])


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_event_level_time_and_values(log):
    get_logger().warning("endpoint created", inference_id="e1")

    (line,) = lines(log)
    assert line["event"] == "endpoint created"
    assert line["level"] == "warning"
    assert line["inference_id"] == "e1"
    assert str(line["timestamp"]).endswith("Z")


def test_lines_below_the_level_are_not_written(log):
    get_logger().debug("detail")

    assert log.getvalue() == ""


async def test_lines_of_a_request_carry_its_id(log):
    async def request() -> None:
        bind_request_id("r-1")
        get_logger().info("inside")

    await run_all([request()])
    get_logger().info("outside")

    inside, outside = lines(log)
    assert inside["request_id"] == "r-1"
    assert "request_id" not in outside


def test_secrets_and_inputs_are_masked_by_name(log):
    get_logger().info("call", api_key="marker", input="marker", authorization="marker")

    assert "marker" not in log.getvalue()


def test_an_error_of_a_library_is_logged_without_its_words(log):
    try:
        raise ValueError("marker")
    except ValueError as error:
        failure = error

    get_logger().error("failed", exc_info=failure)

    assert "marker" not in log.getvalue().replace('raise ValueError(\\"marker\\")', "")
    assert "builtins.ValueError" in log.getvalue()
    assert "test_telemetry.py" in log.getvalue()


def test_an_error_of_ours_is_logged_with_its_words(log):
    get_logger().error("failed", exc_info=InternalError("the store is gone"))

    assert "the store is gone" in log.getvalue()


def test_lines_of_libraries_look_like_ours(log):
    logging.getLogger("uvicorn.error").warning("port %s is taken", 9210)
    logging.getLogger("uvicorn.error").info("not shown")

    (line,) = lines(log)
    assert line["event"] == "port 9210 is taken"
    assert line["logger"] == "uvicorn.error"


def test_on_a_console_a_line_is_text():
    stream = io.StringIO()

    configure_logging(TelemetrySection(log_format="console"), stream=stream)
    get_logger().info("hello", port=1)

    assert "hello" in stream.getvalue()
    assert "port=1" in stream.getvalue()


def test_logging_draws_in_no_terminal_library():
    program = (
        "import sys; from inferry.telemetry import *; from inferry.sections import *;"
        "configure_logging(TelemetrySection()); get_logger().info('x');"
        "print('rich' in sys.modules)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.SUCCESS),
        (asyncio.CancelledError(), Outcome.CANCELLED),
        (UpstreamUnreachable("x"), Outcome.UPSTREAM_ERROR),
        (DeadlineExceeded("x"), Outcome.TIMEOUT),
        (QueueFull("x"), Outcome.OVERLOAD),
        (InvalidRequest("x"), Outcome.REFUSED),
        (NotAuthorized("x"), Outcome.REFUSED),
        (InternalError("x"), Outcome.FAILURE),
        (KeyError("x"), Outcome.FAILURE),
    ],
)
def test_every_end_of_a_request_has_an_outcome(error, outcome):
    assert outcome_of(error) is outcome


async def test_requests_stages_tokens_and_answers_are_counted():
    metrics = Metrics()

    metrics.count_request("e", "rerank", dialect="elastic", outcome=Outcome.SUCCESS)
    metrics.count_request("e", "rerank", dialect="elastic", outcome=Outcome.SUCCESS)
    metrics.observe("e", "rerank", Stage.TOTAL, 0.02)
    metrics.observe("e", "rerank", Stage.TOTAL, 300)
    metrics.count_tokens("e", "rerank", input_tokens=7, output_tokens=2)
    metrics.count_upstream("cohere", 200)
    metrics.count_upstream("cohere", None)
    text = (await metrics.render()).decode()

    expected = """
inferry_requests_total{dialect="elastic",endpoint="e",outcome="success",task_type="rerank"} 2.0
inferry_endpoint_stage_seconds_total{endpoint="e",stage="total",task_type="rerank"} 300.02
inferry_stage_seconds_bucket{le="0.01",stage="total",task_type="rerank"} 0.0
inferry_stage_seconds_bucket{le="0.025",stage="total",task_type="rerank"} 1.0
inferry_stage_seconds_bucket{le="120.0",stage="total",task_type="rerank"} 1.0
inferry_stage_seconds_bucket{le="+Inf",stage="total",task_type="rerank"} 2.0
inferry_stage_seconds_count{stage="total",task_type="rerank"} 2.0
inferry_stage_seconds_sum{stage="total",task_type="rerank"} 300.02
inferry_tokens_total{direction="input",endpoint="e",task_type="rerank"} 7.0
inferry_tokens_total{direction="output",endpoint="e",task_type="rerank"} 2.0
inferry_upstream_responses_total{service="cohere",status="200"} 1.0
inferry_upstream_responses_total{service="cohere",status="0"} 1.0
"""
    assert set(expected.split("\n")) <= set(text.split("\n"))


async def test_endpoints_beyond_the_bound_share_a_label():
    metrics = Metrics(max_endpoints=2)

    for name in ("a", "b", "c", "d", "a"):
        metrics.count_request(name, "rerank", dialect="elastic", outcome=Outcome.SUCCESS)
    text = (await metrics.render()).decode()

    assert 'endpoint="_other",outcome="success",task_type="rerank"} 2.0' in text
    assert 'endpoint="a",outcome="success",task_type="rerank"} 2.0' in text
    assert 'endpoint="c"' not in text


def test_any_process_renders_the_sum_of_the_host(tmp_path):
    clear_metrics_directory(tmp_path / "metrics")
    program = (
        "import asyncio; from inferry.telemetry import *; m = Metrics();"
        "m.count_request('e', 'rerank', dialect='elastic', outcome=Outcome.SUCCESS);"
        "m.observe('e', 'rerank', Stage.TOTAL, 0.5);"
        "print(asyncio.run(m.render()).decode())"
    )

    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")},
            capture_output=True,
            text=True,
            check=True,
        )

    assert 'endpoint="e",outcome="success",task_type="rerank"} 2.0' in ran.stdout
    assert 'inferry_stage_seconds_count{stage="total",task_type="rerank"} 2.0' in ran.stdout


def test_a_new_start_clears_what_the_last_one_counted(tmp_path):
    clear_metrics_directory(tmp_path / "metrics")
    (tmp_path / "metrics/counter_1.db").write_bytes(b"old")

    clear_metrics_directory(tmp_path / "metrics")

    assert list((tmp_path / "metrics").iterdir()) == []
    assert (tmp_path / "metrics").stat().st_mode & 0o777 == 0o700
