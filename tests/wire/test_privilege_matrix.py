"""Every route for every kind of caller: status, body, and the table in the documentation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from inferry.api.exchange import Route
from tests.wire.privilege_matrix import CALLERS, Answered, render, try_everything

ROOT = Path(__file__).parents[2]
STRANGERS = {"no credentials", "wrong password", "expired key", "revoked key"}
KNOWN = set(CALLERS) - STRANGERS
MIGHTY = {"all", "superuser"}
# Who may do actions that begin so; the first that fits counts.
ALLOWED = {
    "cluster:monitor/xpack/inference/": KNOWN - {"no privilege", "monitor_ml", "manage_ml"},
    "cluster:monitor/xpack/ml/trained_models/deployment/infer": KNOWN - {"no privilege"},
    "cluster:monitor/xpack/ml/": {*MIGHTY, "monitor", "manage", "monitor_ml", "manage_ml"},
    "cluster:admin/xpack/ml/inference/deployment/": {
        *MIGHTY,
        *("manage", "manage_ml", "manage_inference", "inference_admin"),
    },
    "cluster:admin/xpack/ml/": {*MIGHTY, "manage", "manage_ml"},
    "cluster:admin/xpack/inference/": {
        *MIGHTY,
        *("manage", "manage_inference", "inference_admin"),
    },
    "cluster:admin/xpack/security/": MIGHTY,
    "cluster:monitor/": {*MIGHTY, "monitor", "manage"},
    "cluster:admin/": {*MIGHTY, "manage"},
}
GRANTED_BY = {
    "cluster:monitor/xpack/inference/": "monitor_inference,manage_inference,monitor,manage,all",
    "cluster:admin/xpack/inference/": "manage_inference,manage,all",
    "cluster:monitor/xpack/ml/trained_models/deployment/infer": (
        "monitor_inference,manage_inference,monitor_ml,manage_ml,monitor,manage,all"
    ),
    "cluster:monitor/xpack/ml/": "monitor_ml,manage_ml,monitor,manage,all",
    "cluster:admin/xpack/ml/inference/deployment/": "manage_inference,manage_ml,manage,all",
    "cluster:admin/xpack/ml/": "manage_ml,manage,all",
    "cluster:admin/xpack/security/api_key/create": (
        "manage_own_api_key,manage_api_key,manage_security,all"
    ),
    "cluster:admin/xpack/security/api_key/get": (
        "manage_own_api_key,read_security,manage_api_key,manage_security,all"
    ),
    "cluster:admin/xpack/security/api_key/invalidate": (
        "manage_own_api_key,manage_api_key,manage_security,all"
    ),
    "cluster:admin/xpack/security/user/get": "read_security,manage_security,all",
    "cluster:admin/xpack/security/role/get": "read_security,manage_security,all",
    "cluster:admin/xpack/security/privilege/builtin/get": "read_security,manage_security,all",
    "cluster:admin/xpack/security/": "manage_security,all",
    "cluster:monitor/": "monitor,manage,all",
    "cluster:admin/": "manage,all",
}
CHANGE_PASSWORD = "cluster:admin/xpack/security/user/change_password"
OTHERS_PASSWORD = "/_security/user/{username}/_password"
OWN_PASSWORD = "/_security/user/_password"


@pytest.fixture(scope="module")
def answers() -> list[Answered]:
    return asyncio.run(try_everything())


def action_for(route: Route, caller: str) -> str | None:
    """Name the action that a caller needs; passwords are asked about behind the gate."""
    if route.path == OTHERS_PASSWORD or (route.path == OWN_PASSWORD and caller.endswith("key")):
        return CHANGE_PASSWORD
    return route.action


def first_of(table: dict[str, Any], action: str) -> Any:
    return next(found for prefix, found in table.items() if action.startswith(prefix))


def is_allowed(route: Route, caller: str) -> bool:
    action = action_for(route, caller)
    allowed: set[str] = KNOWN if action is None else first_of(ALLOWED, action)
    return caller in allowed


@pytest.mark.parametrize("caller", CALLERS)
def test_a_caller_gets_through_where_its_privileges_allow_and_nowhere_else(answers, caller):
    for one in answers:
        if one.caller.name != caller:
            continue
        if one.route.is_open or is_allowed(one.route, caller):
            expected = {*range(200, 600)} - {401, 403}
        else:
            expected = {401 if caller in STRANGERS else 403}
        assert one.status in expected, (one.route.method, one.uri, one.body)


def test_nobody_causes_a_failure_of_the_server(answers):
    assert [one for one in answers if one.status >= 500] == []


def test_a_stranger_is_told_in_the_words_of_the_wire(answers):
    for one in answers:
        if one.status != 401:
            continue
        words = {
            "no credentials": f"missing authentication credentials for REST request [{one.uri}]",
            "wrong password": (
                f"unable to authenticate user [somebody-else] for REST request [{one.uri}]"
            ),
        }.get(
            one.caller.name,
            "unable to authenticate with provided credentials and anonymous access is not allowed "
            "for this request",
        )
        assert words in one.body


def test_who_may_not_is_told_who_may_in_the_words_of_the_wire(answers):
    for one in answers:
        if one.status != 403:
            continue
        action = action_for(one.route, one.caller.name)
        assert action is not None
        words = (
            f"action [{action}] is unauthorized for {one.caller.who}, this action is granted by "
            f"the cluster privileges [{first_of(GRANTED_BY, action)}]"
        )
        assert words in one.body


def test_a_route_of_inference_needs_the_privilege_of_its_method(answers):
    for one in answers:
        if one.route.path.startswith("/_inference") and one.route.path != "/_inference/_ccm":
            kind = "monitor" if one.route.method in ("GET", "POST") else "admin"
            assert str(one.route.action).startswith(f"cluster:{kind}/xpack/inference/")


def test_what_needs_no_privilege_is_little(answers):
    free = {one.route.path for one in answers if one.route.action is None}
    openly = {one.route.path for one in answers if one.route.is_open}

    assert {path for path in openly if not path.startswith("/docs")} == {"/health", "/ready"}
    assert free - openly == {
        "/",
        "/_inference/_ccm",
        "/_security/_authenticate",
        "/_security/user/_has_privileges",
        OWN_PASSWORD,
        OTHERS_PASSWORD,
    }


def test_the_table_in_the_documentation_is_fresh(answers):
    page = ROOT / "docs/privileges.md"

    assert page.read_text() == render(answers), "say `make docs`"
