"""Takes secrets out of text that leaves us: error messages, log lines, dry runs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "********"
_SHORTEST = 4  # a shorter secret would mask ordinary words
_SHORTEST_PART = 8  # the same for a part of a base64 text
_ESCAPE = re.compile("%[0-9A-F]{2}")
_URL_SAFE = str.maketrans("+/", "-_")

# Credentials that a provider echoes although they are not (or no longer) in our hands. What has
# no digit may be a word ("basic authentication failed") and stays, except after `Authorization:`.
_ECHOES = re.compile(
    r"""(?ix)
    (   \b authorization ["']? \s* [:=] \s* ["']? (?: (?: bearer | basic ) \s+ )?
    |   (?: \b (?: bearer | basic ) \s+
        |   \b [a-z-]* api[-_]?key ["']? \s* [:=] \s* ["']?
        |   \b (?: client_secret | assertion | (?: access | refresh )_token )
            ["']? \s* [:=] \s* ["']?
        |   [?&] key =
        ) (?= [^\s"'&,;\]})]* \d )
    )
    [^\s"'&,;\]})]{6,}
    """
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask `secrets`, in every form they travel in, and what looks like an echoed credential."""
    forms = {form for secret in secrets for form in _forms(secret.strip())}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    return _ECHOES.sub(rf"\1{MASK}", text)


def _forms(secret: str) -> Iterator[str]:
    """Give a secret as it is, within JSON, in URLs and forms, and in base64."""
    if len(secret) < _SHORTEST:
        return
    yield secret
    for is_ascii in (True, False):
        escaped = json.dumps(secret, ensure_ascii=is_ascii)[1:-1]
        yield from (escaped, escaped.replace("/", "\\/"))
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield from (quoted, _ESCAPE.sub(lambda found: found[0].lower(), quoted))
    raw = secret.encode()
    yield from _in_alphabets(base64.b64encode(raw).decode().rstrip("="))
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        # Without the characters that also hold bits of what stands before or behind the secret.
        padding = encoded.count("=")
        part = encoded[before and before + 1 : len(encoded) - (padding and padding + 1)]
        if len(part) >= _SHORTEST_PART:
            yield from _in_alphabets(part)


def _in_alphabets(encoded: str) -> tuple[str, str]:
    return encoded, encoded.translate(_URL_SAFE)
