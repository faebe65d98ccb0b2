"""Calls are signed by generators, driven by hand here."""

from __future__ import annotations

import base64
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import Endpoint, TaskType
from inferry.errors import BadRequest, Retry, UnreadableReply, UpstreamError
from inferry.services.auth import (
    aws_signature,
    bearer,
    bearer_token,
    entra_client_credentials,
    google_service_account,
    header_key,
    oauth2_client_credentials,
)

CALL = HttpCall("POST", "https://api.example.org/v1")
ENDPOINT = Endpoint(
    "mine",
    TaskType.COMPLETION,
    "openai",
    {
        "client_id": "my id",
        "scopes": ["read", "write all"],
        "token_url": "https://login.example.org/token",
    },
    secrets={"api_key": "k1", "client_secret": "p+ss:wörd"},
)
FAILED = "Failed to retrieve access token for request for inference id [mine]"


def signed_without_a_call(auth, endpoint=ENDPOINT) -> Credential:
    with pytest.raises(StopIteration) as done:
        next(auth(CALL, endpoint, 1000.0))
    credential = done.value.value
    assert isinstance(credential, Credential)
    return credential


def exchanged(reply: HttpReply) -> Credential:
    steps = oauth2_client_credentials(CALL, ENDPOINT, 1000.0)
    next(steps)
    with pytest.raises(StopIteration) as done:
        steps.send(reply)
    credential = done.value.value
    assert isinstance(credential, Credential)
    return credential


def test_a_bearer_token_holds_for_ever():
    assert signed_without_a_call(bearer) == Credential({"Authorization": "Bearer k1"}, math.inf)


def test_a_key_may_travel_in_a_header_of_its_own():
    assert signed_without_a_call(header_key("x-api-key")).headers == {"x-api-key": "k1"}


def test_another_secret_may_be_the_bearer_token():
    endpoint = replace(ENDPOINT, secrets={"entra_id": "e1"})

    assert signed_without_a_call(bearer_token("entra_id"), endpoint).headers == {
        "Authorization": "Bearer e1"
    }


