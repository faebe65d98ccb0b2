"""Ways to make the server call what it must not: addresses, notations, names, redirects.

Every URL goes through the client as an endpoint's would. A refusal names the setting that would
allow the call, and that setting does; where none does, none is named.
"""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import Deadline, Endpoint, TaskType
from inferry.egress import EgressRules
from inferry.errors import BadRequest, UnreadableReply, UpstreamUnreachable
from inferry.outbound import client as client_module
from inferry.outbound.client import Client, open_client
from inferry.outbound.resolver import open_socket
from inferry.protocols import Exchange
from inferry.sections import OutboundSection
from tests.addresses import NEVER, NO_HTTP, OF_THE_NETWORK, UNREADABLE
from tests.clocks import FakeClock
from tests.dns import NameServer, open_name_server
from tests.providers import open_provider, refuse, send_bytes

PRIVATE = "[outbound.allow_private_networks]"
OPEN = EgressRules(allow_private_networks=True)

ENDPOINT = Endpoint("mine", TaskType.COMPLETION, "openai", {})


def exchange_to(url: str, auth=None) -> Exchange:
    call = HttpCall("POST", url, {}, b'{"input": ["a"]}')
    return Exchange(call, ENDPOINT, auth, Deadline.after(30, "30s", "mine"))


def whole(reply: HttpReply) -> HttpReply:
    return reply


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    """Give what costs more than everything else that a client needs."""
    return ssl.create_default_context()


@pytest.fixture
def tried(monkeypatch, context) -> list[str]:
    """Give the addresses that were to be connected to; only those on loopback are."""
    found: list[str] = []

    def note(info, **rules) -> socket.socket:
        opened = open_socket(info, **rules)
        found.append(info[4][0])
        if not info[4][0].startswith("127."):
            opened.close()
            raise ConnectionRefusedError
        return opened

    monkeypatch.setattr(client_module, "open_socket", note)
    monkeypatch.setattr(ssl, "create_default_context", lambda: context)
    return found


@pytest.fixture
async def names(monkeypatch) -> AsyncIterator[NameServer]:
    """Give the name server that clients ask from now on."""
    async with open_name_server() as (server, resolver):
        monkeypatch.setattr("inferry.outbound.resolver.ThreadedResolver", lambda: resolver)
        yield server


@pytest.fixture
async def closed(tried) -> AsyncIterator[Client]:
    """Give a client of a server on a network."""
    async with open_client(
        OutboundSection(), allow_private_networks=False, clock=FakeClock()
    ) as opened:
        yield opened


@pytest.fixture
async def local(tried, names) -> AsyncIterator[Client]:
    """Give a client that may call its own network."""
    async with open_client(
        OutboundSection(), allow_private_networks=True, clock=FakeClock()
    ) as opened:
        yield opened


async def refusal(client: Client, url: str, auth=None) -> str:
    with pytest.raises(BadRequest) as caught:
        await client.exchange(exchange_to(url, auth), whole)
    return str(caught.value)


def test_there_are_many_ways_to_try():
    ways = [*OF_THE_NETWORK, *NEVER, *UNREADABLE, *NO_HTTP]

    assert len(set(ways)) == len(ways) >= 140


@pytest.mark.parametrize("host", OF_THE_NETWORK)
async def test_what_is_of_the_network_needs_the_setting_that_is_named(closed, tried, host):
    for url in (f"https://{host}/latest", f"http://{host}/latest"):
        message = await refusal(closed, url)

        assert f"private address and {PRIVATE} is not set" in message.replace(",", "")
        OPEN.check_url(url)
    assert tried == []


@pytest.mark.parametrize("host", NEVER)
async def test_what_is_never_called_names_no_setting(closed, local, tried, host):
    for scheme, client in itertools.product(("https", "http"), (closed, local)):
        message = await refusal(client, f"{scheme}://{host}/latest/meta-data/")

        assert "is never called" in message
        assert "[outbound." not in message
    assert tried == []


@pytest.mark.parametrize("url", [f"https://{host}/" for host in UNREADABLE] + NO_HTTP)
async def test_what_two_parsers_may_read_differently_is_not_read(closed, local, tried, url):
    for client in (closed, local):
        message = await refusal(client, url)

        assert message.startswith(("Invalid url", "Host ["))
        assert "[outbound." not in message
        assert "hunter2" not in message
    assert tried == []


@pytest.mark.parametrize("host", ["127.0.0.1", "api.example.org", "169.254.169.254", "[::1]"])
async def test_a_list_of_hosts_opens_nothing_else(tried, host):
    section = OutboundSection(allow_hosts=("api.example.com", "10.0.0.1"))
    async with open_client(section, allow_private_networks=True) as client:
        message = await refusal(client, f"https://{host}/")

    assert ("[outbound.allow_hosts]" in message) == (host != "169.254.169.254")
    assert tried == []


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "::ffff:10.0.0.1"])
async def test_a_name_stands_for_its_addresses(names, closed, tried, address):
    names.knows("innocent.example.org", [address])

    message = await refusal(closed, "https://innocent.example.org/")

    assert f"{PRIVATE} is not set" in message
    assert "Host [innocent.example.org] cannot be called" in message
    assert tried == []


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "0.0.0.0", "ff02::1"])
async def test_a_name_of_a_forbidden_address_is_never_called(names, local, tried, address):
    names.knows("innocent.example.org", [address])

    message = await refusal(local, "https://innocent.example.org/")

    assert "is never called" in message
    assert tried == []


