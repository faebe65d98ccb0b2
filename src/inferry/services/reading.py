"""What the readers of replies share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from inferry.calls import HttpReply
from inferry.domain import InferenceRequest
from inferry.errors import Retry, UnreadableReply

T = TypeVar("T")


def decoded(decoder: msgspec.json.Decoder[T], reply: HttpReply, request: InferenceRequest) -> T:
    """Decode a 2xx body. Raises `UnreadableReply`."""
    try:
        return decoder.decode(reply.body)
    except msgspec.MsgspecError as error:
        endpoint = request.endpoint
        raise UnreadableReply(
            f"Failed to parse the response of [{endpoint.service}]"
            f" for request from inference entity id [{endpoint.inference_id}]",
            upstream_status=reply.status,
            retry=Retry.YES,
        ) from error


@contextmanager
def unreadable_vectors(reply: HttpReply, request: InferenceRequest) -> Iterator[None]:
    """Turn the `ValueError` of a vector into `UnreadableReply`."""
    try:
        yield
    except ValueError as error:
        raise UnreadableReply(
            f"Failed to parse the embeddings in the response of [{request.endpoint.service}]",
            upstream_status=reply.status,
            retry=Retry.YES,
        ) from error
