"""Providers that quote what they were sent, credentials included, in every way they can fail."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.providers import (
    Behaviour,
    Connection,
    Received,
    begin_events,
    send_bytes,
    send_json,
)
from tests.services import simulated
from tests.services.offers import is_for_token

_STATUSES = (302, 400, 401, 403, 404, 413, 429, 500, 503)
_QUOTING_HEADERS = (
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
)


def echoes(service: str) -> Iterator[Behaviour]:
    """Give providers that speak the format of a vendor, and quote in whatever they answer.

    Those that quote instead of giving a token come first: a token that was given is kept.
    """
    yield _unless_for_token(simulated.answer, _refused_token)
    yield _unless_for_token(simulated.answer, _page)
    refusals = [_refusing(service, status) for status in _STATUSES]
    for fault in [*refusals, _page, _error_in_200(service), _broken_stream(service)]:
        yield _unless_for_token(fault, simulated.answer)


def said_back(received: Received) -> str:
    """Give all that was received, as JSON and as it was."""
    headers = " ".join(f"{name}: {value}" for name, value in received.headers.items())
    body = received.body.decode()
    return f"no {received.path} {headers} {body} {json.dumps([received.headers, body])}"


def _refusing(service: str, status: int) -> Behaviour:
    async def refuse(connection: Connection, received: Received) -> None:
        body = simulated.error_body(service, status, said_back(received))
        quoted = " ".join(received.headers.values())
        headers = dict.fromkeys(_QUOTING_HEADERS, quoted)
        await send_json(connection, body, status=status, headers=headers)

    return refuse


def _error_in_200(service: str) -> Behaviour:
    async def fail(connection: Connection, received: Received) -> None:
        body = simulated.error_body(service, 200, said_back(received))
        await send_json(connection, body)

    return fail


def _broken_stream(service: str) -> Behaviour:
    async def break_off(connection: Connection, received: Received) -> None:
        await begin_events(connection)
        event = simulated.error_event(service, said_back(received))
        await connection.send(simulated.chunk(event) + b"0\r\n\r\n")

    return break_off


async def _page(connection: Connection, received: Received) -> None:
    await send_bytes(connection, f"<html>{said_back(received)}</html>".encode())


async def _refused_token(connection: Connection, received: Received) -> None:
    refusal = {"error": "invalid_client", "error_description": said_back(received)}
    await send_json(connection, refusal, status=401)


def _unless_for_token(fault: Behaviour, give_token: Behaviour) -> Behaviour:
    async def answer_either(connection: Connection, received: Received) -> None:
        await (give_token if is_for_token(received) else fault)(connection, received)

    return answer_either
