"""The catalogue of services and the region policy: rows 172-181."""

from __future__ import annotations

import re

import pytest

POLICY = "/_inference/_region_policy"
GEOS = {"region_policy": {"allowed_geos": ["eu"]}}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def no_policy(wire):
    wire.delete(POLICY)
    yield
    wire.delete(POLICY)


def test_row_172_services_are_a_bare_sorted_array(wire):
    services = wire.get("/_inference/_services").json

    names = [one["service"] for one in services]
    assert names == sorted(names, key=str.lower)
    assert {"elasticsearch", "openai"} <= set(names)
    for one in services:
        assert list(one) == ["service", "name", "task_types", "configurations"]


def test_row_173_services_can_be_limited_to_a_type(wire):
    services = wire.get("/_inference/_services/rerank").json

    assert services
    assert all("rerank" in one["task_types"] for one in services)


def test_row_174_an_unknown_type_is_refused(wire):
    reply = wire.get("/_inference/_services/foo")

    wire.refused(400, "status_exception", "Unknown task_type [foo]", reply)


def test_row_175_keys_are_marked_as_sensitive(wire):
    [openai] = [one for one in wire.get("/_inference/_services").json if one["service"] == "openai"]

    assert openai["configurations"]["api_key"]["sensitive"] is True


@pytest.mark.usefixtures("no_policy")
def test_row_176_without_a_policy_there_is_nothing_to_read(wire):
    reply = wire.get(POLICY)

    text = "No region policy is configured for this deployment"
    wire.refused(404, "resource_not_found_exception", text, reply)


@pytest.mark.usefixtures("no_policy")
def test_row_177_a_policy_is_stored_with_its_author(wire):
    reply = wire.put(POLICY, GEOS)

    assert reply.status == 200
    assert list(reply.json) == ["region_policy", "created_at", "created_by"]
    assert TIME.fullmatch(reply.json["created_at"])
    assert reply.json["created_by"] == "elastic"
    assert wire.get(POLICY).json == reply.json


@pytest.mark.usefixtures("no_policy")
def test_row_178_a_later_policy_keeps_who_made_the_first(wire):
    first = wire.put(POLICY, GEOS).json

    second = wire.put(POLICY, {"region_policy": {"allowed_geos": ["us"]}}).json

    assert second["created_at"] == first["created_at"]
    assert second["updated_by"] == "elastic"
    assert TIME.fullmatch(second["updated_at"])


@pytest.mark.usefixtures("no_policy")
def test_row_179_a_policy_has_one_list(wire):
    regions = [{"csp": "aws", "region": "eu-west-1"}]
    both = {"region_policy": {"allowed_geos": ["eu"], "allowed_regions": regions}}

    reply = wire.put(POLICY, both)

    text = "The following fields are not allowed together: [allowed_geos, allowed_regions]"
    assert reply.status == 400
    assert text in reply.json["error"]["reason"]


def test_row_180_a_policy_needs_a_body(wire):
    reply = wire.put(POLICY)

    wire.refused(400, "parse_exception", "body is required", reply)


@pytest.mark.usefixtures("no_policy")
def test_row_181_a_policy_can_be_removed_once(wire):
    wire.put(POLICY, GEOS)

    assert wire.delete(POLICY).content == b'{"acknowledged":true}'
    assert wire.delete(POLICY).status == 404


def test_diagnostics_are_numbers(wire):
    reply = wire.get("/_inference/.diagnostics")

    assert reply.status == 200
    assert reply.json["endpoints"] >= 4


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_the_switch_of_the_cloud_is_no_call_of_ours(wire, method):
    reply = wire.call(method, "/_inference/_ccm")

    assert reply.status == 400
    text = f"no handler found for uri [/_inference/_ccm] and method [{method}]"
    assert reply.json == {"error": text}
