"""Talk to the server over HTTP with the standard library alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from inferry.cli.exits import CommandFailure, Exit, exit_code_of

if TYPE_CHECKING:
    import http.client

KEY_FILE = "local-api-key"
_TIMEOUT_S = 150.0


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is and what opens it. Every call is a connection of its own."""

    url: str
    api_key: str | None = field(default=None, repr=False)

    def call(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Any:
        """Send one request and give the decoded answer. Raises CommandFailure with the reason."""
        with (
            closing(self._connect()) as connection,
            self._send(connection, method, path, body, query) as response,
        ):
            return decode(response)

    def events(self, path: str, *, body: Any) -> Iterator[Any]:
        """Send a streaming request and give the JSON of each event as it comes."""
        with (
            closing(self._connect()) as connection,
            self._send(connection, "POST", path, body, None) as response,
        ):
            for line in response:
                payload = line.strip().removeprefix(b"data:").strip()
                if line.startswith(b"data:") and payload != b"[DONE]":
                    event = json.loads(payload)
                    if isinstance(event, dict) and "error" in event:
                        raise CommandFailure(reason_of(event))
                    yield event

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandFailure(f"[{self.url}] is not an http or https URL", Exit.USAGE)
        # Here and not above, since the mail parser within takes half of the time of `--help`.
        import http.client

        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str] | None,
    ) -> http.client.HTTPResponse:
        from http.client import HTTPException

        headers = {"Accept": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"ApiKey {self.api_key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        target = urlsplit(self.url).path.rstrip("/") + path
        target += f"?{urlencode(query)}" if query else ""
        encoded = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, target, body=encoded, headers=headers)
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandFailure(f"cannot reach {self.url}: {reason}", Exit.UNREACHABLE) from error
        if response.status >= 400:
            with response:
                raise CommandFailure(_read_reason(response), exit_code_of(response.status))
        return response


def path_of(*segments: str) -> str:
    """Join path segments, each quoted."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def find_api_key(url: str, data_dir: Path) -> str | None:
    """Read the local API key, for a server on this machine only."""
    from inferry.hosts import is_loopback

    if not is_loopback(urlsplit(url).hostname or ""):
        return None
    try:
        return (data_dir / KEY_FILE).read_text().strip()
    except OSError:
        return None


def decode(response: http.client.HTTPResponse) -> Any:
    """Decode a JSON answer, None when it is empty."""
    content = response.read()
    try:
        return json.loads(content) if content else None
    except ValueError as error:
        raise CommandFailure("the server's answer is not JSON") from error


def reason_of(answer: Any) -> str:
    """Take the reason out of an error body of any dialect."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return str(error)
    reason = str(error.get("reason") or error.get("message") or error)
    cause = error.get("caused_by")
    return f"{reason}: {reason_of(cause)}" if isinstance(cause, dict) else reason


def _read_reason(response: http.client.HTTPResponse) -> str:
    content = response.read()
    try:
        return reason_of(json.loads(content))
    except ValueError:
        return f"HTTP status {response.status}"
