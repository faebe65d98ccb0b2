"""`outbound.base_urls`: another origin in the place of a provider's default one."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import msgspec
import pytest

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import Deadline, Endpoint, TaskType
from inferry.errors import UpstreamUnreachable
from inferry.outbound.client import open_client
from inferry.protocols import Exchange
from inferry.sections import OutboundSection
from tests.providers import unused_port

ENDPOINT = Endpoint("e", TaskType.TEXT_EMBEDDING, "openai", {})


def exchange_to(url: str) -> Exchange:
    call = HttpCall("POST", url, {"Content-Type": "application/json"}, b'{"input": ["a"]}')
    return Exchange(call, ENDPOINT, None, Deadline.after(5, "5s", "e"))


def read(reply: HttpReply) -> str:
    return reply.url


@pytest.fixture
async def rebased(provider, clock):
    """Give a client that calls the loopback provider instead of OpenAI."""
    section = OutboundSection(base_urls={"openai": f"{provider.url}/"}, connect_timeout_s=0.5)
    async with open_client(section, allow_private_networks=True, clock=clock) as opened:
        yield opened


async def test_the_default_origin_is_replaced_and_the_path_kept(rebased, provider):
    exchange = exchange_to("https://api.openai.com/v1/embeddings?a=b%20c")

    url = await rebased.exchange(exchange, read)

    assert url == f"{provider.url}/v1/embeddings?a=b%20c"


async def test_a_service_without_such_an_entry_is_called_where_it_is(rebased, provider):
    other = msgspec.structs.replace(
        exchange_to(f"{provider.url}/mine"), endpoint=replace(ENDPOINT, service="jinaai")
    )

    assert await rebased.exchange(other, read) == f"{provider.url}/mine"


async def test_an_endpoint_with_a_url_of_its_own_is_left_alone(rebased, provider):
    url = f"http://127.0.0.1:{unused_port()}/v1/embeddings"
    own = msgspec.structs.replace(
        exchange_to(url), endpoint=replace(ENDPOINT, service_settings={"url": url})
    )

    with pytest.raises(UpstreamUnreachable):
        await rebased.exchange(own, read)

    assert provider.requests == []


async def test_a_signature_covers_the_address_that_is_called(rebased, provider):
    signed: list[str] = []

    def sign(
        call: HttpCall, endpoint: Endpoint, now: float
    ) -> Generator[HttpCall, HttpReply, Credential]:
        yield from ()
        signed.append(call.url)
        return Credential({}, expires_at=None)

    exchange = msgspec.structs.replace(
        exchange_to("https://api.openai.com/a%3Ab%2Fc?d=e"), auth=sign
    )

    await rebased.exchange(exchange, read)

    assert signed == [f"{provider.url}/a%3Ab%2Fc?d=e"]
    assert provider.requests[0].path == "/a%3Ab%2Fc?d=e"
