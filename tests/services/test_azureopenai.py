"""What is particular to the service azureopenai."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from inferry.domain import Chat, Deadline, Endpoint, InferenceRequest, Message, TaskType
from inferry.errors import InvalidSettings, Retry
from inferry.services.azureopenai import SERVICE, build_chat, build_embeddings, check, group, sign

ADDRESS = {"resource_name": "acme", "deployment_id": "gpt-4o", "api_version": "2024-10-21"}
OAUTH = {"client_id": "id", "scopes": ["a", "b"], "tenant_id": "t-1"}
EXACTLY_ONE = (
    "[secret_settings] must have exactly one of [api_key], [entra_id], or [client_secret] field set"
)


def endpoint(settings=None, *, task_settings=None, **secrets) -> Endpoint:
    return Endpoint(
        "mine",
        TaskType.TEXT_EMBEDDING,
        "azureopenai",
        {**ADDRESS, **(settings or {})},
        task_settings or {},
        secrets=secrets,
    )


def request(*inputs, **more) -> InferenceRequest:
    return InferenceRequest(endpoint(api_key="k"), Deadline.after(30, "30s"), inputs, **more)


# --- credentials -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "secrets"),
    [({}, {"api_key": "k"}), ({}, {"entra_id": "e"}), (OAUTH, {"client_secret": "s"})],
)
def test_one_complete_credential_is_fine(settings, secrets):
    assert check(endpoint(settings, **secrets)) == []


def test_a_missing_credential_names_those_there_are():
    assert check(endpoint()) == [EXACTLY_ONE]


def test_several_credentials_are_too_many():
    assert check(endpoint(api_key="k", entra_id="e")) == [
        f"{EXACTLY_ONE}, received: [api_key, entra_id]"
    ]


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"client_id": "id"}, "scopes, tenant_id"),
        ({**OAUTH, "scopes": []}, "scopes"),
        ({"tenant_id": "t", "scopes": ["a"]}, "client_id"),
    ],
)
def test_a_part_of_the_client_credentials_names_the_rest(settings, missing):
    assert check(endpoint(settings, client_secret="s")) == [
        "[service_settings] all Azure OpenAI OAuth2 fields must be provided together;"
        f" missing: [{missing}]"
    ]


def test_a_client_secret_alone_is_not_enough():
    assert check(endpoint(client_secret="s")) == [
        "OAuth2 requires the fields [client_id, scopes, tenant_id], to be set."
    ]


@pytest.mark.parametrize("secret", ["api_key", "entra_id"])
def test_client_credentials_do_not_go_with_another_secret(secret):
    assert check(endpoint(OAUTH, **{secret: "x"})) == [
        "[service_settings] the OAuth2 fields [client_id, scopes, tenant_id] need [client_secret],"
        f" received: [{secret}]"
    ]


@pytest.mark.parametrize(
    ("secret", "header", "value"),
    [("api_key", "api-key", "x"), ("entra_id", "Authorization", "Bearer x")],
)
def test_a_constant_credential_travels_in_its_header(secret, header, value):
    one = endpoint(**{secret: "x"})

    with pytest.raises(StopIteration) as done:
        next(sign(build_embeddings(request("a")), one, 0.0))

    assert done.value.value.headers == {header: value}


def test_client_credentials_are_exchanged_at_the_tenant():
    call = next(sign(build_embeddings(request("a")), endpoint(OAUTH, client_secret="s"), 0.0))

    assert call.url == "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"
    assert parse_qs(call.body.decode())["scope"] == ["a b"]


# --- address -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("resource_name", "evil.example.org/"), ("deployment_id", "../x"), ("tenant_id", "t?x")],
)
def test_what_stands_in_an_address_cannot_leave_its_place(name, value):
    settings = {**OAUTH, name: value}

    (problem,) = check(endpoint(settings, client_secret="s"))

    assert problem.startswith(
        f"[service_settings] Invalid value ['{value}']. [{name}] must consist"
    )


def test_the_version_is_encoded():
    odd = replace(request("a"), endpoint=endpoint({"api_version": "v&x=1"}, api_key="k"))

    assert build_embeddings(odd).url.endswith("/gpt-4o/embeddings?api-version=v%26x%3D1")


def test_endpoints_of_one_deployment_share_a_rate_limit_group():
    assert group(endpoint(api_key="k")) == group(endpoint(entra_id="e"))
    assert group(endpoint()) != group(endpoint({"deployment_id": "other"}))
    assert group(endpoint()) != group(endpoint({"resource_name": "other"}))


# --- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["API-Key", "Authorization", "Host"])
def test_headers_that_are_ours_are_refused_in_settings_and_in_requests(name):
    headers = {"headers": {name: "x"}}
    expected = f"[task_settings] does not allow the header [{name}] in [headers]"

    assert check(endpoint(api_key="k", task_settings=headers)) == [expected]
    for build in (build_embeddings, build_chat):
        with pytest.raises(InvalidSettings, match="does not allow the header"):
            build(request("a", task_settings=headers))


def test_a_model_of_the_request_goes_along_though_the_deployment_decides():
    call = build_chat(request(chat=Chat([Message("user", "Hi")], model="other")))

    assert b'"model":"other"' in call.body
    assert "/deployments/gpt-4o/" in call.url


# --- errors ------------------------------------------------------------------------------------


def test_a_rate_limit_names_what_is_left():
    rows = [row for row in SERVICE.errors if row.first == 429]

    assert {row.text for row in rows} == {
        "Received a rate limit status code. Remaining tokens [{x-ratelimit-remaining-tokens}]."
        " Remaining requests [{x-ratelimit-remaining-requests}]."
    }
    assert [row.retry for row in rows] == [Retry.NO, Retry.YES]
