"""Every deliberate failure, in one tree.

An error knows what went wrong, where, and what would be right; it never knows an HTTP status. Each
dialect renders the tree in its own way.

    InferenceError
    ├── BadRequest                  the request cannot be carried out as it stands
    │   ├── InvalidSettings         settings of an endpoint, all problems of one object together
    │   ├── InvalidRequest          fields of a request, all problems together
    │   ├── UnreadableBody          not JSON, or not the JSON that this call takes
    │   ├── MissingBody             a body was required
    │   ├── IllegalArgument         one value out of its range
    │   ├── UnacceptableMediaType   headers about media types that contradict or miss each other
    │   ├── UnsupportedMediaType    a body or an answer in a form that we do not speak
    │   ├── UnusableModel           a model folder that is missing, damaged, hostile or unknown
    │   ├── NoSuchPackage           a repository of models has none of this name
    │   └── NoHandler               no such path
    ├── NotFound                    no such endpoint, policy, ...
    │   └── NotDeployed             a local model that does not run
    ├── AlreadyExists               the id is taken
    ├── Conflict                    in use, or not ours to change
    │   └── VersionConflict         somebody else changed it meanwhile
    ├── NotAuthenticated            who are you?
    ├── LockedOut                   too many failed logins
    ├── NotAuthorized               you may not
    ├── RegionDenied                the region policy forbids it
    ├── MethodNotAllowed            the path is known, the method is not one of its own
    ├── StreamingNotAllowed         no stream for this service or task
    ├── BodyTooLarge                above the size limit
    ├── DeadlineExceeded            our own time limit
    ├── StillStarting               a local model that is still loading when the time is over
    ├── LimitExceeded               an API key has used what it may
    ├── StartFailed                 a deployment that did not come up; the cause says why
    ├── QueueFull                   refused now instead of slow for all
    ├── WorkerLost                  the process that ran a local model ended meanwhile
    ├── ShuttingDown                the server drains
    ├── UpstreamError               the provider said no
    │   ├── UpstreamUnreachable     no connection, or it broke
    │   └── UnreadableReply         an answer that we cannot read
    ├── ValidationCallFailed        the probe of a new endpoint failed; the cause says why
    ├── StoreFailure                the store did not take or give a record
    │   └── SecretsUnreadable           sealed with a master key that is not here
    └── InternalError               a defect of ours
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeAlias

WireValue: TypeAlias = "str | int | float | bool | None | list[WireValue] | dict[str, WireValue]"


class Retry(StrEnum):
    """Whether the same call may be sent again."""

    NO = "no"
    YES = "yes"
    SHORTER = "shorter"  # after cutting the inputs


@dataclass(eq=False)
class InferenceError(Exception):
    """Root of the tree. `message` is for the caller: never a secret, never input text."""

    message: str
    retry_after_s: float | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        return self.message


@dataclass(eq=False)
class BadRequest(InferenceError):
    """The request cannot be carried out as it stands."""


@dataclass(eq=False)
class InvalidSettings(BadRequest):
    """Problems of one settings object, reported together."""

    @classmethod
    def of(cls, problems: list[str]) -> InvalidSettings:
        """Make one error of all `problems`."""
        return cls(numbered(problems))


@dataclass(eq=False)
class InvalidRequest(BadRequest):
    """Problems of one request, reported together. `param`: the field at fault, if it is one."""

    param: str | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, problems: list[str]) -> InvalidRequest:
        """Make one error of all `problems`."""
        return cls(numbered(problems))


@dataclass(eq=False)
class UnreadableBody(BadRequest):
    """Not JSON, or not the JSON that this call takes; the message begins with `[line:column]`."""


@dataclass(eq=False)
class MissingBody(BadRequest):
    """A body was required."""


@dataclass(eq=False)
class IllegalArgument(BadRequest):
    """One value is out of its range."""


@dataclass(eq=False)
class UnacceptableMediaType(BadRequest):
    """Headers about media types that contradict each other or ask for what we cannot serve."""


@dataclass(eq=False)
class UnsupportedMediaType(BadRequest):
    """A body, or a wanted answer, in a form that we do not speak."""


@dataclass(eq=False)
class UnusableModel(BadRequest):
    """A model's files cannot be run: missing, damaged, hostile, or of a kind unknown to us."""


@dataclass(eq=False)
class NoSuchPackage(BadRequest):
    """A repository of model packages has none of this name."""


@dataclass(eq=False)
class NoHandler(BadRequest):
    """No such path."""


@dataclass(eq=False)
class NotFound(InferenceError):
    """No such endpoint, policy, key, ..."""


@dataclass(eq=False)
class NotDeployed(NotFound):
    """A local model that is asked for does not run."""


@dataclass(eq=False)
class AlreadyExists(InferenceError):
    """The id is taken."""


@dataclass(eq=False)
class Conflict(InferenceError):
    """In use, or not ours to change."""


@dataclass(eq=False)
class VersionConflict(Conflict):
    """Somebody else changed the record meanwhile."""


@dataclass(eq=False)
class NotAuthenticated(InferenceError):
    """No credentials, or wrong ones. `detail` tells which credential failed and why.

    user, api_key_id: whose they would have been, as far as that is known; reason: in a few words.
    These three are for the audit log and not told to the caller.
    """

    detail: str | None = field(default=None, kw_only=True)
    user: str = field(default="", kw_only=True)
    api_key_id: str | None = field(default=None, kw_only=True)
    reason: str = field(default="", kw_only=True)


