"""Google's own library asks for a token the way we do, and accepts what we sign."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from google.auth import jwt
from google.oauth2.service_account import Credentials

from inferry.calls import HttpCall
from inferry.domain import Endpoint, TaskType
from inferry.services.auth import google_service_account

KEY_FILE = Path(__file__).parents[1] / "services/googlevertexai/service_account.json"
ACCOUNT: dict[str, Any] = json.loads(KEY_FILE.read_text())
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
AUDIENCE = "https://oauth2.googleapis.com/token"


@dataclass
class Answer:
    """A reply in the form that the library reads."""

    status: int
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def our_call(account: dict[str, Any], now: float) -> HttpCall:
    endpoint = Endpoint(
        "mine",
        TaskType.RERANK,
        "googlevertexai",
        {},
        secrets={"service_account_json": json.dumps(account)},
    )
    return next(google_service_account(HttpCall("POST", "https://a"), endpoint, now))


def form_of(body: bytes) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(body.decode()).items()}


def public_key() -> bytes:
    key = load_pem_private_key(ACCOUNT["private_key"].encode(), None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("has_key_id", [True, False])
def test_the_library_of_google_and_we_send_the_same_form(has_key_id):
    posted: list[tuple[str, bytes]] = []
    account = {
        name: value for name, value in ACCOUNT.items() if has_key_id or name != "private_key_id"
    }

    def send(url: str, **asked: Any) -> Answer:
        posted.append((url, asked["body"]))
        return Answer(200, b'{"access_token": "t1", "expires_in": 3599}')

    library = Credentials.from_service_account_info(
        {"private_key_id": None, **account}, scopes=SCOPES
    )
    library.refresh(send)
    ours = our_call(account, time.time())

    ((url, body),) = posted
    ours_said, theirs_said = form_of(ours.body), form_of(body)
    assert ours.url == url
    assert ours_said.keys() == theirs_said.keys()
    assert ours_said["grant_type"] == theirs_said["grant_type"]
    ours_header, ours_claims = decoded(ours_said)
    header, claims = decoded(theirs_said)
    assert ours_header == {name: value for name, value in header.items() if value is not None}
    lifetimes = [one.pop("exp") - one.pop("iat") for one in (ours_claims, claims)]
    assert lifetimes[0] == lifetimes[1]
    assert ours_claims == claims


def test_the_library_of_google_verifies_what_we_sign():
    call = our_call(ACCOUNT, time.time())

    claims = jwt.decode(form_of(call.body)["assertion"], certs=public_key(), audience=AUDIENCE)

    assert claims["iss"] == ACCOUNT["client_email"]
    assert claims["scope"] == SCOPES[0]


def decoded(form: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    header = jwt.decode_header(form["assertion"])
    claims = jwt.decode(form["assertion"], verify=False)
    return dict(header), dict(claims)
