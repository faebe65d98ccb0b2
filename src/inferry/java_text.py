"""Values as Java prints them: existing callers compare error texts that hold a printed value.

Formats: `java.util.AbstractMap.toString`, `java.lang.Double.toString`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from inferry.domain import Json

MASK = "***"

_SECRET_NAME = re.compile(
    r"key|secret|token(?!s|iz)|passw|pwd|passphrase|credential|auth|bearer|private|cookie|signature"
    r"|jwt|entra_id|service_account",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"^\s*((Bearer|Basic|ApiKey)\s|sk-|sk_|hf_|gh[opsu]_|xox|AKIA|ASIA|AIza|eyJ|-----BEGIN)"
)


def java_text(value: object) -> str:
    """Print `value` as Java does: `{a=1, b=[x, true], c=null}`, `5.0`, `1.0E10`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={java_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(java_text(item) for item in value) + "]"
    return str(value)


def java_text_of_settings(settings: Mapping[str, Json]) -> str:
    """Print `settings` with every value masked that looks like a secret, by name or by itself."""
    return java_text(without_secrets(settings))


def without_secrets(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Give `settings` with a mask in place of every value that looks like a secret."""
    return {name: _masked(name, value) for name, value in settings.items()}


def _masked(name: str, value: Json) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_NAME.search(name):
        return MASK
    if isinstance(value, dict):
        return without_secrets(value)
    if isinstance(value, list):
        return [_masked("", item) for item in value]
    if isinstance(value, str) and _SECRET_VALUE.match(value):
        return MASK
    return value


def _double(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)]
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    sign, digits, _ = Decimal(repr(value)).normalize().as_tuple()
    exponent = Decimal(repr(value)).adjusted()
    shown = "".join(map(str, digits))
    return f"{'-' if sign else ''}{shown[0]}.{shown[1:] or '0'}E{exponent}"
