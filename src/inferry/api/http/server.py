"""Uvicorn's server, made to serve as one of several processes on the same sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn

_HANDSHAKE_S = 10.0


class HttpServer(uvicorn.Server):
    """Uvicorn's server, on sockets that exist and without signals, which the supervisor handles."""

    def __init__(self, config: uvicorn.Config, sockets: Sequence[socket.socket]) -> None:
        super().__init__(config)
        self._sockets = list(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def listen(self) -> None:
        """Accept connections from now on."""
        config = self.config
        config.load()
        self.lifespan = config.lifespan_class(config)
        protocol: Any = config.http_protocol_class
        make = partial(
            protocol,
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                make,
                sock=one,
                backlog=config.backlog,
                ssl=config.ssl,
                ssl_handshake_timeout=_HANDSHAKE_S if config.ssl else None,
            )
            for one in self._sockets
        ]
        self.started = True

    async def finish(self, timeout_s: float) -> None:
        """Let running requests end within `timeout_s`, then close every connection.

        A request that is cut off sees its connection break: an answer would claim an outcome.
        """
        running = set(self.server_state.tasks)
        if running:
            _, late = await asyncio.wait(running, timeout=timeout_s)
            for connection in list(self.server_state.connections) if late else ():
                connection.transport.abort()
        await self.shutdown(sockets=self._sockets)

    def stop(self) -> None:
        """Stop accepting, at once and without a word to anybody."""
        for server in self.servers if self.started else ():
            server.close()
