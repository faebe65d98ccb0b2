"""What the statuses of Google's APIs mean.

Source: https://cloud.google.com/apis/design/errors
"""

from __future__ import annotations

from inferry.errors import Retry
from inferry.service import ErrorRow
from inferry.services.error_rows import (
    NOT_FOUND,
    OTHER_SERVER_ERROR,
    PERMISSION_DENIED,
    RATE_LIMITED,
    REDIRECTION,
    SERVER_ERROR,
    UNSUCCESSFUL,
)


def google_errors(title: str) -> tuple[ErrorRow, ...]:
    """Give the table of a service; `title` names it when it is busy."""
    busy = f"The {title} service may be temporarily overloaded or down"
    return (
        SERVER_ERROR,
        ErrorRow(503, 503, busy, Retry.YES),
        OTHER_SERVER_ERROR,
        RATE_LIMITED,
        NOT_FOUND,
        PERMISSION_DENIED,
        REDIRECTION,
        UNSUCCESSFUL,
    )
