"""What the statuses of OpenAI-compatible providers mean."""

from __future__ import annotations

from dataclasses import replace

from inferry.errors import Retry
from inferry.service import ErrorRow
from inferry.services.error_rows import (
    CONTENT_TOO_LARGE,
    NOT_AUTHENTICATED,
    NOT_FOUND,
    OTHER_SERVER_ERROR,
    REDIRECTION,
    SERVER_ERROR,
    UNSUCCESSFUL,
)

_RATE_LIMITED = (
    "Received a rate limit status code. Token limit [{x-ratelimit-limit-tokens}],"
    " remaining tokens [{x-ratelimit-remaining-tokens}]."
    " Request limit [{x-ratelimit-limit-requests}],"
    " remaining requests [{x-ratelimit-remaining-requests}]"
)

OLDER_ERRORS = (
    SERVER_ERROR,
    ErrorRow(503, 503, SERVER_ERROR.text, Retry.YES),
    OTHER_SERVER_ERROR,
    # A spent quota does not come back within a request.
    ErrorRow(429, 429, _RATE_LIMITED, contains="You exceeded your current quota"),
    ErrorRow(429, 429, _RATE_LIMITED, Retry.YES),
    CONTENT_TOO_LARGE,
    replace(
        CONTENT_TOO_LARGE,
        first=400,
        last=400,
        contains="Please reduce your prompt; or completion length.",
    ),
    NOT_AUTHENTICATED,
    REDIRECTION,
)
"""Without words of their own for 400, 404, 422 and the rest."""
ERRORS = (
    *OLDER_ERRORS,
    ErrorRow(422, 422, "Received an input validation error response"),
    ErrorRow(400, 400, "Received a bad request status code"),
    NOT_FOUND,
    UNSUCCESSFUL,
)
