"""Secrets do not leave in messages."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from inferry.redaction import MASK, redact

SECRET = "sk-marker/secret+1"


@pytest.mark.parametrize(
    "form",
    [SECRET, "sk-marker%2Fsecret%2B1", base64.b64encode(SECRET.encode()).decode().rstrip("=")],
)
def test_a_secret_is_masked_in_every_form_it_travels_in(form) -> None:
    assert redact(f"Incorrect key: {form}.", [SECRET]) == f"Incorrect key: {MASK}."


AWKWARD = 'mark"er/of\\a secret+é'


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(AWKWARD)[1:-1],
        json.dumps(AWKWARD, ensure_ascii=False)[1:-1],
        json.dumps(AWKWARD)[1:-1].replace("/", "\\/"),
        quote(AWKWARD),
        quote_plus(AWKWARD),
        quote(AWKWARD, safe="").lower(),
        base64.urlsafe_b64encode(AWKWARD.encode()).decode(),
    ],
)
def test_a_secret_is_masked_however_a_message_escapes_it(form) -> None:
    shown = redact(f"<{form}>", [AWKWARD])

    assert shown.replace("=", "") == f"<{MASK}>"


@pytest.mark.parametrize("user", ["", "a", "ab", "client"])
def test_a_secret_is_masked_within_longer_base64(user) -> None:
    pair = base64.b64encode(f"{user}:{SECRET}:more".encode()).decode()

    shown = redact(f"sent {pair}", [SECRET])

    assert MASK in shown
    assert base64.b64encode(SECRET.encode()).decode()[3:12] not in shown
    assert len(shown) - len(f"sent {MASK}") < len(pair) - len(SECRET)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abcdefg", f"Authorization: Bearer {MASK}"),
        ('{"authorization": "Basic QWxhZGRpbg"}', f'{{"authorization": "Basic {MASK}"}}'),
        ("x-api-key: abc123xyz", f"x-api-key: {MASK}"),
        ("{'api_key': 'abc123xyz'}", f"{{'api_key': '{MASK}'}}"),
        ("https://host/v1?key=abc123xyz&alt=sse", f"https://host/v1?key={MASK}&alt=sse"),
        ("client_secret=abc123xyz&scope=a", f"client_secret={MASK}&scope=a"),
        ("bearer abc123xyz is wrong", f"bearer {MASK} is wrong"),
    ],
)
def test_echoed_credentials_are_masked(text, masked) -> None:
    assert redact(text) == masked


@pytest.mark.parametrize(
    "text", ["basic authentication failed", "the token limit is 300000", "monkey=banana1"]
)
def test_ordinary_words_stay(text) -> None:
    assert redact(text, ["", "a", " "]) == text
