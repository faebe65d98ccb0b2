"""Names in requests: inference ids and task types, and the words when they do not fit."""

from __future__ import annotations

import re

from inferry.core.preconfigured import RESERVED_IDS
from inferry.domain import TaskType
from inferry.errors import BadRequest, InvalidRequest, NotFound

ANY = "any"

_ID = re.compile(r"[a-z0-9](?:[a-z0-9_\-.]*[a-z0-9])?")
_TASK_TYPES = {task_type.value: task_type for task_type in TaskType}
_MAX_ID_BYTES = 256
_LONGEST_SHOWN = 64


def check_new_id(inference_id: str) -> None:
    """Refuse an id that no new endpoint may have: one of ours, or one outside the pattern."""
    if inference_id in RESERVED_IDS:
        raise BadRequest(
            f"[{inference_id}] is a reserved inference ID. "
            "Cannot create a new inference endpoint with a reserved ID."
        )
    check_id_pattern(inference_id)


def check_id_pattern(inference_id: str) -> None:
    """Refuse an id outside the pattern of ids that users may choose."""
    if not _ID.fullmatch(inference_id):
        raise InvalidRequest.of(
            [
                f"Invalid inference_id; '{inference_id}' can contain lowercase alphanumeric "
                "(a-z and 0-9), hyphens or underscores; must start and end with alphanumeric"
            ]
        )
    if len(inference_id) > _MAX_ID_BYTES:
        raise InvalidRequest.of(
            [
                f"Invalid inference_id; '{inference_id[:_LONGEST_SHOWN]}...' must not be longer "
                f"than [{_MAX_ID_BYTES}] bytes, got [{len(inference_id)}]"
            ]
        )


def parse_task_type(given: str | None) -> TaskType | None:
    """Read a task type from a URL or body; `any`, like none at all, gives None."""
    if given is None:
        return None
    if (found := _TASK_TYPES.get(given)) is not None:
        return found
    name = given.strip().lower()
    if name == ANY:
        return None
    try:
        return TaskType(name)
    except ValueError:
        raise BadRequest(f"Unknown task_type [{given}]") from None


def resolve_task_type(in_url: str | None, in_body: str | None) -> TaskType:
    """Give the task type of a new endpoint from the two places where it may stand."""
    asked = parse_task_type(in_url)
    if in_body is None:
        if asked is None:
            raise BadRequest("model is missing required setting [task_type]")
        return asked
    if in_body.strip().lower() == ANY:
        raise BadRequest(f"task_type [{in_body}] is not valid type for inference")
    named = parse_task_type(in_body)
    assert named is not None
    if asked is not None and asked is not named:
        raise BadRequest(
            "Cannot resolve conflicting task_type parameter in the request URL "
            f"[{asked}] and the request body [{named}]"
        )
    return named


def endpoint_not_found(inference_id: str) -> NotFound:
    """Say that there is no such endpoint."""
    return NotFound(f"Inference endpoint not found [{inference_id}]")


def check_task_type(asked: TaskType | None, real: str) -> None:
    """Refuse a task type in a URL that is not the endpoint's own."""
    if asked is not None and asked != real:
        raise BadRequest(
            f"Requested task type [{asked}] does not match the inference endpoint's "
            f"task type [{real}]"
        )
