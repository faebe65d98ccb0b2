"""What API processes ask of the supervisor, which alone writes.

Each command names the type of its reply in `Reply`. Bodies are what the wire carried, already
parsed strictly; the supervisor decides, so that one place holds the rules.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class Command(msgspec.Struct, frozen=True, tag=True):
    """Base of the commands; the tag is the class name."""

    Reply: ClassVar[Any] = None


# --- endpoints ---------------------------------------------------------------------------------


class PutEndpoint(Command, frozen=True):
    """Create an endpoint. The reply is its JSON object.

    task_type: from the URL, None when the URL has none. url: for messages.
    dry_run: validate and probe, store nothing; the reply then shows what would be stored and sent.
    """

    Reply: ClassVar[Any] = bytes
    inference_id: str
    task_type: str | None
    url: str
    body: dict[str, Any]
    timeout_s: float | None = None
    timeout: str | None = None
    dry_run: bool = False
    actor: str | None = None


class UpdateEndpoint(Command, frozen=True):
    """Change an endpoint in place. The reply is its JSON object."""

    Reply: ClassVar[Any] = bytes
    inference_id: str
    task_type: str | None
    body: dict[str, Any]
    timeout_s: float | None = None
    timeout: str | None = None
    actor: str | None = None


class Deletion(msgspec.Struct, frozen=True):
    """What a DELETE did, or would do; `error_message` is None except on a dry run."""

    acknowledged: bool
    pipelines: list[str]
    indexes: list[str]
    error_message: str | None = None


class DeleteEndpoint(Command, frozen=True):
    """Delete an endpoint."""

    Reply: ClassVar[Any] = Deletion
    inference_id: str
    task_type: str | None
    dry_run: bool = False
    force: bool = False
    actor: str | None = None


class FetchSecrets(Command, frozen=True):
    """Give the resolved secrets of an endpoint to the process that calls its provider."""

    Reply: ClassVar[Any] = dict[str, str]
    inference_id: str
    revision: int


# --- region policy and references --------------------------------------------------------------


class PutRegionPolicy(Command, frozen=True):
    """Set the region policy. The reply is the stored document as JSON."""

    Reply: ClassVar[Any] = bytes
    policy: dict[str, Any]
    force: bool = False
    actor: str | None = None


class DeleteRegionPolicy(Command, frozen=True):
    """Remove the region policy."""

    actor: str | None = None


class PutReference(Command, frozen=True):
    """Register something that uses endpoints; kind is `pipeline` or `index`."""

    name: str
    kind: str
    inference_ids: list[str]
    actor: str | None = None


class DeleteReference(Command, frozen=True):
    """Forget something that used endpoints."""

    name: str
    actor: str | None = None


# --- rate limits -------------------------------------------------------------------------------


class Grant(msgspec.Struct, frozen=True):
    """Permits: `tokens` may be used at once, until `holds_s` from now; ask again after `wait_s`."""

    tokens: int
    holds_s: float
    wait_s: float


class TakeTokens(Command, frozen=True):
    """Ask for up to `wanted` permits of a rate-limit group."""

    Reply: ClassVar[Any] = Grant
    group: str
    requests_per_minute: float
    wanted: int