@pytest.mark.parametrize("key", ["line\n", "ключ", "a\r\nX-Evil: 1"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key):
    with pytest.raises(BadRequest) as raised:
        next(bearer(CALL, replace(ENDPOINT, secrets={"api_key": key}), 0.0))

    assert "[api_key]" in raised.value.message
    assert key not in raised.value.message


def test_client_credentials_are_exchanged_with_basic_authentication():
    call = next(oauth2_client_credentials(CALL, ENDPOINT, 1000.0))

    scheme, pair = call.headers["Authorization"].split()
    assert (call.method, call.url) == ("POST", "https://login.example.org/token")
    assert call.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert (scheme, base64.b64decode(pair)) == ("Basic", b"my+id:p%2Bss%3Aw%C3%B6rd")
    assert parse_qs(call.body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["read write all"],
    }


@pytest.mark.parametrize("expires_in", [b"3600", b'"3600"'])
def test_the_token_signs_until_it_expires(expires_in):
    body = b'{"access_token": "t1", "token_type": "Bearer", "expires_in": %s}' % expires_in

    credential = exchanged(HttpReply(200, {}, body))

    assert credential == Credential({"Authorization": "Bearer t1"}, 4600.0)


def test_a_token_without_a_stated_lifetime_is_kept_for_a_while_only():
    assert exchanged(HttpReply(200, {}, b'{"access_token": "t1"}')).expires_at == 1300.0


@pytest.mark.parametrize(
    ("body", "tail"),
    [
        (b'{"error": "invalid_client", "error_description": "No"}', ": [invalid_client] No"),
        (b'{"error": "invalid_client"}', ": [invalid_client]"),
        (b"<html>", ""),
        (b"{}", ""),
    ],
)
def test_a_refused_exchange_says_what_the_server_said(body, tail):
    steps = oauth2_client_credentials(CALL, ENDPOINT, 1000.0)
    next(steps)

    with pytest.raises(UpstreamError) as raised:
        steps.send(HttpReply(401, {}, body))

    assert raised.value.message == FAILED + tail
    assert raised.value.upstream_status == 401
    assert raised.value.retry is Retry.NO


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_exchange_that_may_work_later_may_be_tried_again(status):
    steps = oauth2_client_credentials(CALL, ENDPOINT, 1000.0)
    next(steps)

    with pytest.raises(UpstreamError) as raised:
        steps.send(HttpReply(status, {}, b""))

    assert raised.value.retry is Retry.YES


@pytest.mark.parametrize("body", [b"{}", b"t1", b'{"access_token": "a\\nb"}'])
def test_an_answer_without_a_usable_token_is_unreadable(body):
    steps = oauth2_client_credentials(CALL, ENDPOINT, 1000.0)
    next(steps)

    with pytest.raises(UnreadableReply) as raised:
        steps.send(HttpReply(200, {}, body))

    assert raised.value.message == FAILED


# --- Entra ---------------------------------------------------------------------------------------

ENTRA = replace(
    ENDPOINT,
    service_settings={"client_id": "my id", "tenant_id": "t-1", "scopes": ["a/.default", "b"]},
)


def test_entra_takes_the_client_credentials_in_the_form():
    call = next(entra_client_credentials("Azure")(CALL, ENTRA, 1000.0))

    assert (call.method, call.url) == (
        "POST",
        "https://login.microsoftonline.com/t-1/oauth2/v2.0/token",
    )
    assert "Authorization" not in call.headers
    assert parse_qs(call.body.decode()) == {
        "client_id": ["my id"],
        "client_secret": ["p+ss:wörd"],
        "scope": ["a/.default b"],
        "grant_type": ["client_credentials"],
    }


def test_the_token_of_entra_signs_until_it_expires():
    steps = entra_client_credentials("Azure")(CALL, ENTRA, 1000.0)
    next(steps)

    with pytest.raises(StopIteration) as done:
        steps.send(HttpReply(200, {}, b'{"access_token": "t1", "expires_in": 3599}'))

    assert done.value.value == Credential({"Authorization": "Bearer t1"}, 4599.0)


def test_a_refusal_of_entra_names_the_service():
    steps = entra_client_credentials("Azure")(CALL, ENTRA, 1000.0)
    next(steps)

    with pytest.raises(UpstreamError) as raised:
        steps.send(HttpReply(401, {}, b'{"error": "invalid_client"}'))

    assert raised.value.message == (
        "Failed attempting to retrieve access token for Azure request for inference id: [mine]"
        ": [invalid_client]"
    )


# --- AWS -----------------------------------------------------------------------------------------

AWS = replace(
    ENDPOINT,
    service="amazonbedrock",
    service_settings={"region": "us-east-1"},
    secrets={"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"},
)
MOMENT = 1440938160.0  # 2015-08-30T12:36:00Z


def signed_for_aws(call: HttpCall, endpoint: Endpoint = AWS, now: float = MOMENT) -> Credential:
    with pytest.raises(StopIteration) as done:
        next(aws_signature("service")(call, endpoint, now))
    credential = done.value.value
    assert isinstance(credential, Credential)
    return credential


@pytest.mark.parametrize(
    ("call", "signature"),
    [
        (
            HttpCall("GET", "https://example.amazonaws.com/"),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            HttpCall("POST", "https://example.amazonaws.com/"),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
    ],
)
def test_a_signature_is_that_of_the_published_examples(call, signature):
    credential = signed_for_aws(call)

    assert credential.headers == {
        "X-Amz-Date": "20150830T123600Z",
        "Authorization": "AWS4-HMAC-SHA256"
        " Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request,"
        f" SignedHeaders=host;x-amz-date, Signature={signature}",
    }


def test_a_signature_is_for_one_attempt_and_covers_everything():
    call = HttpCall("POST", "https://a.example.org/model/a%3A0/invoke", {"X": "1"}, b"{}")

    others = [
        replace(call, method="PUT"),
        replace(call, url="https://b.example.org/model/a%3A0/invoke"),
        replace(call, url="https://a.example.org/model/a%3A1/invoke"),
        replace(call, headers={"X": "2"}),
        replace(call, body=b"[]"),
    ]

    assert signed_for_aws(call).expires_at is None
    assert signed_for_aws(call) == signed_for_aws(call)
    signatures = {signed_for_aws(one).headers["Authorization"] for one in [call, *others]}
    assert len(signatures) == 6
    assert signed_for_aws(call, now=MOMENT + 1) != signed_for_aws(call)


def test_an_access_key_that_no_header_can_carry_is_refused():
    secrets = {"access_key": "a\nb", "secret_key": "s"}

    with pytest.raises(BadRequest, match=r"\[access_key\]"):
        next(aws_signature("bedrock")(CALL, replace(AWS, secrets=secrets), MOMENT))


def test_keys_come_from_the_endpoint_and_from_nowhere_else(monkeypatch, tmp_path):
    expected = signed_for_aws(CALL)
    profile = tmp_path / "credentials"
    profile.write_text("[default]\naws_access_key_id = other\naws_secret_access_key = other\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))

    assert signed_for_aws(CALL) == expected


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.auth", None)

    with pytest.raises(BadRequest) as raised:
        next(aws_signature("bedrock")(CALL, AWS, MOMENT))

    assert raised.value.message == (
        "The service [amazonbedrock] needs the extra [aws] of this server:"
        " pip install 'inferry[aws]'"
    )


# --- Google's service accounts -------------------------------------------------------------------

KEY_FILE = (Path(__file__).parent / "googlevertexai/service_account.json").read_text()
ELLIPTIC = (  # a key of another kind
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbbtH8k2Z9bXx0QiB\n"
    "0+3DwXfccIRc2mbN6Qm6sXlAfNWhRANCAATKG2NaX5W3XzFq+o6bfG9d81Xak5H0\n"
    "rpVrGHcFzrLE28bPVgUcnZaMmuqYhidO/70/npRdAz0+3rr2mdCd7c6y\n"
    "-----END PRIVATE KEY-----\n"
)
GOOGLE = replace(ENDPOINT, secrets={"service_account_json": KEY_FILE})


def test_an_assertion_is_signed_and_exchanged_for_a_token_that_is_renewed_in_time():
    steps = google_service_account(CALL, GOOGLE, 1000.0)

    call = next(steps)
    with pytest.raises(StopIteration) as done:
        steps.send(HttpReply(200, {}, b'{"access_token": "t1", "expires_in": 3600}'))

    form = parse_qs(call.body.decode())
    header, claims, signature = form["assertion"][0].split(".")
    assert (call.method, call.url) == ("POST", "https://oauth2.googleapis.com/token")
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert unpacked(header) == {"typ": "JWT", "alg": "RS256", "kid": "sk-marker-1"}
    assert unpacked(claims) == {
        "iss": "test@my-project.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1000,
        "exp": 4600,
    }
    assert len(base64.urlsafe_b64decode(signature + "==")) == 256
    assert done.value.value == Credential({"Authorization": "Bearer t1"}, 1000.0 + 3600 - 300)


def unpacked(part: str):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize(
    "private_key",
    ["no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ELLIPTIC],
)
def test_a_key_that_cannot_sign_is_refused_and_not_shown(private_key):
    secret = json.dumps({**json.loads(KEY_FILE), "private_key": private_key})

    with pytest.raises(BadRequest) as raised:
        next(
            google_service_account(
                CALL, replace(GOOGLE, secrets={"service_account_json": secret}), 0
            )
        )

    assert "Invalid value for [service_account_json]" in raised.value.message
    assert private_key not in raised.value.message


def test_a_refused_assertion_says_what_the_server_said_without_the_key():
    key = json.loads(KEY_FILE)["private_key"]
    said = json.dumps({"error": "invalid_grant", "error_description": f"Bad key {key}"})
    steps = google_service_account(CALL, GOOGLE, 1000.0)
    next(steps)

    with pytest.raises(UpstreamError) as raised:
        steps.send(HttpReply(400, {}, said.encode()))

    assert raised.value.message == f"{FAILED}: [invalid_grant] Bad key ********"
