"""Asks an SDK and our service the same, and keeps what each sent."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import cycle, islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import (
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    InputType,
    Ranking,
    Result,
    SparseEmbeddings,
)
from inferry.service import Service
from tests.oracles.allowances import Sent
from tests.oracles.oracle import Oracle
from tests.providers import (
    Behaviour,
    Connection,
    Provider,
    Received,
    begin_events,
    send_event,
    send_json,
)
from tests.services.cases import Case
from tests.services.driving import running, stream_of

_DROPPED = (
    *("accept", "amz-sdk-", "connection", "content-length", "host", "user-agent"),
    *("x-amzn-trace-id", "x-client-name", "x-fern-", "x-goog-api-client", "x-goog-request-params"),
    *("x-ms-client-request-id", "x-stainless-", "transfer-encoding"),
)


def sent(received: Received) -> Sent:
    """Give a request as a tree, without the headers that name the client."""
    parts = urlsplit(received.path)
    headers = {
        name: value for name, value in received.headers.items() if not name.startswith(_DROPPED)
    }
    if headers.get("content-type", "").startswith("application/json"):
        headers["content-type"] = "application/json"
    return {
        "method": received.method,
        "path": parts.path,
        "query": parse_qs(parts.query, keep_blank_values=True),
        "headers": headers,
        "body": received.json if received.body else None,
    }


async def ask_ours(case: Case, oracle: Oracle, provider: Provider) -> Any:
    """Give what our service makes of the reply, its origin replaced by the provider's."""

    def build(request: InferenceRequest) -> HttpCall:
        call = case.task.build(request)
        parts = urlsplit(call.url)
        query = f"?{parts.query}" if parts.query else ""
        return replace(call, url=f"{provider.url}{parts.path}{query}")

    def parse(reply: HttpReply, request: InferenceRequest) -> Result:
        return _repeated(case.task.parse(reply, request), len(request.inputs))

    task = replace(case.task, build=build, parse=parse)
    async with running(_service_of(case, oracle), case.request, task=task) as runners:
        if case.request.stream:
            return await stream_of(runners, case.request)
        return await runners.run(case.request)


def _service_of(case: Case, oracle: Oracle) -> Service:
    """Give the service; with the constant token, where the oracle has one."""

    def bearer(
        call: HttpCall, endpoint: Endpoint, now: float
    ) -> Generator[HttpCall, HttpReply, Credential]:
        yield from ()
        return Credential({"Authorization": f"Bearer {oracle.token}"}, math.inf)

    return replace(case.service, auth=bearer) if oracle.token else case.service


def _repeated(result: Result, count: int) -> Result:
    """Repeat or leave out canned rows, so that one reply answers any number of inputs."""
    match result:
        case DenseEmbeddings():
            return replace(result, vectors=tuple(islice(cycle(result.vectors), count)))
        case SparseEmbeddings():
            return replace(result, items=tuple(islice(cycle(result.items), count)))
        case Ranking():
            return replace(
                result, documents=tuple(one for one in result.documents if one.index < count)
            )
        case _:
            return result


async def ask_sdk(case: Case, oracle: Oracle, provider: Provider) -> Any:
    """Give what the SDK makes of the reply; what we split, the SDK is told in parts."""
    inputs = case.request.inputs
    size = case.task.batch_size(case.request.endpoint) or len(inputs) or 1
    parts = [inputs[start : start + size] for start in range(0, len(inputs) or 1, size)]
    answers = [
        await oracle.ask(replace(case, request=replace(case.request, inputs=part)), provider.url)
        for part in parts
    ]
    return answers[0] if len(answers) == 1 else answers


def canned(case: Case) -> Behaviour:
    """Give a behaviour that answers with the reply or the events of the file."""

    async def behave(connection: Connection, _: Received) -> None:
        if "reply" in case.written:
            await send_json(connection, case.written["reply"])
            return
        await begin_events(connection)
        for event in case.events:
            # Two spellings end a stream for us; the SDK knows the documented one.
            await send_event(connection, event.data.replace("[done]", "[DONE]"), event.name)
        await connection.send(b"0\r\n\r\n")

    return behave


def variations(case: Case) -> Iterator[Case]:
    """Vary the inputs of a case: 1, 3, one more than a batch; and every input type."""
    request = case.request
    if case.task_type.is_generative:
        return
    for count in sorted({1, 3, (case.task.batch_size(request.endpoint) or 3) + 1}):
        inputs = tuple(f"text {n}" for n in range(count))
        yield _varied(case, replace(request, inputs=inputs), f"{count} inputs")
    for input_type in InputType if case.task_type.is_chunkable else ():
        if not input_type.startswith("internal_") or input_type in case.task.input_types:
            yield _varied(case, replace(request, input_type=input_type), f"for {input_type}")


def _varied(case: Case, request: InferenceRequest, name: str) -> Case:
    return replace(case, request=request, written={**case.written, "name": name})


def as_text(tree: Sent) -> str:
    """Print a request, to sort by and to compare."""
    return json.dumps(tree, indent=1, sort_keys=True)