@dataclass(eq=False)
class LockedOut(InferenceError):
    """Too many failed logins of this user from this address."""

    user: str = field(default="", kw_only=True)


@dataclass(eq=False)
class NotAuthorized(InferenceError):
    """Authenticated, but without the privilege. action: what was asked, for the audit log."""

    action: str = field(default="", kw_only=True)


@dataclass(eq=False)
class RegionDenied(InferenceError):
    """The region policy forbids the region of the endpoint."""


@dataclass(eq=False)
class MethodNotAllowed(InferenceError):
    """The path is known, the method is not one of its own. `allowed`: `GET,PUT`."""

    allowed: str = field(default="", kw_only=True)


@dataclass(eq=False)
class StreamingNotAllowed(InferenceError):
    """No stream for this service or task."""


@dataclass(eq=False)
class BodyTooLarge(InferenceError):
    """The body is above the size limit."""


@dataclass(eq=False)
class DeadlineExceeded(InferenceError):
    """Our own time limit ended first. `timeout` is the limit as the caller wrote it (`30s`)."""

    timeout: str = field(default="", kw_only=True)


@dataclass(eq=False)
class StillStarting(InferenceError):
    """A local model is still loading; it goes on."""


@dataclass(eq=False)
class LimitExceeded(InferenceError):
    """The API key of the caller has used what it may use, for now."""


@dataclass(eq=False)
class StartFailed(InferenceError):
    """A deployment did not come up; `__cause__` is the failure itself."""


@dataclass(eq=False)
class QueueFull(InferenceError):
    """The queue of the rate-limit group or deployment is full."""


@dataclass(eq=False)
class WorkerLost(InferenceError):
    """The process that ran a local model ended before it answered."""


@dataclass(eq=False)
class ShuttingDown(InferenceError):
    """The server drains and takes no new work."""


@dataclass(eq=False)
class UpstreamError(InferenceError):
    """The provider refused or failed.

    upstream_status: the provider's true status, None when there was no answer.
    code, param, kind: the provider's own words where its error body had them.
    """

    upstream_status: int | None = field(default=None, kw_only=True)
    code: str | None = field(default=None, kw_only=True)
    param: str | None = field(default=None, kw_only=True)
    kind: str | None = field(default=None, kw_only=True)
    retry: Retry = field(default=Retry.NO, kw_only=True)


@dataclass(eq=False)
class UpstreamUnreachable(UpstreamError):
    """No connection, or it broke before an answer."""


@dataclass(eq=False)
class UnreadableReply(UpstreamError):
    """A 2xx answer that we cannot read."""


@dataclass(eq=False)
class ValidationCallFailed(InferenceError):
    """The validation call of a new endpoint failed; `__cause__` is the failure itself."""


@dataclass(eq=False)
class StoreFailure(InferenceError):
    """The store did not take or give a record."""


@dataclass(eq=False)
class SecretsUnreadable(StoreFailure):
    """Secrets cannot be sealed or opened: no usable master key, another one, or damaged ones."""


@dataclass(eq=False)
class InternalError(InferenceError):
    """A defect of ours; the log has the traceback."""


@dataclass(eq=False)
class ForeignError(InferenceError):
    """An exception of a library or the system, kept as a cause: its type name and its words."""

    type_name: str = field(default="Exception", kw_only=True)


def numbered(problems: list[str]) -> str:
    """Join `problems` as the wire does: `Validation Failed: 1: a;2: b;`."""
    return "Validation Failed: " + "".join(f"{n}: {p};" for n, p in enumerate(problems, start=1))


def cause_of(error: InferenceError) -> InferenceError | None:
    """Give the cause of `error` as one of our errors, or None."""
    cause = error.__cause__
    if cause is None or isinstance(cause, InferenceError):
        return cause
    return ForeignError(str(cause), type_name=type(cause).__name__)


def error_to_wire(error: InferenceError) -> dict[str, WireValue]:
    """Encode `error` and its causes for another process of ours."""
    encoded: dict[str, WireValue] = {"class": type(error).__name__}
    encoded |= {item.name: getattr(error, item.name) for item in fields(error)}
    cause = cause_of(error)
    if cause is not None:
        encoded["cause"] = error_to_wire(cause)
    return encoded


def error_from_wire(encoded: Mapping[str, WireValue]) -> InferenceError:
    """Rebuild what `error_to_wire` encoded; an unknown class becomes an `InternalError`."""
    found = _classes().get(str(encoded["class"]), InternalError)
    known = {item.name for item in fields(found)}
    error = found(**{name: value for name, value in encoded.items() if name in known})  # type: ignore[arg-type]
    if isinstance(error, UpstreamError):
        error.retry = Retry(error.retry)
    cause = encoded.get("cause")
    if isinstance(cause, dict):
        error.__cause__ = error_from_wire(cause)
    return error


def _classes() -> dict[str, type[InferenceError]]:
    found: dict[str, type[InferenceError]] = {}
    waiting = [InferenceError]
    while waiting:
        cls = waiting.pop()
        found[cls.__name__] = cls
        waiting += cls.__subclasses__()
    return found
