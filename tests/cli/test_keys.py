"""`inferry keys`."""

from __future__ import annotations

PATH = "/_security/api_key"
KEY = {"id": "k1", "name": "ingest", "username": "elastic", "creation": 1767225600000}


def test_a_new_key_stands_alone_on_standard_output(inferry, server):
    server.answer("POST", PATH, {"id": "k1", "name": "ingest", "encoded": "ZW5j"})

    ran = inferry("keys", "create", "ingest", "--expires", "30d", "--url", server.url)

    assert ran.out == "ZW5j\n"
    assert "k1" in ran.err
    assert server.received[0].body == {"name": "ingest", "expiration": "30d"}


def test_a_key_can_be_limited_to_privileges(inferry, server):
    server.answer("POST", PATH, {"id": "k1", "encoded": "ZW5j"})

    inferry("keys", "create", "k", "--privilege", "monitor_inference", "--url", server.url)

    descriptors = server.received[0].body["role_descriptors"]
    assert descriptors == {"k": {"cluster": ["monitor_inference"]}}


def test_a_list_shows_keys_in_force_with_their_days(inferry, server):
    expiring = KEY | {"id": "k2", "expiration": 1767225660000}
    server.answer("GET", f"{PATH}?active_only=true", {"api_keys": [KEY, expiring]})

    ran = inferry("keys", "list", "--url", server.url)

    assert ran.out.splitlines() == [
        "k1\tingest\telastic\t2026-01-01 00:00\t",
        "k2\tingest\telastic\t2026-01-01 00:00\t2026-01-01 00:01",
    ]


def test_a_list_of_all_keys_tells_which_are_revoked(inferry, server):
    server.answer("GET", PATH, {"api_keys": [KEY | {"invalidated": True}]})

    ran = inferry("keys", "list", "--all", "--url", server.url)

    assert ran.out.endswith("\trevoked\n")


def test_keys_are_revoked_by_id(inferry, server):
    server.answer("DELETE", PATH, {"invalidated_api_keys": ["k1", "k2"]})

    ran = inferry("keys", "revoke", "k1", "k2", "--url", server.url)

    assert server.received[0].body == {"ids": ["k1", "k2"]}
    assert ran.err == "revoked k1\nrevoked k2\n"


def test_the_master_key_is_replaced(inferry, server):
    rotated = {"resealed": 3, "unreadable": ["lost"]}
    server.answer("POST", "/_inferry/master_key/_rotate", rotated)

    ran = inferry("keys", "rotate-master", "--url", server.url)

    assert ran.out == ""
    assert ran.err.splitlines() == [
        "sealed the secrets of 3 endpoints with the new key",
        "no key opens those of: lost",
    ]


def test_a_key_can_be_given_limits(inferry, server):
    server.answer("POST", PATH, {"id": "k1", "encoded": "ZW5j"})
    limits = ["--endpoint", "docs-*", "--endpoint", "chat", "--requests-per-minute", "60"]
    limits += ["--tokens-per-minute", "1000", "--tokens-per-day", "9000"]

    inferry("keys", "create", "k", *limits, "--url", server.url)

    assert server.received[0].body["metadata"] == {
        "inferry_limits": {
            "endpoints": ["docs-*", "chat"],
            "requests_per_minute": 60,
            "tokens_per_minute": 1000,
            "tokens_per_day": 9000,
        }
    }
