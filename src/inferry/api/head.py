"""What the headers of a request say, found out once for all of a connection that repeat them.

A client says the same with each request, its credentials included: to compare the headers with
those of the request before costs a twentieth of understanding them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferry.api.exchange import Route
from inferry.api.http.compression import accepts_gzip
from inferry.api.http.direct import Pairs
from inferry.api.http.media_types import MediaTypes, Negotiated
from inferry.api.http.request_body import has_body
from inferry.security.gate import Login


@dataclass(slots=True)
class Head:
    """The headers of a request.

    raw: as they came; they may hold credentials. values: by name, in lower case. is_plain: neither
    a body comes nor is a packed answer wanted. entered: whom they proved, and the route that the
    gate let them in to.
    """

    raw: Pairs = field(repr=False)
    values: Mapping[str, str] = field(repr=False)
    agreed: Negotiated
    is_plain: bool
    entered: tuple[Login, Route] | None = None


def read_head(raw: Pairs, media_types: MediaTypes) -> Head:
    """Understand headers; one that is repeated gives one value, with commas."""
    values: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        values[name] = f"{values[name]}, {value}" if name in values else value
    carries = has_body(values)
    agreed = media_types.negotiate(
        values.get("accept"), values.get("content-type"), has_body=carries
    )
    is_plain = not carries and not accepts_gzip(values.get("accept-encoding"))
    return Head(raw, values, agreed, is_plain)
