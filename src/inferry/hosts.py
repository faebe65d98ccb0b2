"""Names and addresses of hosts, held against rules."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


def is_allowed_host(host: str, allowed: Iterable[str]) -> bool:
    """Tell whether `host` is one of `allowed`; `*.example.org` stands for all hosts below it."""
    rules = (one.lower().rstrip(".") for one in allowed)
    return any(host.endswith(one[1:]) if one.startswith("*.") else host == one for one in rules)


def is_loopback(host: str) -> bool:
    """Tell whether a listening address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
