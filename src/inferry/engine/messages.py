"""What is said to a model worker and by it, over the channels of `inferry.ipc`.

The supervisor loads, scales, checks and recalls over the worker's own channel, and lends cores. API
processes connect to the socket that the worker listens on, and have texts run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from inferry.domain import InputType, TaskType
from inferry.modeling import Arithmetic, ModelSource, Protection, RuntimeOptions
from inferry.sections import TelemetrySection

PREPARE = "prepare"
"""What the supervisor calls in a worker of its own, which ends then: the body is that of `LOAD`."""

LOAD, SCALE, CHECK, RECALL, STATS = "load", "scale", "check", "recall", "stats"
"""What the supervisor calls in a worker: `LOAD` first, answered with `ModelFacts`. The bodies of
`SCALE` and `RECALL` are a number, allocations or a lane; `CHECK` runs a text, unless one has run
lately; `STATS` is answered with `WorkerStats`."""

LEASE, HURRY, GIVE_BACK = "lease", "hurry", "give_back"
"""What a worker calls in the supervisor, see `inferry.engine.cores`; the bodies are a lane."""

INFER = "infer"
"""What API processes call in a worker: `Infer`, answered with `Inferred`."""


class Load(msgspec.Struct, frozen=True, array_like=True):
    """A model, how it is run, and where log lines go.

    queue_capacity: texts that may wait.
    private: a directory of which the worker may see nothing but its model and its cache.
    allow_unsandboxed: run a model that is a program even where that cannot be had.
    """

    source: ModelSource
    options: RuntimeOptions
    allocations: int
    telemetry: TelemetrySection
    queue_capacity: int = 10_000
    private: Path | None = None
    allow_unsandboxed: bool = False


def encode_load(load: Load) -> bytes:
    """Encode the order to load a model."""
    return msgspec.msgpack.encode(load, enc_hook=str)  # paths are all that needs the hook


def decode_load(body: bytes) -> Load:
    """Decode what `encode_load` encoded."""
    return msgspec.msgpack.decode(body, type=Load, dec_hook=lambda path, text: path(text))


class ModelFacts(msgspec.Struct, frozen=True, array_like=True):
    """What a loaded model is. cosine: of a reduced precision to f32.

    protection: how far the worker is held to it.
    """

    task_type: TaskType | None
    dimensions: int | None
    max_tokens: int
    similarity: str | None
    arithmetic: Arithmetic
    cosine: float | None
    protection: Protection


class Infer(msgspec.Struct, frozen=True, array_like=True):
    """Texts to run, at least one. deadline: on the monotonic clock, which the host shares.

    query: what each text is paired with, None for models that take single texts. config: the
    inference config of this request, None for the model's own.
    """

    lane: int
    deadline: float
    input_type: InputType
    texts: list[str]
    query: str | None = None
    config: dict[str, Any] | None = None


class Inferred(msgspec.Struct, frozen=True, array_like=True):
    """What a model of `task_type` gave for each text, see `modeling.Answer`.

    tokens: that were used. truncated: ascending indices of texts that were too long.
    """

    task_type: TaskType | None
    answers: list[memoryview]
    tokens: int
    truncated: list[int]
