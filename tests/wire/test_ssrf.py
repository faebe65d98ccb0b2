"""Whoever may create endpoints cannot have a real server call what it must not.

Every address and trick of `tests.addresses` as the `url` of an endpoint, at a server whose operator
has not opened his networks, and at one who has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.addresses import NEVER, NO_HTTP, OF_THE_NETWORK, UNREADABLE
from tests.providers import refuse, run_provider
from tests.server import Server, openai_endpoint, run_server
from tests.services.credentials import CREDENTIALS, signed_endpoint
from tests.wire.conftest import new_id
from tests.wire.test_secrets_never_show import definition

pytestmark = pytest.mark.server

METADATA = "https://169.254.169.254"
SETTING = "[outbound.allow_private_networks] is not set"


@pytest.fixture(scope="module")
def closed(tmp_path_factory) -> Iterator[Server]:
    """Run a server as on a network: its operator has not opened anything."""
    settings = {"INFERRY_OUTBOUND__ALLOW_PRIVATE_NETWORKS": "false"}
    with run_server(tmp_path_factory.mktemp("closed") / "data", environment=settings) as server:
        yield server


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Iterator[Server]:
    """Run a server that may call its own network."""
    settings = {"INFERRY_OUTBOUND__ALLOW_PRIVATE_NETWORKS": "true"}
    with run_server(tmp_path_factory.mktemp("opened") / "data", environment=settings) as server:
        yield server


def refusal(server: Server, url: str, **settings: Any) -> str:
    """Try to create an endpoint, which has to be refused, and give all that is said."""
    inference_id = new_id("ssrf")
    body = openai_endpoint("", url=url, **settings)

    reply = server.call("PUT", f"/_inference/text_embedding/{inference_id}", body)

    assert reply.status == 400, (url, reply.content)
    assert server.call("GET", f"/_inference/{inference_id}").status == 404
    return json.dumps(reply.json, ensure_ascii=False)


def test_there_are_many_ways_to_try():
    assert len({*OF_THE_NETWORK, *NEVER, *UNREADABLE, *NO_HTTP}) >= 140


def test_an_endpoint_of_the_network_needs_the_setting_that_is_named(closed):
    for host in OF_THE_NETWORK:
        for scheme in ("https", "http"):
            assert SETTING in refusal(closed, f"{scheme}://{host}/v1"), host


def test_an_endpoint_at_an_address_that_is_never_called_names_no_setting(closed, opened):
    for host in NEVER:
        for server in (closed, opened):
            said = refusal(server, f"https://{host}/v1")
            assert "is never called" in said, host
            assert "[outbound." not in said, host


def test_an_endpoint_with_a_url_that_two_parsers_may_read_differently_is_refused(closed, opened):
    for url in [*(f"https://{host}/v1" for host in UNREADABLE), *NO_HTTP]:
        for server in (closed, opened):
            said = refusal(server, url)
            assert "[outbound." not in said, url
            assert "hunter2" not in said, url


def test_plain_http_is_for_the_own_network(closed, opened):
    assert "[outbound.allow_private_networks]" in refusal(closed, "http://api.example.org/v1")
    assert "use https" in refusal(opened, "http://8.8.8.8/v1")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_provider_leads_nowhere(opened, status):
    with run_provider() as victim, run_provider() as provider:
        provider.always(refuse(status, headers={"Location": f"{victim.url}/secret"}))

        refusal(opened, f"{provider.url}/v1/embeddings")

        assert provider.requests
        assert not victim.requests


def addressed() -> Iterator[Any]:
    """Give each credential of each task whose endpoint can name an address, tokens' included."""
    for offer, field in CREDENTIALS:
        endpoint = signed_endpoint(offer, field, METADATA, marker="marker")
        if METADATA in json.dumps(definition(endpoint)):
            yield pytest.param(endpoint, id=f"{offer}-{field.name}")


@pytest.mark.parametrize("endpoint", [*addressed()])
def test_no_setting_of_any_service_is_a_way_around(opened, endpoint):
    path = f"/_inference/{endpoint.task_type}/{new_id('ssrf')}"

    reply = opened.call("PUT", path, definition(endpoint))

    assert reply.status == 400
    assert b"Host [169.254.169.254] is never called" in reply.content


def test_a_token_is_fetched_through_the_same_gate(opened):
    """The provider could be called, but not the place where its token comes from."""
    oauth = {"client_id": "id", "client_secret": "marker", "scopes": ["a"]}
    with run_provider() as provider:
        url = f"{provider.url}/v1/embeddings"
        body = openai_endpoint("", url=url, token_url=f"{METADATA}/token", **oauth)
        del body["service_settings"]["api_key"]

        reply = opened.call("PUT", f"/_inference/text_embedding/{new_id('ssrf')}", body)

        assert reply.status == 400
        assert b"Host [169.254.169.254] is never called" in reply.content
        assert not provider.requests


def test_a_hub_of_the_network_needs_the_setting_that_is_named(tmp_path_factory):
    settings = {
        "INFERRY_OUTBOUND__ALLOW_PRIVATE_NETWORKS": "false",
        "INFERRY_MODELS__HUB_URL": "https://10.0.0.1",
    }
    body = {
        "service": "elasticsearch",
        "service_settings": {"model_id": "org/tiny", "num_allocations": 1, "num_threads": 1},
    }
    folder = tmp_path_factory.mktemp("hub") / "data"
    with run_server(folder, environment=settings) as server:
        reply = server.call("PUT", "/_inference/text_embedding/tiny", body)

    assert reply.status == 400
    assert SETTING in json.dumps(reply.json)


def test_a_package_repository_goes_through_the_same_gate(tmp_path_factory):
    """Neither an address of the network, nor one that is never called, whoever names the model."""
    folder = tmp_path_factory.mktemp("repository")
    for place, said in (
        ("https://10.0.0.1/models", SETTING),
        ("https://169.254.169.254/models", "is never called"),
        ("http://packages.example.org/models", "cannot be called by plain http"),
    ):
        settings = {
            "INFERRY_OUTBOUND__ALLOW_PRIVATE_NETWORKS": "false",
            "INFERRY_MODELS__REPOSITORY": place,
        }
        elser = {"service": "elser", "service_settings": {"num_allocations": 1, "num_threads": 1}}
        with run_server(folder / "data", environment=settings) as server:
            model = server.call("PUT", "/_ml/trained_models/.elser_model_2", {})
            endpoint = server.call("PUT", "/_inference/sparse_embedding/mine", elser)

        for reply in (model, endpoint):
            assert reply.status == 400
            assert said in json.dumps(reply.json)
