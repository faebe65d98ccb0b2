"""Calls to a provider: what is sent, what comes back, and who may be called."""

from __future__ import annotations

import gzip
import json
import math
import socket
import ssl
from collections.abc import Generator

import pytest

from inferry.calls import Credential, Event, HttpCall, HttpReply
from inferry.domain import Deadline, Endpoint, TaskType
from inferry.egress import EgressRules
from inferry.errors import BadRequest, Retry, UpstreamError, UpstreamUnreachable
from inferry.outbound.client import open_client
from inferry.outbound.resolver import AddressRefused, CheckingResolver, open_socket
from inferry.protocols import Exchange
from inferry.sections import OutboundSection
from tests.certificates import Certificate, make_certificate
from tests.providers import (
    Connection,
    Received,
    answer,
    open_provider,
    refuse,
    send_bytes,
    send_events,
    unused_port,
    vector_of,
)

ENDPOINT = Endpoint(
    "endpoint-1",
    TaskType.TEXT_EMBEDDING,
    "openai",
    {},
    secrets={"api_key": "sk-marker", "client_secret": "hush"},
)


def exchange_to(url, *, auth=None, timeout_s=30.0, **call) -> Exchange:
    body = call.pop("body", b'{"input": ["a"]}')
    http_call = HttpCall("POST", url, {"Content-Type": "application/json", **call}, body)
    return Exchange(http_call, ENDPOINT, auth, Deadline.after(timeout_s, "30s", "endpoint-1"))


def whole(reply: HttpReply) -> HttpReply:
    return reply


@pytest.fixture
def certificate(tmp_path) -> Certificate:
    return make_certificate(tmp_path)


async def test_a_call_is_sent_as_it_was_built_and_the_reply_read(client, provider) -> None:
    exchange = exchange_to(f"{provider.url}/v1/embeddings?a=b%20c", **{"X-Team": "search"})

    reply = await client.exchange(exchange, whole)

    (received,) = provider.requests
    assert (received.method, received.path) == ("POST", "/v1/embeddings?a=b%20c")
    assert received.json == {"input": ["a"]}
    assert received.headers["x-team"] == "search"
    assert received.headers["accept-encoding"] == "gzip"
    assert "cookie" not in received.headers
    assert reply.status == 200
    assert reply.headers.get("content-type") == "application/json"
    assert json.loads(reply.body)["data"][0]["embedding"] == vector_of("a")
    assert reply.url == f"{provider.url}/v1/embeddings?a=b%20c"


async def test_connections_are_used_again(client, provider) -> None:
    for _ in range(3):
        await client.exchange(exchange_to(f"{provider.url}/v1/embeddings"), whole)

    assert provider.open_connections == 1


async def test_a_gzipped_reply_is_inflated(client, provider) -> None:
    async def send_gzip(connection, _):
        await send_bytes(
            connection, gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"}
        )

    provider.then(send_gzip)

    reply = await client.exchange(exchange_to(provider.url), whole)

    assert reply.body == b'{"a": 1}'


async def test_cookies_are_not_kept(client, provider) -> None:
    async def send_cookie(connection, _):
        await send_bytes(connection, b"{}", headers={"Set-Cookie": "a=b"})

    provider.always(send_cookie)

    for _ in range(2):
        await client.exchange(exchange_to(provider.url), whole)

    assert all("cookie" not in received.headers for received in provider.requests)


async def test_a_constant_key_signs_every_call(client, provider) -> None:
    def key(call, endpoint, now) -> Generator[HttpCall, HttpReply, Credential]:
        yield from ()
        return Credential({"api-key": endpoint.secrets["api_key"]}, math.inf)

    for _ in range(2):
        await client.exchange(exchange_to(f"{provider.url}/v1/embeddings", auth=key), whole)

    assert [one.headers["api-key"] for one in provider.requests] == ["sk-marker", "sk-marker"]


def token_auth(url):
    """Fetch a token by one call, as OAuth2 does."""

    def auth(call, endpoint, now) -> Generator[HttpCall, HttpReply, Credential]:
        reply = yield HttpCall("POST", f"{url}/token", {}, b"grant_type=client_credentials")
        token = json.loads(reply.body)
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        return Credential(headers, now + token["expires_in"])

    return auth


async def test_a_refused_token_is_fetched_anew_and_the_call_sent_once_more(
    client, provider, clock
) -> None:
    exchange = exchange_to(f"{provider.url}/v1/embeddings", auth=token_auth(provider.url))
    await client.exchange(exchange, whole)
    provider.then(refuse(401))

    reply = await client.exchange(exchange, whole)

    assert reply.status == 200
    paths = [received.path for received in provider.requests]
    assert paths == ["/token"] + ["/v1/embeddings"] * 2 + ["/token", "/v1/embeddings"]
    assert clock.slept == []


async def test_a_token_that_is_refused_twice_is_the_providers_last_word(client, provider) -> None:
    exchange = exchange_to(f"{provider.url}/v1/embeddings", auth=token_auth(provider.url))
    await client.exchange(exchange, whole)
    provider.then(refuse(401), answer, refuse(401))

    reply = await client.exchange(exchange, whole)

    assert reply.status == 401
    assert len(provider.requests) == 5


async def test_an_invalid_header_is_a_bad_request_that_does_not_show_it(client, provider) -> None:
    with pytest.raises(BadRequest, match="invalid header") as caught:
        await client.exchange(exchange_to(provider.url, **{"X-A": "a\r\nInjected: b"}), whole)

    assert "Injected" not in str(caught.value)
    assert provider.requests == []


