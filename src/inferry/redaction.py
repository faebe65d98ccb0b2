"""Takes secrets out of text that leaves us: error messages, log lines, dry runs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "********"
_SHORTEST = 4  # a shorter secret would mask ordinary words

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
    for secret in secrets:
        for form in _forms(secret):
            text = text.replace(form, MASK)
    return _ECHOES.sub(rf"\1{MASK}", text)


def _forms(secret: str) -> set[str]:
    stripped = secret.strip()
    if len(stripped) < _SHORTEST:
        return set()
    encoded = base64.b64encode(stripped.encode()).decode()
    return {stripped, quote(stripped, safe=""), encoded.rstrip("=")}
