"""The credentials of endpoints show nowhere: in no answer, log line, metric or byte on disk.

They come from the declarations of the services, one test for each secret field of each task, so
that a service that is added is held to it as well. The provider quotes them whenever it can.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from inferry.domain import Endpoint, TaskType
from inferry.fields import Field
from tests.marks import traces_of
from tests.providers import run_provider
from tests.services import simulated
from tests.services.credentials import every_credential, signed_endpoint
from tests.services.offers import OFFERS, Offer
from tests.wire.conftest import Wire, new_id, run_servers
from tests.wire.echoes import echoes, said_back
from tests.wire.watched import TELLING, Watched, broken, new_marker

_NO_LIMIT = {"requests_per_minute": 10_000_000}
_TEXTS = {"input": ["a", "b"]}
_INPUTS: Mapping[TaskType, dict[str, Any]] = {
    TaskType.RERANK: {"query": "q", **_TEXTS},
    TaskType.COMPLETION: {"input": "a"},
    TaskType.CHAT_COMPLETION: {"messages": [{"role": "user", "content": "a"}]},
}


@dataclass(frozen=True)
class House:
    """Two servers: one that asks the provider before it stores an endpoint, one that does not."""

    asking: Wire
    trusting: Wire


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with run_provider() as provider:
        origins = {
            f"INFERRY_OUTBOUND__BASE_URLS__{offer.service.name.upper()}": provider.url
            for offer in OFFERS
        }
        settings = {
            **origins,
            "INFERRY_OUTBOUND__ALLOW_HOSTS": "127.0.0.1",
            "INFERRY_TELEMETRY__LOG_LEVEL": "debug",
            # Shorter than the pause before a second try.
            "INFERRY_INFERENCE__TIMEOUT": "900ms",
            "INFERRY_INFERENCE__COMPLETION_TIMEOUT": "900ms",
        }
        with run_servers(tmp_path_factory.mktemp("secrets"), provider) as start:
            asking = start(**settings)
            yield House(
                asking, start(**settings, INFERRY_INFERENCE__SKIP_VALIDATE_AND_START="true")
            )


@every_credential
def test_a_credential_never_shows(house: House, offer: Offer, field: Field) -> None:
    provider, marker = house.asking.provider, new_marker()
    provider.requests.clear()
    server = Watched(house.asking, marker)
    endpoint = signed_endpoint(offer, field, provider.url, marker=marker)
    endpoint = replace(endpoint, inference_id=new_id("secret"))
    path = f"/_inference/{endpoint.task_type}/{endpoint.inference_id}"

    refuse_to_create(server, path, endpoint, field)
    provider.always(simulated.answer)
    created = server.call("PUT", path, definition(endpoint))
    if b"is not among [outbound.allow_hosts]" in created.content:
        # Its tokens come from an address of the vendor, where no test goes.
        server = Watched(house.trusting, marker)
        created = server.call("PUT", path, definition(endpoint))
    assert created.status == 200, created.content
    use(server, path, endpoint)
    statuses = run(server, path, endpoint, streams=offer.task.decode is not None)
    update(server, path, endpoint, field)
    for query in ("?dry_run=true", "?"):
        assert server.call("DELETE", f"{path}{query}&{TELLING}").status == 200
    assert server.call("GET", f"{path}?{TELLING}").status == 404

    server.search_what_is_left()
    assert 400 in statuses
    if server.wire is house.asking:  # the provider did get what nobody else saw
        assert 200 in statuses
        received = "".join(map(said_back, provider.requests)).encode()
        assert any(trace in received for trace in traces_of(marker))


def definition(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    """Give a body of PUT."""
    settings = {**endpoint.service_settings, **endpoint.secrets, "rate_limit": _NO_LIMIT}
    return {
        "service": endpoint.service,
        "service_settings": settings,
        "task_settings": dict(endpoint.task_settings),
        **more,
    }


def refused_definitions(endpoint: Endpoint, field: Field) -> Iterator[bytes]:
    """Give bodies of PUT that are wrong, with the secret where it belongs or elsewhere."""
    name, secret = field.name, endpoint.secrets[field.name]
    whole = definition(endpoint)
    settings: dict[str, Any] = whole["service_settings"]
    for wrong in ([secret], {"key": secret}, {name: secret}, [[{name: [secret]}]]):
        yield json.dumps(definition(endpoint, service_settings={**settings, name: wrong})).encode()
    for place in ("task_settings", "chunking_settings", "rate_limit"):
        yield json.dumps(definition(endpoint, **{place: {name: secret}})).encode()
    for more in (
        {name: secret},
        {"service": "nope"},
        {"task_type": "nope"},
        {"service_settings": [settings]},
        {"service_settings": {**settings, "unknown": 1}},
        {"service_settings": {**settings, "rate_limit": {name: secret}}},
        {"service_settings": {**settings, "rate_limit": "often"}},
        {"chunking_settings": {"strategy": "nope"}},
    ):
        yield json.dumps(definition(endpoint, **more)).encode()
    yield from broken(json.dumps({"service": endpoint.service, "service_settings": settings}))


def refuse_to_create(server: Watched, path: str, endpoint: Endpoint, field: Field) -> None:
    """Try to create an endpoint in every way that fails, and show what would be."""
    provider = server.wire.provider
    for query in ("", "dry_run=true&"):
        where = f"{path}?{query}timeout=900ms&{TELLING}"
        provider.always(simulated.answer)
        for body in refused_definitions(endpoint, field):
            refused = server.call("PUT", where, raw=body)
            assert refused.status == 400, (body, refused.content)
        for fault in echoes(endpoint.service):
            provider.always(fault)
            server.call("PUT", where, definition(endpoint))
            server.call("DELETE", path)  # where the fault concerns tokens, and it takes none
    provider.always(simulated.answer)
    for odd in ("", "\n", "\0", "é"):
        secrets = {name: secret + odd for name, secret in endpoint.secrets.items()}
        changed = definition(replace(endpoint, secrets=secrets))
        server.call("PUT", f"{path}?dry_run=true&{TELLING}", changed)


def use(server: Watched, path: str, endpoint: Endpoint) -> None:
    """Show an endpoint in every form, and try to create it once more."""
    again = server.call("PUT", f"{path}?{TELLING}", definition(endpoint))
    assert again.status == 400, again.content
    lists = ["/_inference", "/_inference/_all", f"/_inference/{endpoint.task_type}/_all"]
    single = [path, f"/_inference/{endpoint.inference_id}", f"/v1/models/{endpoint.inference_id}"]
    for where in [*lists, *single, "/v1/models", "/_inference/.diagnostics"]:
        for query in ("", f"?{TELLING}", "?filter_path=**"):
            server.call("GET", where + query)


def run(server: Watched, path: str, endpoint: Endpoint, *, streams: bool) -> set[int]:
    """Run an endpoint in every dialect, at a provider that answers and at those that quote.

    Gives the statuses that came.
    """
    inputs = _INPUTS.get(endpoint.task_type, _TEXTS)
    calls = [(f"{path}?{TELLING}", inputs)]
    if streams:
        calls.append((f"{path}/_stream?{TELLING}", inputs))
    asked = {"model": endpoint.inference_id, **inputs}
    if endpoint.task_type is TaskType.TEXT_EMBEDDING:
        calls.append(("/v1/embeddings", asked))
    if endpoint.task_type is TaskType.CHAT_COMPLETION:
        calls += [("/v1/chat/completions", {**asked, "stream": flag}) for flag in (False, True)]
    statuses: set[int] = set()
    for behaviour in [simulated.answer, *echoes(endpoint.service)]:
        server.wire.provider.always(behaviour)
        statuses |= {server.call("POST", where, body).status for where, body in calls}
    return statuses


def update(server: Watched, path: str, endpoint: Endpoint, field: Field) -> None:
    """Give an endpoint a new secret, after having tried to give it wrong ones."""
    where, secret = f"{path}/_update", endpoint.secrets[field.name]
    for wrong in ([secret], {"key": secret}):
        given = {"service_settings": {field.name: wrong}}
        refused = server.call("PUT", f"{where}?{TELLING}", given)
        assert refused.status == 400, refused.content
    fresh = {"service_settings": {field.name: secret.replace("%&", "%& new")}}
    for fault in echoes(endpoint.service):
        server.wire.provider.always(fault)
        server.call("PUT", f"{where}?timeout=900ms&{TELLING}", fresh)
    server.wire.provider.always(simulated.answer)
    changed = server.call("PUT", where, fresh)
    assert changed.status == 200, changed.content