async def test_a_forbidden_url_is_refused_before_anything_is_sent(provider) -> None:
    section = OutboundSection()

    async with open_client(section, allow_private_networks=False) as client:
        with pytest.raises(BadRequest, match="allow_private_networks"):
            await client.exchange(exchange_to(provider.url), whole)

    assert provider.open_connections == 0


async def test_a_name_that_resolves_to_a_forbidden_address_is_not_connected_to(provider) -> None:
    section = OutboundSection()
    url = provider.url.replace("http://127.0.0.1", "https://localhost")

    async with open_client(section, allow_private_networks=False) as client:
        with pytest.raises(BadRequest, match=r"\[localhost\] cannot be called.*private address"):
            await client.exchange(exchange_to(url), whole)

    assert provider.open_connections == 0


async def test_a_name_of_this_machine_can_be_called_where_that_is_allowed(client, provider) -> None:
    url = provider.url.replace("127.0.0.1", "localhost")

    reply = await client.exchange(exchange_to(f"{url}/v1/embeddings"), whole)

    assert reply.status == 200


async def test_the_resolver_gives_only_addresses_that_may_be_connected_to(monkeypatch) -> None:
    resolver = CheckingResolver(EgressRules(allow_private_networks=False), is_plain=False)

    async def resolve(host, port, family):
        return [{"host": address} for address in ("10.0.0.1", "8.8.8.8", "169.254.169.254")]

    monkeypatch.setattr(resolver._resolver, "resolve", resolve)

    found = await resolver.resolve("rebound.test")

    assert [one["host"] for one in found] == ["8.8.8.8"]


def test_the_socket_is_the_last_check() -> None:
    rules = EgressRules(allow_private_networks=False)
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("169.254.169.254", 80))

    with pytest.raises(AddressRefused):
        open_socket(info, rules, is_plain=False)


async def test_a_refused_connection_is_tried_three_times_and_named(client, clock) -> None:
    port = unused_port()

    with pytest.raises(UpstreamUnreachable) as caught:
        await client.exchange(exchange_to(f"http://127.0.0.1:{port}/secret-path"), whole)

    assert str(caught.value) == f"Failed to send request to [127.0.0.1:{port}]"
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert len(clock.slept) == 2


async def test_an_unknown_host_is_final(client, clock, monkeypatch) -> None:
    async def resolve(host, port, family):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(client._sessions["https"].connector._resolver._resolver, "resolve", resolve)

    with pytest.raises(UpstreamUnreachable, match=r"Failed to send request to \[nowhere.invalid\]"):
        await client.exchange(exchange_to("https://nowhere.invalid/"), whole)

    assert clock.slept == []


async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(clock, certificate) -> None:
    async with open_provider(tls=certificate.context) as provider:
        section = OutboundSection()

        async with open_client(section, allow_private_networks=True, clock=clock) as client:
            with pytest.raises(UpstreamUnreachable) as caught:
                await client.exchange(exchange_to(provider.url), whole)

    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert provider.requests == []
    assert clock.slept == []


async def test_a_certificate_of_an_authority_of_the_operators_is_accepted(
    clock, certificate
) -> None:
    async with open_provider(tls=certificate.context) as provider:
        section = OutboundSection(ca_file=str(certificate.file))

        async with open_client(section, allow_private_networks=True, clock=clock) as client:
            reply = await client.exchange(exchange_to(f"{provider.url}/v1/embeddings"), whole)

    assert reply.status == 200


async def test_a_handshake_that_never_ends_is_given_up(hasty_client, provider, clock) -> None:
    url = provider.url.replace("http:", "https:")  # it waits for the end of a line

    with pytest.raises(UpstreamUnreachable):
        await hasty_client.exchange(exchange_to(url), whole)

    assert len(clock.slept) == 2


async def test_calls_go_through_a_proxy_if_there_is_one(provider) -> None:
    section = OutboundSection(proxy=provider.url)

    async with open_client(section, allow_private_networks=True) as client:
        await client.exchange(exchange_to("http://model.internal/v1/embeddings"), whole)

    assert provider.requests[0].path == "http://model.internal/v1/embeddings"


async def test_a_stream_gives_the_providers_events(client, provider) -> None:
    body = json.dumps({"stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    exchange = exchange_to(f"{provider.url}/v1/chat/completions", body=body)

    async with client.stream(exchange, framing="sse", refuse=no_refusal) as stream:
        events = [event async for together in stream.events() for event in together]

    assert events[-1] == Event("[DONE]")
    assert json.loads(events[0].data)["choices"][0]["delta"]["role"] == "assistant"


async def test_a_stream_that_has_ended_leaves_its_connection_for_the_next(client, provider) -> None:
    ports = set()

    async def note_port(connection: Connection, _: Received) -> None:
        ports.add(connection.writer.get_extra_info("peername")[1])
        await send_events(connection, ["a", "[DONE]"])

    provider.always(note_port)

    for _ in range(3):
        exchange = exchange_to(f"{provider.url}/v1/chat/completions")
        async with client.stream(exchange, framing="sse", refuse=no_refusal) as stream:
            await anext(stream.events())  # whoever knows that it is the last reads no further

    assert len(ports) == 1


def no_refusal(reply: HttpReply) -> Exception:
    return UpstreamError(f"refused {reply.status}", upstream_status=reply.status, retry=Retry.NO)


async def test_a_refused_stream_raises_what_the_reply_means(client, provider) -> None:
    provider.then(refuse(400))

    with pytest.raises(UpstreamError, match="refused 400"):
        async with client.stream(exchange_to(provider.url), framing="sse", refuse=no_refusal):
            pytest.fail("it must not open")
