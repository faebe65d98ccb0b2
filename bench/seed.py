"""Data directories with many endpoints: made by a first start, filled through the store."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from bench.processes import inferry
from inferry.records import EndpointRecord, Put
from inferry.store.sql import open_store, sqlite_url

_AT_ONCE = 10_000
NO_LIMIT = {"requests_per_minute": 1_000_000_000}


def seed(data_dir: Path, stored: int, *, core: int) -> None:
    """Make `data_dir` hold `stored` endpoints named `bench-000000` and so on."""
    with inferry(data_dir, core=core):
        pass  # the first start makes the store and the keys
    asyncio.run(_fill(data_dir, stored))


async def _fill(data_dir: Path, stored: int) -> None:
    store = await open_store(sqlite_url(data_dir / "inferry.db"))
    try:
        for start in range(0, stored, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, stored))
            await store.write([Put(_record(number)) for number in numbers])
    finally:
        await store.close()


def endpoint_id(number: int) -> str:
    """Name a seeded endpoint."""
    return f"bench-{number:06}"


def _record(number: int) -> EndpointRecord:
    """Give an endpoint of the usual size; its secrets are noise, since nobody runs it."""
    return EndpointRecord(
        inference_id=endpoint_id(number),
        task_type="text_embedding",
        service="openai",
        service_settings={
            "model_id": "text-embedding-3-small",
            "similarity": "dot_product",
            "dimensions": 1536,
            "rate_limit": {"requests_per_minute": 3000},
        },
        task_settings={"user": f"team-{number % 97}"},
        chunking_settings={
            "strategy": "sentence",
            "max_chunk_size": 250,
            "sentence_overlap": 1,
        },
        secrets=os.urandom(80),
        created_at_ms=1_700_000_000_000 + number,
        updated_at_ms=1_700_000_000_000 + number,
    )
