"""Requests that no server received."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inferry.api.exchange import Request
from inferry.security.gate import Principal


@pytest.fixture
def make_request() -> Callable[..., Request]:
    """Give a function that makes requests."""

    def make(path: str = "/", **given: Any) -> Request:
        usual: dict[str, Any] = {
            "method": "GET",
            "path": path,
            "uri": path,
            "headers": {},
            "query": {},
            "principal": Principal("somebody"),
        }
        return Request(**{**usual, **given})

    return make
