"""Our load generator, for machines without wrk. One argument: the call as JSON (see `load.py`)."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


class Caller(asyncio.Protocol):
    """Sends the same request again as soon as it is answered."""

    def __init__(self, request: bytes, until: float, latencies_us: list[float]) -> None:
        self._request = request
        self._until = until
        self._latencies_us = latencies_us
        self._buffer = bytearray()
        self._sent_at = 0.0
        self.bad = 0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Count an answer that is complete."""
        self._buffer += data
        if not self._is_complete():
            return
        now = time.perf_counter()
        self._latencies_us.append((now - self._sent_at) * 1e6)
        self.bad += not self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer.clear()
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """End, early only if something broke."""
        self.bad += time.perf_counter() < self._until
        self.ended.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def _is_complete(self) -> bool:
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return False
        length = _LENGTH.search(self._buffer, 0, head)
        if length is None:
            return self._buffer.endswith(b"0\r\n\r\n")
        return len(self._buffer) >= head + 4 + int(length[1])


async def main(asked: dict) -> dict:
    """Keep the connections busy for the time and give the figures."""
    body = asked["body"].encode()
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **asked["headers"]}
    lines = [f"{asked['method']} {asked['path']} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    latencies_us: list[float] = []
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    callers = []
    for _ in range(asked["connections"]):
        _, caller = await loop.create_connection(
            lambda: Caller(request, started + asked["seconds"], latencies_us),
            "127.0.0.1",
            asked["port"],
        )
        callers.append(caller)
    await asyncio.wait([caller.ended for caller in callers])
    took_us = (time.perf_counter() - started) * 1e6
    latencies_us.sort()
    count = len(latencies_us)
    return {
        "requests": count,
        "us": took_us,
        "p50_us": latencies_us[count // 2] if count else 0,
        "p99_us": latencies_us[count * 99 // 100] if count else 0,
        "bad": sum(caller.bad for caller in callers),
    }


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(main(json.loads(sys.argv[1])))))
