"""Calls as most providers take them: JSON by POST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from inferry.calls import HttpCall


def post_json(
    url: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
) -> HttpCall:
    """Give the call that sends `body`, its members that are None left out."""
    present = {name: value for name, value in body.items() if value is not None}
    named = {"Content-Type": "application/json", **(headers or {})}
    return HttpCall("POST", url, named, msgspec.json.encode(present))
