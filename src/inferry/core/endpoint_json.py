"""An endpoint as callers see it: the JSON object of PUT, GET and `_update`. Never a secret."""

from __future__ import annotations

from typing import Any

import msgspec

from inferry.records import EndpointRecord


class EndpointItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The object, members in the order of the wire; empty ones are left out."""

    inference_id: str
    task_type: str
    service: str
    service_settings: dict[str, Any]
    task_settings: dict[str, Any] = {}
    chunking_settings: dict[str, Any] | None = None


def encode_item(record: EndpointRecord) -> bytes:
    """Encode the item of `record`."""
    return msgspec.json.encode(
        EndpointItem(
            record.inference_id,
            record.task_type,
            record.service,
            record.service_settings,
            record.task_settings,
            record.chunking_settings,
        )
    )
