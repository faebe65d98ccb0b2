"""The core of a local runner: hand the texts to the engine.

Work that is lost with its worker is sent once more, and a model that does not run is started.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from inferry.concurrency import within
from inferry.core.deployment_settings import deployment_of
from inferry.core.runners.checks import check_result
from inferry.core.runners.runner import Run
from inferry.domain import Endpoint, InferenceRequest, Result
from inferry.errors import InvalidRequest, NotDeployed, WorkerLost
from inferry.protocols import Engine

Start: TypeAlias = Callable[[str], Awaitable[None]]
"""Starts the local model of an endpoint, or joins its start; returns when it runs."""

_MOST_LOSSES = 2


def run_local(endpoint: Endpoint, engine: Engine, start: Start) -> Run:
    """Give the runner of an endpoint whose model runs here."""
    inference_id = endpoint.inference_id
    deployment_id = deployment_of(inference_id, endpoint.service_settings)

    async def run(request: InferenceRequest) -> Result:
        texts = _texts(request)
        losses = 0
        with within(request.deadline):
            while True:
                try:
                    result = await engine.embed(
                        deployment_id,
                        texts,
                        input_type=request.input_type,
                        deadline=request.deadline,
                    )
                    return check_result(result, request, dimensions=None)
                except NotDeployed:
                    await start(inference_id)
                except WorkerLost as error:
                    losses += 1
                    if losses == _MOST_LOSSES:
                        raise WorkerLost(
                            f"The worker of the deployment [{deployment_id}] ended while it ran "
                            f"the request, and so did its successor"
                        ) from error

    return run


def _texts(request: InferenceRequest) -> list[str]:
    """Give the inputs, which must all be texts."""
    texts = [one for one in request.inputs if isinstance(one, str)]
    if len(texts) != len(request.inputs):
        raise InvalidRequest("Local models take texts only, not content of other types")
    return texts
