"""Logs and metrics of a process.

The only module that imports structlog and prometheus_client, both inside functions: the first
because of rich, the second because it looks at its environment when it is imported.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from bisect import bisect_left
from collections.abc import MutableMapping
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

import msgspec

from inferry.config_keys import MASK
from inferry.errors import (
    DeadlineExceeded,
    InferenceError,
    InternalError,
    QueueFull,
    ShuttingDown,
    StoreFailure,
    UpstreamError,
    WorkerLost,
)
from inferry.sections import TelemetrySection

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram
    from structlog.typing import FilteringBoundLogger

LogFormat: TypeAlias = Literal["auto", "json", "console"]
_ErrorInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)

MULTIPROC_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
OTHER = "_other"
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SENSITIVE = frozenset(
    {"api_key", "authorization", "body", "headers", "input", "inputs", "password", "query"}
    | {"secret", "secrets", "texts", "token"}
)


# --- logs --------------------------------------------------------------------------------------


def configure_logging(section: TelemetrySection, *, stream: TextIO | None = None) -> None:
    """Send our log lines and those of libraries to `stream` (stderr), as lines or as JSON."""
    structlog = _structlog()
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[section.log_level.upper()]
    shared = [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_sensitive,
        structlog.processors.ExceptionRenderer(format_error),
    ]
    renderer = _renderer(structlog, writes_console(section.log_format, stream), stream)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            keep_exc_info=False,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


def get_logger(**context: object) -> FilteringBoundLogger:
    """Give a logger: `log.info("endpoint created", inference_id=...)`; never inputs or secrets."""
    logger: FilteringBoundLogger = _structlog().get_logger(**context)
    return logger


_REQUEST_ID: ContextVar[str] = ContextVar("request_id")


def bind_request_id(request_id: str) -> None:
    """Put `request_id` on every line that is logged from now on in this task."""
    _REQUEST_ID.set(request_id)


def _add_request_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    request_id = _REQUEST_ID.get(None)
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def format_error(error_info: _ErrorInfo) -> str:
    """Write the frames of an error, and its message only if it is one of ours.

    Messages of foreign errors may quote what they choked on, and that may be an input or a secret.
    """
    _, error, frames = error_info
    lines = traceback.format_tb(frames)
    while error is not None:
        words = f": {error}" if isinstance(error, InferenceError) else ""
        lines.append(f"{type(error).__module__}.{type(error).__qualname__}{words}\n")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(lines).rstrip()


def _structlog() -> ModuleType:
    """Import structlog without rich, which it would draw in for tracebacks: 4 MB per process."""
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]
        try:
            import structlog
        finally:
            del sys.modules["rich"]
    import structlog

    return structlog


def writes_console(log_format: LogFormat, stream: TextIO) -> bool:
    """Tell whether lines on `stream` are for people, not JSON."""
    return log_format == "console" or (log_format == "auto" and stream.isatty())


def _renderer(structlog: ModuleType, is_console: bool, stream: TextIO) -> Any:  # noqa: FBT001
    if is_console:
        return structlog.dev.ConsoleRenderer(
            colors=stream.isatty() and "NO_COLOR" not in os.environ
        )
    return structlog.processors.JSONRenderer(serializer=_encode_line)


def _encode_line(event: object, **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def _mask_sensitive(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in _SENSITIVE.intersection(event):
        event[name] = MASK
    return event


# --- metrics -----------------------------------------------------------------------------------


class Stage(StrEnum):
    """A part of a request's life that takes time."""

    QUEUE = "queue"
    UPSTREAM = "upstream"
    TOTAL = "total"


class Outcome(StrEnum):
    """How an inference request ended."""

    SUCCESS = "success"
    REFUSED = "refused"  # the request was wrong, or not allowed
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    OVERLOAD = "overload"
    CANCELLED = "cancelled"
    FAILURE = "failure"  # a defect of ours, or the store's


def outcome_of(error: BaseException | None) -> Outcome:
    """Classify how a request ended; None is a success."""
    match error:
        case None:
            return Outcome.SUCCESS
        case asyncio.CancelledError():
            return Outcome.CANCELLED
        case UpstreamError():
            return Outcome.UPSTREAM_ERROR
        case DeadlineExceeded():
            return Outcome.TIMEOUT
        case QueueFull() | ShuttingDown():
            return Outcome.OVERLOAD
        case InternalError() | StoreFailure() | WorkerLost():
            return Outcome.FAILURE
        case InferenceError():
            return Outcome.REFUSED
        case _:
            return Outcome.FAILURE


