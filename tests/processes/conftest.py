"""Servers of these tests: each gets a data directory of its own and is gone afterwards."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.providers import Connection, Provider, Received, answer, run_provider
from tests.server import Server, run_server


@pytest.fixture
def serve(tmp_path) -> Iterator[Callable[..., Server]]:
    """Start servers; a second one finds the data of the first, unless told otherwise."""
    with ExitStack() as stack:

        def start(*flags: str, **more: Any) -> Server:
            data_dir = more.pop("data_dir", tmp_path / "data")
            return stack.enter_context(run_server(data_dir, *flags, **more))

        yield start


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Run a provider on loopback."""
    with run_provider() as running:
        yield running


class Hold:
    """A behaviour of a provider that answers when it is told to."""

    def __init__(self) -> None:
        self.arrived, self._go_on = threading.Event(), threading.Event()

    async def __call__(self, connection: Connection, received: Received) -> None:
        self.arrived.set()
        await asyncio.to_thread(self._go_on.wait, 60)
        await answer(connection, received)

    def wait(self) -> None:
        """Wait until the request is with the provider."""
        assert self.arrived.wait(60)

    def release(self) -> None:
        """Let the provider answer."""
        self._go_on.set()


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Give a behaviour that answers when it is told to, at the latest when the test ends."""
    held = Hold()
    yield held
    held.release()