async def test_of_several_addresses_only_those_allowed_are_tried(names, closed, tried):
    names.knows(
        "mixed.example.org",
        ["169.254.169.254", "10.0.0.1", "8.8.8.8", "127.0.0.1", "::1", "2606:4700::1"],
    )

    with pytest.raises(UpstreamUnreachable):
        await closed.exchange(exchange_to("https://mixed.example.org/"), whole)

    assert set(tried) == {"8.8.8.8", "2606:4700::1"}


async def test_what_is_connected_to_is_what_was_checked(names, closed, tried):
    """A name that is public when it is checked and private when it is looked up once more."""
    names.knows("rebound.example.org", ["8.8.8.8"], ["127.0.0.1"])

    with pytest.raises(UpstreamUnreachable):
        await closed.exchange(exchange_to("https://rebound.example.org/"), whole)

    assert set(tried) == {"8.8.8.8"}
    assert names.looked_up == ["rebound.example.org"]


async def test_a_name_that_changed_is_checked_anew(names, local, tried):
    async with open_provider() as provider:
        names.knows("rebound.example.org", ["127.0.0.1"], ["169.254.169.254"])
        url = provider.url.replace("127.0.0.1", "rebound.example.org")
        reply = await local.exchange(exchange_to(f"{url}/v1/embeddings"), whole)
        forget_connections(local)

        message = await refusal(local, f"{url}/v1/embeddings")

    assert reply.status == 200
    assert "[169.254.169.254] is a link-local address" in message
    assert tried == ["127.0.0.1"]
    assert len(names.looked_up) == 2


def forget_connections(client: Client) -> None:
    """Drop what the pools know: connections and addresses."""
    for session in client._sessions.values():
        connector: Any = session.connector
        connector.clear_dns_cache()
        for held in list(itertools.chain(*connector._conns.values())):
            held[0].close()
        connector._conns.clear()


@pytest.mark.parametrize("first", ["http", "https"])
async def test_what_holds_for_one_scheme_does_not_for_the_other(names, local, tried, first):
    """A name on port 443 is called by both: by http it must be private, by https it need not."""
    names.knows("shared.example.org", ["8.8.8.8"])
    found = {}
    for scheme in (first, "http", "https"):
        with pytest.raises((BadRequest, UpstreamUnreachable)) as caught:
            await local.exchange(exchange_to(f"{scheme}://shared.example.org:443/"), whole)
        found[scheme] = caught.value

    assert "[8.8.8.8] is a public address, use https" in str(found["http"])
    assert isinstance(found["https"], UpstreamUnreachable)
    assert set(tried) == {"8.8.8.8"}


# --- ways around ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(local, tried, status):
    async with open_provider() as victim, open_provider() as provider:
        provider.then(refuse(status, headers={"Location": f"{victim.url}/secret"}))

        reply = await local.exchange(exchange_to(provider.url), whole)

    assert reply.status == status
    assert victim.requests == []
    assert tried == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://169.254.169.254/token", "is never called"),
        ("https://10.0.0.1/token", PRIVATE),
        ("https://user:hunter2@example.org/token", "user and password"),
        ("http://api.example.org/token", PRIVATE),
    ],
)
async def test_a_token_is_fetched_through_the_same_gate(closed, tried, url, said):
    def fetch_token(call, endpoint, now):
        reply = yield HttpCall("POST", url, {}, b"grant_type=client_credentials")
        return Credential({"Authorization": json.loads(reply.body)["access_token"]}, now + 60)

    message = await refusal(closed, "https://api.example.org/", fetch_token)

    assert said in message
    assert "hunter2" not in message
    assert tried == []


async def test_another_origin_of_a_service_is_no_way_around(tried):
    section = OutboundSection(base_urls={"openai": "http://169.254.169.254"})
    async with open_client(section, allow_private_networks=True) as client:
        message = await refusal(client, "https://api.openai.com/v1/embeddings")

    assert "is never called" in message
    assert tried == []


@pytest.mark.parametrize(
    ("host", "said"),
    [("169.254.169.254", "never"), ("metadata.google.internal", "never"), ("localhost", PRIVATE)]
    + [("10.0.0.1", PRIVATE), ("[::ffff:127.0.0.1]", PRIVATE), ("x.localhost", PRIVATE)],
)
async def test_a_proxy_is_not_asked_for_what_its_name_gives_away(tried, host, said):
    async with open_provider() as proxy:
        section = OutboundSection(proxy=proxy.url)
        async with open_client(section, allow_private_networks=False) as client:
            message = await refusal(client, f"https://{host}/")

    assert said in message
    assert proxy.requests == []


async def test_an_answer_that_inflates_without_end_is_given_up():
    """50 MB of zeros in 50 KB: what counts is what they become."""
    bomb = gzip.compress(bytes(50 * 2**20))

    async def send_bomb(connection, _) -> None:
        await send_bytes(connection, bomb, headers={"Content-Encoding": "gzip"})

    async with open_provider() as provider:
        provider.always(send_bomb)
        section = OutboundSection(max_response_bytes=2**20)
        async with open_client(section, allow_private_networks=True) as client:
            with pytest.raises(UnreadableReply, match=r"is larger than \[1048576\] bytes"):
                await client.exchange(exchange_to(provider.url), whole)
