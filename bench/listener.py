"""Listens to many streams at once and tells when their events came; the call is JSON in argv.

port, path, headers, body: what to send. streams: how many at a time. authority: the PEM file that
vouches for the server, none for plain HTTP. lasts_s: about how long a stream takes. The streams
begin evenly spread over that time, once to warm up, then once more for the figures.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from typing import Any

_LEFT = re.compile(rb"left ([0-9]+) ")
_END = b"0\r\n\r\n"


class Listener:
    """One connection. Times are nanoseconds of the machine's monotonic clock."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.first_ns = 0
        self.gaps_ns: list[int] = []
        self.ways_ns: list[int] = []

    async def open(self, port: int, tls: ssl.SSLContext | None) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)

    async def listen(self, at: float) -> None:
        """Ask at a moment of the loop's clock, and note when each event came."""
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        self.gaps_ns, self.ways_ns = [], []
        asked = time.monotonic_ns()
        self._writer.write(self._request)
        last, tail = 0, b""
        while not tail.endswith(_END):
            data = await self._reader.read(65536)
            now = time.monotonic_ns()
            if not data:
                raise ConnectionError("the stream broke")
            for left in _LEFT.findall(data):
                self.ways_ns.append(now - int(left))
                if last:
                    self.gaps_ns.append(now - last)
                else:
                    self.first_ns = now - asked
                last = now
            tail = (tail + data)[-len(_END) :]


def _request(call: dict[str, Any]) -> bytes:
    body = call["body"].encode()
    headers = {**call["headers"], "Host": "127.0.0.1", "Content-Length": str(len(body))}
    lines = [f"POST {call['path']} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def main(call: dict[str, Any]) -> None:
    """Listen and print the figures."""
    tls = ssl.create_default_context(cafile=call["authority"]) if call["authority"] else None
    request = _request(call)
    listeners = [Listener(request) for _ in range(call["streams"])]
    async with asyncio.TaskGroup() as group:
        for one in listeners:
            group.create_task(one.open(call["port"], tls))
    for _ in range(2):
        begin, every = asyncio.get_running_loop().time(), call["lasts_s"] / len(listeners)
        async with asyncio.TaskGroup() as group:
            for number, one in enumerate(listeners):
                group.create_task(one.listen(begin + number * every))
    print(
        json.dumps(
            {
                "first_ms": sorted(one.first_ns / 1e6 for one in listeners),
                "gaps_ms": sorted(gap / 1e6 for one in listeners for gap in one.gaps_ns),
                "ways_ms": sorted(way / 1e6 for one in listeners for way in one.ways_ns),
            }
        )
    )


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(json.loads(sys.argv[1])))
