"""The answer of PUT with `?dry_run=true`: what would be stored, and what would be sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from inferry.calls import HttpCall
from inferry.core.endpoint_json import encode_item
from inferry.domain import Chat, Deadline, Endpoint, InferenceRequest, InputType, Message, TaskType
from inferry.records import EndpointRecord
from inferry.redaction import MASK, redact
from inferry.service import HttpTask, Service, Task

_SAMPLE = "how big"


def encode_dry_run(
    record: EndpointRecord, endpoint: Endpoint, service: Service, task: Task, *, now: float
) -> bytes:
    """Encode the endpoint, its measured `dimensions`, and one outgoing request, secrets masked.

    A local model is not loaded for it, and nothing goes out. endpoint: with resolved secrets.
    now: seconds since the epoch.
    """
    answer: dict[str, Any] = {"dry_run": True, "endpoint": msgspec.Raw(encode_item(record))}
    if "dimensions" in record.service_settings:
        answer["dimensions"] = record.service_settings["dimensions"]
    if isinstance(task, HttpTask):
        answer["request"] = _outgoing(endpoint, service, task, now)
    return msgspec.json.encode(answer)


def _outgoing(endpoint: Endpoint, service: Service, task: HttpTask, now: float) -> dict[str, Any]:
    """Describe one request to the provider, secrets masked."""
    call = task.build(sample_request(endpoint, Deadline.after(0, "0s", endpoint.inference_id)))
    names = _credential_headers(service, call, endpoint, now)
    return {
        "method": call.method,
        "url": _masked(call.url, endpoint),
        "headers": {name: _masked(value, endpoint) for name, value in call.headers.items()}
        | dict.fromkeys(names, MASK),
        "body": _body(call, endpoint),
    }


def sample_request(endpoint: Endpoint, deadline: Deadline) -> InferenceRequest:
    """Make the smallest request that the endpoint takes: the probe, and what a dry run shows."""
    request = InferenceRequest(
        endpoint=endpoint,
        deadline=deadline,
        inputs=(_SAMPLE,),
        task_settings=endpoint.task_settings,
    )
    if endpoint.task_type is TaskType.CHAT_COMPLETION:
        return replace(request, inputs=(), chat=Chat(messages=[Message("user", _SAMPLE)]))
    if endpoint.task_type is TaskType.RERANK:
        return replace(request, query="test query")
    if endpoint.task_type.is_chunkable:
        return replace(request, input_type=InputType.INTERNAL_INGEST)
    return request


def _credential_headers(
    service: Service, call: HttpCall, endpoint: Endpoint, now: float
) -> list[str]:
    """Name the headers that sign the call; a token yet to be fetched goes into `Authorization`."""
    if service.auth is None:
        return []
    signing = service.auth(call, endpoint, now)
    try:
        next(signing)
    except StopIteration as signed:
        return list(signed.value.headers)
    finally:
        signing.close()
    return ["Authorization"]


def _body(call: HttpCall, endpoint: Endpoint) -> Any:
    text = _masked(call.body.decode("utf-8", "replace"), endpoint)
    try:
        return msgspec.Raw(msgspec.json.encode(msgspec.json.decode(text)))
    except msgspec.DecodeError:
        return text


def _masked(text: str, endpoint: Endpoint) -> str:
    return redact(text, endpoint.secrets.values())
