"""A client of a provider on loopback, with a clock that does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from inferry.outbound.client import Client, open_client
from inferry.sections import OutboundSection
from tests.clocks import FakeClock
from tests.providers import Provider, open_provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """Give a provider; what the test started must have ended when the test has."""
    async with open_provider() as opened:
        yield opened


@pytest.fixture
def clock() -> FakeClock:
    """Give the client's clock."""
    return FakeClock()


@pytest.fixture
async def client(provider, clock) -> AsyncIterator[Client]:
    """Give a client; at the end neither a task of its own nor a connection may be left."""
    async with _checked(OutboundSection(), provider, clock) as opened:
        yield opened


@pytest.fixture
async def hasty_client(provider, clock) -> AsyncIterator[Client]:
    """Give the same with little patience, for tests in which nothing happens in time."""
    section = OutboundSection(connect_timeout_s=0.2, stream_idle_timeout_s=0.2)
    async with _checked(section, provider, clock) as opened:
        yield opened


@asynccontextmanager
async def _checked(
    section: OutboundSection, provider: Provider, clock: FakeClock
) -> AsyncIterator[Client]:
    before = asyncio.all_tasks()
    async with open_client(section, allow_private_networks=True, clock=clock) as opened:
        yield opened
        for session in opened._sessions.values():
            assert session.connector is not None
            assert not session.connector._acquired
    await provider.all_closed()
    left = {task for task in asyncio.all_tasks() - before if "serve" not in repr(task)}
    assert left <= {asyncio.current_task()}