def clear_metrics_directory(directory: Path) -> None:
    """Make the directory that the processes of a host share, empty: for the supervisor's start."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink()


class Metrics:
    """The counters of one process, joined with those of the host when rendered.

    Processes share a directory, named by PROMETHEUS_MULTIPROC_DIR before the first `Metrics` is
    made; without it a process stands alone. Updates are collected in dicts, well below a
    microsecond each, until a timer calls `flush`. Series are bounded: endpoints beyond
    `max_endpoints`, and API keys beyond as many, share the label `_other`. Use from the event
    loop's thread.
    """

    def __init__(self, *, max_endpoints: int = 1000) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._registry = CollectorRegistry()
        self._requests = Counter(
            "inferry_requests",
            "Inference requests.",
            ("endpoint", "task_type", "dialect", "outcome"),
            registry=self._registry,
        )
        self._stage_seconds = Counter(
            "inferry_endpoint_stage_seconds",
            "Time spent per endpoint and stage.",
            ("endpoint", "task_type", "stage"),
            registry=self._registry,
        )
        self._stages = Histogram(
            "inferry_stage_seconds",
            "Time spent per request and stage.",
            ("task_type", "stage"),
            registry=self._registry,
            buckets=_BUCKETS_S,
        )
        self._tokens = Counter(
            "inferry_tokens",
            "Tokens of inputs and outputs.",
            ("endpoint", "task_type", "direction"),
            registry=self._registry,
        )
        self._upstream = Counter(
            "inferry_upstream_responses",
            "Answers of providers by status; 0 stands for no answer.",
            ("service", "status"),
            registry=self._registry,
        )
        self._key_requests = Counter(
            "inferry_api_key_requests",
            "Runs with API keys that have limits.",
            ("api_key_id", "outcome"),
            registry=self._registry,
        )
        self._key_tokens = Counter(
            "inferry_api_key_tokens",
            "Tokens used with API keys that have limits.",
            ("api_key_id",),
            registry=self._registry,
        )
        self._keys: set[str] = set()
        self._max_endpoints = max_endpoints
        self._endpoints: set[str] = set()
        self._pending: dict[tuple[Counter, tuple[str, ...]], float] = {}
        self._pending_stages: dict[tuple[str, str], list[float]] = {}

    def count_request(
        self, inference_id: str, task_type: str, *, dialect: str, outcome: Outcome
    ) -> None:
        """Count a finished request. `inference_id` must exist: ids that callers invent are none."""
        self._add(self._requests, (self._label(inference_id), task_type, dialect, outcome), 1)

    def observe(self, inference_id: str, task_type: str, stage: Stage, seconds: float) -> None:
        """Record how long a stage of a request took."""
        self._add(self._stage_seconds, (self._label(inference_id), task_type, stage), seconds)
        key = (task_type, stage)
        tally = self._pending_stages.get(key)
        if tally is None:
            # One place per bucket, one for what exceeds them all, and the sum.
            tally = self._pending_stages[key] = [0.0] * (len(_BUCKETS_S) + 2)
        tally[bisect_left(_BUCKETS_S, seconds)] += 1
        tally[-1] += seconds

    def count_tokens(
        self, inference_id: str, task_type: str, *, input_tokens: int, output_tokens: int = 0
    ) -> None:
        """Count the tokens of an answered request."""
        label = self._label(inference_id)
        self._add(self._tokens, (label, task_type, "input"), input_tokens)
        if output_tokens:
            self._add(self._tokens, (label, task_type, "output"), output_tokens)

    def count_upstream(self, service: str, status: int | None) -> None:
        """Count an answer of a provider, None when there was none."""
        self._add(self._upstream, (service, str(status or 0)), 1)

    def count_key_request(self, key_id: str, *, is_admitted: bool) -> None:
        """Count a run with an API key that has limits."""
        outcome = "admitted" if is_admitted else "refused"
        self._add(self._key_requests, (self._key_label(key_id), outcome), 1)

    def count_key_tokens(self, key_id: str, tokens: int) -> None:
        """Count tokens that such a key used."""
        self._add(self._key_tokens, (self._key_label(key_id),), tokens)

    def flush(self) -> None:
        """Hand on what was collected."""
        for (counter, labels), amount in self._pending.items():
            counter.labels(*labels).inc(amount)
        for key, tally in self._pending_stages.items():
            _add_observations(self._stages.labels(*key), tally)
        self._pending.clear()
        self._pending_stages.clear()

    async def render(self) -> bytes:
        """Give the metrics of the host in Prometheus' text format."""
        self.flush()
        return await asyncio.to_thread(self._render)

    def _render(self) -> bytes:
        from prometheus_client import CollectorRegistry, generate_latest

        registry = self._registry
        if MULTIPROC_VARIABLE in os.environ:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _label(self, inference_id: str) -> str:
        return _bounded(inference_id, self._endpoints, self._max_endpoints)

    def _key_label(self, key_id: str) -> str:
        return _bounded(key_id, self._keys, self._max_endpoints)

    def _add(self, counter: Counter, labels: tuple[str, ...], amount: float) -> None:
        key = (counter, labels)
        self._pending[key] = self._pending.get(key, 0.0) + amount


def _bounded(name: str, known: set[str], most: int) -> str:
    """Give a label for `name`: itself for the first `most` names, `_other` beyond."""
    if name in known:
        return name
    if len(known) >= most:
        return OTHER
    known.add(name)
    return name


def _add_observations(child: Histogram, tally: list[float]) -> None:
    """Add many observations at once, which the library offers for one at a time only."""
    for bucket, count in zip(child._buckets, tally[:-1], strict=True):  # noqa: SLF001
        if count:
            bucket.inc(count)
    child._sum.inc(tally[-1])  # noqa: SLF001
