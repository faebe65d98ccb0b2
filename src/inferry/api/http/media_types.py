"""Which media types a request speaks: `Accept` and `Content-Type` of the Elasticsearch clients.

`application/vnd.elasticsearch+json; compatible-with=8|9` or plain JSON. Header values are few and
repeat, so that each is understood once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from inferry.errors import InferenceError, UnacceptableMediaType, UnsupportedMediaType

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
VENDOR_JSON: Final = "application/vnd.elasticsearch+json"
VERSIONS: Final = (8, 9)
_PLAIN = frozenset({JSON, EVENT_STREAM, "*/*", "application/*"})
_MAX_REMEMBERED = 1024
_BOTH = "[Accept, Content-Type]"


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What was agreed: the version of the vendor type, None without one, or why nothing was."""

    compatible_with: int | None = None
    refusal: InferenceError | None = None

    def check(self) -> None:
        """Raise the refusal, if there is one."""
        if self.refusal is not None:
            raise type(self.refusal)(self.refusal.message) from self.refusal.__cause__


@dataclass(frozen=True, slots=True)
class _MediaType:
    name: str
    version: str | None
    is_utf8: bool


@dataclass(slots=True)
class MediaTypes:
    """Negotiates, and remembers what it found for each pair of headers."""

    _known: dict[tuple[str | None, str | None, bool], Negotiated] = field(default_factory=dict)

    def negotiate(
        self, accept: str | None, content_type: str | None, *, has_body: bool
    ) -> Negotiated:
        """Give what both headers agree on.

        A refusal is `UnsupportedMediaType` for a body we do not speak, else
        `UnacceptableMediaType`.
        """
        key = (accept, content_type, has_body)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            found = self._known[key] = _outcome(accept, content_type, has_body=has_body)
        return found


def _outcome(accept: str | None, content_type: str | None, *, has_body: bool) -> Negotiated:
    try:
        return Negotiated(_negotiate(accept, content_type, has_body=has_body))
    except InferenceError as refusal:
        return Negotiated(None, refusal.with_traceback(None))


def _negotiate(accept: str | None, content_type: str | None, *, has_body: bool) -> int | None:
    of_body = _of_body(content_type) if has_body else None
    wanted = _of_answer(accept)
    if accept and EVENT_STREAM in accept:
        wanted = wanted or of_body  # streaming clients version the body only
    if has_body and wanted != of_body:
        cause = UnacceptableMediaType(
            "A compatible version is required on both Content-Type and Accept headers if either "
            "one has requested a compatible version and the compatible versions must match. "
            f"Accept={accept or 'null'}, Content-Type={content_type or 'null'}"
        )
        raise UnacceptableMediaType(f"Invalid media-type value on headers {_BOTH}") from cause
    return wanted


def content_type_of(compatible_with: int | None) -> str:
    """Give the type of a JSON answer for a caller of that version."""
    return f"{VENDOR_JSON};compatible-with={compatible_with}" if compatible_with else JSON


def _of_body(content_type: str | None) -> int | None:
    """Check the type of a body and give its version."""
    if not content_type:
        raise UnsupportedMediaType("Content-Type header is missing")
    media_type = _parse(content_type)
    if media_type.name not in (JSON, VENDOR_JSON) or not media_type.is_utf8:
        raise UnsupportedMediaType(f"Content-Type header [{content_type}] is not supported")
    return _version(media_type, "Content-Type", content_type)


def _of_answer(accept: str | None) -> int | None:
    """Give the version of the first type in `accept` that we serve."""
    if not accept:
        return None
    for one in accept.split(","):
        media_type = _parse(one)
        if media_type.name == VENDOR_JSON or media_type.name in _PLAIN:
            return _version(media_type, "Accept", accept)
    raise UnacceptableMediaType("Invalid media-type value on headers [Accept]")


def _version(media_type: _MediaType, header: str, value: str) -> int | None:
    if media_type.name != VENDOR_JSON or media_type.version is None:
        return None
    for version in VERSIONS:
        if media_type.version == str(version):
            return version
    known = " or ".join(str(version) for version in VERSIONS)
    cause = UnacceptableMediaType(
        f"{header} version must be either version {known}, but found {media_type.version}. "
        f"{header}={value}"
    )
    raise UnacceptableMediaType(f"Invalid media-type value on headers [{header}]") from cause


def _parse(text: str) -> _MediaType:
    name, *parameters = (part.strip() for part in text.split(";"))
    values = {
        key.strip().lower(): value.strip().strip('"')
        for key, _, value in (part.partition("=") for part in parameters)
    }
    is_utf8 = values.get("charset", "utf-8").lower() in ("utf-8", "utf8")
    return _MediaType(name.lower(), values.get("compatible-with"), is_utf8)
