"""Five hundred chats at a time through one API process: nothing is lost, nothing changes places."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest

from inferry.concurrency import run_all
from tests.marks import MARK
from tests.providers import (
    Connection,
    Received,
    answer,
    begin_events,
    open_provider,
    send_event,
)

pytestmark = pytest.mark.server

STREAMS = 500
PIECES = 20
ENDPOINT = {
    "service": "openai",
    "service_settings": {
        "model_id": "m",
        "api_key": f"a key, {MARK}",
        "rate_limit": {"requests_per_minute": 1_000_000},
    },
}


class Chorus:
    """Answers in pieces, once every stream is open: a piece of each in turn."""

    def __init__(self) -> None:
        self.all_open = asyncio.Barrier(STREAMS)

    async def __call__(self, connection: Connection, received: Received) -> None:
        number = received.json["messages"][-1]["content"]
        if not received.json.get("stream"):
            await answer(connection, received)
            return
        await begin_events(connection)
        await self.all_open.wait()
        for piece in range(PIECES):
            await send_event(connection, json.dumps(_chunk(number, f"{number}.{piece} ")))
            await asyncio.sleep(0)
        await send_event(connection, "[DONE]")
        await connection.send(b"0\r\n\r\n")


def _chunk(number: str, text: str) -> dict[str, Any]:
    delta = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": number, "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


async def listen(session: aiohttp.ClientSession, url: str, number: int) -> str:
    """Give what a stream said to `number`."""
    body = {"messages": [{"role": "user", "content": str(number)}]}
    async with session.post(url, json=body) as response:
        assert response.status == 200
        text = await response.text()
    *chunks, end = re.findall(r"^data: (.*)$", text, re.MULTILINE)
    assert end == "[DONE]"
    said = [json.loads(one) for one in chunks]
    assert {one["id"] for one in said} == {str(number)}
    return "".join(choice["delta"]["content"] for one in said for choice in one["choices"])


async def test_five_hundred_streams_at_once_keep_all_their_pieces_in_order(serve):
    async with open_provider() as provider:
        provider.always(Chorus())
        environment = {"INFERRY_OUTBOUND__BASE_URLS__OPENAI": provider.url}
        server = await asyncio.to_thread(serve, environment=environment)
        path = "/_inference/chat_completion/chorus"
        created = await asyncio.to_thread(server.call, "PUT", path, ENDPOINT)
        assert created.status == 200, created.content
        assert len(server.api_processes()) == 1

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            url = f"{server.url}{path}/_stream"
            found = await run_all(listen(session, url, number) for number in range(STREAMS))

    for number, text in enumerate(found):
        assert text == "".join(f"{number}.{piece} " for piece in range(PIECES))
