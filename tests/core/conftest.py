"""What tests of the core share."""

from __future__ import annotations

import pytest

from tests.core.registry_parts import House, open_house


@pytest.fixture
async def house():
    async with open_house() as one:
        assert isinstance(one, House)
        yield one
