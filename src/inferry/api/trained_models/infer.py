"""`POST _ml/trained_models/{id}/_infer`: documents run by a model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec

from inferry.api.elastic.bodies import BodyDecoder
from inferry.api.elastic.body_shapes import Kind, ListOf, Shape, check_body
from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.parameters import parse_timeout
from inferry.api.trained_models.shapes import INFERENCE_CONFIG
from inferry.core.task_inference import TaskInference
from inferry.domain import Deadline, Json
from inferry.errors import DeadlineExceeded, InferenceError, InvalidRequest
from inferry.security.gate import Gate

_EITHER: Final = "cluster:monitor/xpack/ml/trained_models/deployment/infer"
"""What it takes to ask at all; the kind of the id decides about the rest."""
_MODEL: Final = "cluster:monitor/xpack/ml/inference/infer"
_ENDPOINT: Final = "cluster:monitor/xpack/inference/post"
_DEFAULT_TIMEOUT: Final = "10s"
_BODY: Final = Shape(
    "infer_trained_model",
    {"docs": ListOf(Kind.OBJECT), "inference_config": INFERENCE_CONFIG},
    ("docs",),
)


class InferBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Documents, and what is asked of them beside what the model says."""

    docs: list[dict[str, Any]]
    inference_config: dict[str, Any] | None = None


class InferAnswer(msgspec.Struct, frozen=True):
    """An answer for each document."""

    inference_results: list[dict[str, Any]]


_DECODER: Final = BodyDecoder(InferBody, _BODY)


def infer_routes(inference: TaskInference, gate: Gate) -> list[Route]:
    """Give the route of `_infer`."""

    async def infer(request: Request) -> Answer:
        seconds, timeout = parse_timeout(request.query.get("timeout", _DEFAULT_TIMEOUT))
        deadline = Deadline.after(seconds, timeout)
        asked = await _DECODER.decode(request)
        await _check_config(request, asked)
        if not asked.docs:
            raise InvalidRequest.of(["[docs] must not be empty"])
        target = await inference.find(request.path_values["model_id"])
        gate.authorize(request.principal, _ENDPOINT if target.inference_id else _MODEL)
        results = await inference.run(target, asked.docs, asked.inference_config, deadline)
        return Answer(msgspec.json.encode(InferAnswer(results)))

    return [
        Route(
            "POST",
            "/_ml/trained_models/{model_id}/_infer",
            infer,
            _EITHER,
            render_infer_error,
            "Run documents with a model",
            parameters=frozenset({"timeout"}),
            takes_body=True,
            body_type=InferBody,
            answer_type=InferAnswer,
        )
    ]


async def _check_config(request: Request, asked: InferBody) -> None:
    """Hold what is asked beside the documents against what may be asked. Raises `BadRequest`."""
    if asked.inference_config:
        given: dict[str, Json] = {"docs": [], "inference_config": asked.inference_config}
        await request.read(partial(check_body, value=given, shape=_BODY))


def render_infer_error(error: InferenceError, request: Request) -> Answer:
    """Answer with the standard envelope; a time limit is 408 here for every client."""
    if isinstance(error, DeadlineExceeded):
        request = replace(request, compatible_with=8)
    return render_error(error, request)
