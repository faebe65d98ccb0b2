"""The logs of a whole server: who was refused, who changed what, and what each request became."""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest

from tests.providers import Received, send_json
from tests.server import Server, basic, openai_endpoint

pytestmark = pytest.mark.server

MARKER = "marker-secret-5be2d7"


def lines_of(server: Server) -> list[dict[str, Any]]:
    """Read the audit log."""
    return [json.loads(line) for line in (server.data_dir / "audit.log").read_text().splitlines()]


def requests_of(server: Server) -> list[dict[str, Any]]:
    """Read the lines of requests in the server's log."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line[:1] == "{"]
    return [line for line in lines if line["event"] == "request"]


def test_changes_and_refusals_are_in_the_audit_log_of_the_host(serve, provider):
    server = serve(
        "--workers", "2", auth=True, environment={"INFERRY_SERVER__TRUSTED_PROXIES": "127.0.0.1"}
    )
    one, other = server.connections(each=1)
    endpoint = openai_endpoint(provider.url, api_key=MARKER)
    told = {"X-Forwarded-For": "203.0.113.7"}

    assert one.call("PUT", "/_inference/text_embedding/a", endpoint, **told).status == 200
    assert other.call("PUT", "/_inference/text_embedding/a", endpoint).status == 400
    assert other.call("DELETE", "/_inference/a").status == 200
    key = other.call("POST", "/_security/api_key", {"name": "k"}).json
    assert one.call("PUT", "/_security/role/r", {"cluster": []}).status == 200
    user = {"roles": ["r"], "password": MARKER}
    assert one.call("PUT", "/_security/user/bob", user).status == 200
    changed = {"password": MARKER + "2"}
    bob = basic("bob", MARKER)
    assert one.call("PUT", "/_security/user/_password", changed, Authorization=bob).status == 200

    assert [
        (line["user"], line["command"], line["target"], line["outcome"])
        for line in lines_of(server)
    ] == [
        ("elastic", "put_endpoint", {"inference_id": "a"}, "success"),
        ("elastic", "put_endpoint", {"inference_id": "a"}, "failure"),
        ("elastic", "delete_endpoint", {"inference_id": "a"}, "success"),
        ("elastic", "create_api_key", {"name": "k", "api_key_id": key["id"]}, "success"),
        ("elastic", "put_role", {"name": "r"}, "success"),
        ("elastic", "put_user", {"username": "bob", "roles": ["r"]}, "success"),
        ("bob", "set_password", {"username": "bob"}, "success"),
    ]
    assert [line["address"] for line in lines_of(server)[:2]] == ["203.0.113.7", "127.0.0.1"]

    encoded = f"ApiKey {key['encoded']}"
    assert one.call("GET", "/?q=" + MARKER, Authorization=basic("eve", MARKER)).status == 401
    assert other.call("GET", "/", Authorization="ApiKey bm9ib2R5OnNlY3JldA==").status == 401
    assert other.call("DELETE", "/_security/api_key", {"ids": [key["id"]]}).status == 200
    assert one.call("GET", "/", Authorization=encoded).status == 401
    bob = basic("bob", MARKER + "2")
    assert one.call("GET", "/_inference/a", Authorization=bob).status == 403
    server.wait_until(lambda: len(lines_of(server)) == 12)

    refused = [line for line in lines_of(server) if line["outcome"] == "denied"]
    assert {(line.get("user"), line["event"], line.get("reason")) for line in refused} == {
        ("eve", "authentication_failed", "wrong user or password"),
        (None, "authentication_failed", "unknown API key"),
        ("elastic", "authentication_failed", "an API key that has ended"),
        ("bob", "access_denied", None),
    }
    file = server.data_dir / "audit.log"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert MARKER not in file.read_text()


def test_refusals_are_written_before_the_server_ends(serve):
    server = serve(auth=True)
    for _ in range(5):
        server.call("GET", "/", Authorization=basic("eve", "a wrong one"))

    assert server.stop() == 0

    assert [line["user"] for line in lines_of(server)] == ["eve"] * 5


def test_without_authentication_changes_are_audited_too(serve, provider):
    server = serve()

    server.call("PUT", "/_inference/text_embedding/a", openai_endpoint(provider.url))

    assert [(line["user"], line["command"]) for line in lines_of(server)] == [
        ("_anonymous", "put_endpoint")
    ]


def test_the_audit_log_can_be_switched_off_or_kept_elsewhere(serve, tmp_path):
    elsewhere = tmp_path / "elsewhere.log"
    settings = {"INFERRY_AUDIT__PATH": str(elsewhere)}
    server = serve(auth=True, environment=settings)
    server.call("PUT", "/_security/role/r", {"cluster": []})
    server.stop()
    assert "put_role" in elsewhere.read_text()
    assert not (server.data_dir / "audit.log").exists()

    server = serve(auth=True, environment={"INFERRY_AUDIT__ENABLED": "false"})
    server.call("PUT", "/_security/role/r", {"cluster": []})
    assert not (server.data_dir / "audit.log").exists()


def test_a_request_that_a_provider_failed_is_logged_with_the_true_status(serve, provider):
    server = serve()
    server.call("PUT", "/_inference/text_embedding/a", openai_endpoint(provider.url))

    async def down(connection, received: Received) -> None:
        await send_json(connection, {"error": {"message": "down"}}, status=500)

    provider.always(down)
    reply = server.call("POST", "/_inference/a?timeout=100ms", {"input": MARKER})
    body = {"model": "a", "input": MARKER}
    server.call("POST", "/v1/embeddings", body, **{"X-Request-Id": "mine"})
    server.wait_until(lambda: len(requests_of(server)) == 3)

    assert reply.status == 400
    run, dialect = requests_of(server)[1:]
    assert (run["route"], run["status"], run["inference_id"], run["upstream_status"]) == (
        "/_inference/{inference_id}",
        400,
        "a",
        500,
    )
    assert run["request_id"] == reply.headers["x-request-id"]
    assert (dialect["inference_id"], dialect["request_id"]) == ("a", "mine")
    assert dialect["upstream_status"] == 500
    assert MARKER not in server.log.read_text()
