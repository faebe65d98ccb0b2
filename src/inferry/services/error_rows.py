"""What statuses mean, in the rows that many services share."""

from __future__ import annotations

from inferry.errors import Retry
from inferry.service import ErrorRow

SERVER_ERROR = ErrorRow(500, 500, "Received a server error status code", Retry.YES)
UNAVAILABLE = ErrorRow(503, 503, SERVER_ERROR.text, Retry.YES)
OTHER_SERVER_ERROR = ErrorRow(501, 599, "Received a server error status code")
RATE_LIMITED = ErrorRow(429, 429, "Received a rate limit status code", Retry.YES)
CONTENT_TOO_LARGE = ErrorRow(413, 413, "Received a content too large status code", Retry.SHORTER)
NOT_AUTHENTICATED = ErrorRow(401, 401, "Received an authentication error status code")
PERMISSION_DENIED = ErrorRow(403, 403, "Received a permission denied error status code")
NOT_FOUND = ErrorRow(404, 404, "Resource not found at [{url}]")
REDIRECTION = ErrorRow(300, 399, "Unhandled redirection")
UNSUCCESSFUL = ErrorRow(400, 499, "Received an unsuccessful status code")
