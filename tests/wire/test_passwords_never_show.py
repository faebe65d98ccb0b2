"""Passwords and API keys show nowhere, but for the one answer that gives a new key."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.server import basic
from tests.wire.conftest import Wire, new_id
from tests.wire.watched import TELLING, Watched, broken, new_marker

PRIVILEGES = {"cluster": ["manage_security"]}


@pytest.fixture
def wire(tuned) -> Wire:
    """Start a server that logs all it can."""
    started: Wire = tuned(INFERRY_TELEMETRY__LOG_LEVEL="debug")
    return started


def send_with(server: Watched, *credentials: str) -> list[int]:
    """Call as whoever comes with each of `credentials`, in both dialects, and give the statuses."""
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"/_security/_authenticate?{TELLING}", None),
        ("POST", "/_security/user/_has_privileges", PRIVILEGES),
        ("GET", "/_inference/_all", None),
        ("GET", "/v1/models", None),
        ("GET", "/no/such/path", None),
        ("DELETE", f"/_security/user/nobody?{TELLING}", None),
        ("PATCH", "/_inference", None),
    ]
    return [
        server.call(method, path, body, headers={"Authorization": credential}).status
        for credential in credentials
        for method, path, body in calls
    ]


def test_a_password_never_shows(wire):
    marker, name = new_marker(), new_id("user")
    password = f'p"/+ {marker} %&ä'
    path = f"/_security/user/{name}"
    server = Watched(wire, marker)

    for where in (path, f"{path}/_password", "/_security/user/_password"):
        refuse_password(server, f"{where}?{TELLING}", password)
    created = server.call("PUT", path, {"password": password, "roles": ["monitor"]})
    assert created.status == 200, created.content
    assert 200 in send_with(server, basic(name, password))
    # Wrong, half, or told in another scheme.
    others = [basic(name, f"{password}x"), basic("nobody", password), basic(name, password)[:-9]]
    others += [f"{scheme} {basic(name, password)[6:]}" for scheme in ("ApiKey", "Bearer", "basic ")]
    others += [f"{scheme} {marker}" for scheme in ("Basic", "ApiKey", "Bearer", "Digest", "")]
    send_with(server, *others)
    for call in ("", "/_disable", "/_enable", "/_password"):
        body = {"password": f"{password} again"} if call in ("", "/_password") else None
        roles = {"roles": ["superuser"]} if call == "" else {}
        changed = server.call("PUT", f"{path}{call}?{TELLING}", body and {**body, **roles})
        assert changed.status == 200, changed.content
    for shown in (path, "/_security/user", "/_security/user?with_profile_uid=true"):
        server.call("GET", shown)
    own = {"Authorization": basic(name, f"{password} again")}
    changed = server.call("POST", "/_security/user/_password", {"password": password}, headers=own)
    assert changed.status == 200, changed.content
    assert server.call("DELETE", f"{path}?{TELLING}").status == 200
    send_with(server, basic(name, password))

    server.search_what_is_left()


def refuse_password(server: Watched, path: str, password: str) -> None:
    """Send a password in every way that is refused."""
    good = {"password": password}
    for body in (
        {"password": [password]},
        {"password": {"password": password}},
        {"password": password, "password_hash": password},
        {"password_hash": password},
        {"password": password, "unknown": 1},
        {"password": password, "roles": "nobody", "username": "somebody-else"},
        {"password": password, "metadata": {"_reserved": 1}, "enabled": "perhaps"},
        {"passwd": {"password": password}},
    ):
        refused = server.call("PUT", path, body)
        assert refused.status >= 400, (body, refused.content)
    for raw in broken(json.dumps(good)):
        assert server.call("PUT", path, raw=raw).status == 400, raw


def test_an_api_key_shows_only_in_the_answer_that_gives_it(wire):
    body = {"name": "k", "role_descriptors": {"r": {"cluster": ["manage_own_api_key", "monitor"]}}}
    made = wire.put("/_security/api_key?pretty", body)
    assert made.status == 200, made.content
    key, path = made.json, "/_security/api_key"
    server = Watched(wire, key["api_key"])
    by_key = {"Authorization": f"ApiKey {key['encoded']}"}

    assert 200 in send_with(server, f"ApiKey {key['encoded']}", f"Bearer {key['encoded']}")
    longer = base64.b64encode(f"{key['id']}:{key['api_key']}x".encode()).decode()
    unknown = base64.b64encode(f"{'x' * 20}:{key['api_key']}".encode()).decode()
    for encoded in (longer, unknown, key["encoded"][:-5], key["api_key"]):
        send_with(server, *(f"{scheme} {encoded}" for scheme in ("ApiKey", "Bearer", "Basic")))
    for query in ("", f"?{TELLING}", f"?id={key['id']}&with_limited_by=true", "?owner=true"):
        assert server.call("GET", f"{path}{query}").status == 200
        server.call("GET", f"{path}{query}", headers=by_key)
    server.call("POST", path, {"name": "derived"}, headers=by_key)
    ended = server.call("DELETE", f"{path}?{TELLING}", {"ids": [key["id"]]}, headers=by_key)
    assert ended.status == 200, ended.content
    assert 401 in send_with(server, by_key["Authorization"])

    server.search_what_is_left()
