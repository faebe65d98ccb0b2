"""`inferry users`."""

from __future__ import annotations

import io

import pytest


@pytest.fixture
def stdin(monkeypatch):
    """Put a password on standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret!\n"))


def test_users_are_listed(inferry, server):
    user = {"roles": ["inference_user", "monitor"], "enabled": True}
    server.answer("GET", "/_security/user", {"bob": user})

    ran = inferry("users", "list", "--url", server.url)

    assert ran.out == "bob\tinference_user, monitor\tenabled\n"


def test_a_user_gets_a_password_and_roles(inferry, server, stdin):
    server.answer("PUT", "/_security/user/bob", {"created": True})

    ran = inferry(
        "users", "put", "bob", "--role", "inference_user", "--password-stdin", "--url", server.url
    )

    assert server.received[0].body == {"roles": ["inference_user"], "password": "s3cret!"}
    assert ran.err == "created bob\n"


def test_roles_change_without_the_password(inferry, server):
    server.answer("PUT", "/_security/user/bob", {"created": False})

    ran = inferry("users", "put", "bob", "--keep-password", "--url", server.url)

    assert server.received[0].body == {"roles": []}
    assert ran.err == "changed bob\n"


def test_a_password_is_changed(inferry, server, stdin):
    server.answer("PUT", "/_security/user/bob/_password", {})

    ran = inferry("users", "password", "bob", "--password-stdin", "--url", server.url)

    assert server.received[0].body == {"password": "s3cret!"}
    assert ran.exit_code == 0


def test_without_a_terminal_a_password_must_come_from_standard_input(inferry, stdin):
    assert inferry("users", "password", "bob").exit_code == 2


def test_on_a_terminal_the_password_is_asked_for_twice(inferry, server, monkeypatch):
    answers = iter(["one", "two"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: next(answers))

    ran = inferry("users", "password", "bob", "--url", server.url)

    assert ran.exit_code == 2
    assert "differ" in ran.err
    assert server.received == []


def test_a_user_is_deleted(inferry, server):
    server.answer("DELETE", "/_security/user/bob", {"found": True})

    assert inferry("users", "delete", "bob", "--url", server.url).err == "deleted bob\n"


def test_a_user_that_is_not_there_is_named(inferry, server):
    server.answer("DELETE", "/_security/user/bob", {"found": False}, status=404)

    ran = inferry("users", "delete", "bob", "--url", server.url)

    assert ran.exit_code == 3
    assert ran.err == "inferry: there is no user [bob]\n"
