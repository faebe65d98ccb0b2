"""The core of a hosted runner: build, send, read, and check what came back.

The texts of failures are those that callers of the Inference API match on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec

from inferry.calls import Event, HttpReply
from inferry.core.runners.checks import check_result
from inferry.core.runners.runner import Chunks
from inferry.core.runners.truncate import halve, mark_truncated
from inferry.domain import ChatChunk, Endpoint, InferenceRequest, Result
from inferry.errors import (
    ForeignError,
    InternalError,
    Retry,
    UnreadableReply,
    UpstreamError,
    UpstreamUnreachable,
    cause_of,
)
from inferry.protocols import Exchange, Outbound
from inferry.redaction import redact
from inferry.service import ErrorRow, HttpTask, ProviderError, Reduce, Service

_ATTEMPTS = 3
_LONGEST_MESSAGE = 4096
_LONGEST_READ = 64 * 1024
_LONG = 8
_PLACEHOLDER = re.compile(r"\{([a-z0-9-]+)\}")
_NO_ROW = ErrorRow(0, 999, "Received an unsuccessful status code")


class Sender:
    """Calls the provider of one endpoint, whose secrets are present.

    group: the rate-limit group. count: told the status of every answer, None when there was none.
    dimensions: width that dense vectors must have, None when it is not known yet.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        service: Service,
        task: HttpTask,
        *,
        outbound: Outbound,
        group: str,
        count: Callable[[int | None], None],
        dimensions: int | None,
    ) -> None:
        self._endpoint = endpoint
        self._service = service
        self._task = task
        self._outbound = outbound
        self._group = group
        self._count = count
        self._dimensions = dimensions
        self._secrets = tuple(endpoint.secrets.values())

    async def run(self, request: InferenceRequest) -> Result:
        """Call once; inputs that the provider finds too long are cut and sent again."""
        attempt, was_cut = 1, False
        while True:
            try:
                result = await self._exchange(request)
            except UpstreamError as error:
                if isinstance(error, UpstreamUnreachable):
                    self._count(None)
                shorter = halve(request) if error.retry is Retry.SHORTER else None
                if shorter is None or attempt == _ATTEMPTS:
                    raise self._redacted(error) from error.__cause__
                request, was_cut = shorter, True
                attempt += 1
            else:
                return mark_truncated(result, range(len(request.inputs))) if was_cut else result

    async def stream(self, request: InferenceRequest) -> Chunks:
        """Give the chunks of a streamed answer as they arrive."""
        decode = self._task.decode
        if decode is None:
            raise InternalError(f"The service [{self._service.name}] does not stream this task")
        request = replace(request, stream=True)
        reduce = decode(request)
        opened = self._outbound.stream(
            self._exchange_of(request), framing=self._task.framing, refuse=self._refuse
        )
        is_open = False
        try:
            async with opened as stream:
                is_open = True
                self._count(200)
                async with aclosing(stream.events()) as events:
                    async for together in events:
                        made = _reduce_all(reduce, together)
                        if made.chunks:
                            yield made.chunks
                        if made.failure is not None:
                            raise made.failure
                        if made.is_over:
                            return
        except UpstreamError as error:
            if isinstance(error, UpstreamUnreachable) and not is_open:
                self._count(None)
            raise self._redacted(error) from error.__cause__

    async def _exchange(self, request: InferenceRequest) -> Result:
        return await self._outbound.exchange(
            self._exchange_of(request), lambda reply: self._read(reply, request)
        )

    def _exchange_of(self, request: InferenceRequest) -> Exchange:
        return Exchange(
            self._task.build(request),
            self._endpoint,
            self._service.auth,
            request.deadline,
            self._group,
        )

    def _read(self, reply: HttpReply, request: InferenceRequest) -> Result:
        self._count(reply.status)
        if not 200 <= reply.status < 300:
            raise self.refusal(reply)
        if not reply.body:
            raise UnreadableReply(
                f"Response body was empty for request from inference entity id "
                f"[{self._endpoint.inference_id}]",
                upstream_status=reply.status,
                retry=Retry.YES,
            )
        try:
            result = self._task.parse(reply, request)
        except UnreadableReply as error:
            raise self._unreadable(reply, error) from error.__cause__
        except msgspec.MsgspecError as error:
            raise self._unreadable(reply, UnreadableReply(str(error))) from error
        return check_result(result, request, dimensions=self._dimensions)

    def refusal(self, reply: HttpReply) -> UpstreamError:
        """Give the error for a status other than 2xx, as the service's rows say."""
        provider = self._provider_error(reply)
        row = _row_of(self._service.errors, reply.status, provider.message or "")
        prefix = _PLACEHOLDER.sub(lambda found: self._value(found[1], reply), row.text)
        return UpstreamError(
            f"{prefix} for request from inference entity id [{self._endpoint.inference_id}] "
            f"status [{reply.status}]{_tail(provider)}",
            upstream_status=reply.status,
            code=provider.code,
            param=provider.param,
            kind=provider.kind,
            retry=row.retry,
        )

    def _refuse(self, reply: HttpReply) -> Exception:
        self._count(reply.status)
        return self.refusal(reply)

    def _unreadable(self, reply: HttpReply, error: UnreadableReply) -> UpstreamError:
        """Tell an error object in a 2xx answer from an answer that makes no sense."""
        provider = self._provider_error(reply)
        if provider.message:
            return UpstreamError(
                "Received an error response for request from inference entity id "
                f"[{self._endpoint.inference_id}] status [{reply.status}]{_tail(provider)}",
                upstream_status=reply.status,
                code=provider.code,
                param=provider.param,
                kind=provider.kind,
            )
        error.upstream_status, error.retry = reply.status, Retry.YES
        return error

    def _provider_error(self, reply: HttpReply) -> ProviderError:
        read = self._service.error_message
        provider = read(reply) if read is not None else ProviderError()
        # Cut afterwards: half a secret is not found any more.
        message = self._masked(provider.message and provider.message[:_LONGEST_READ])
        return ProviderError(
            message and message[:_LONGEST_MESSAGE],
            self._masked(provider.code),
            self._masked(provider.param),
            self._masked(provider.kind),
        )

    def _value(self, name: str, reply: HttpReply) -> str:
        value = reply.url if name == "url" else reply.headers.get(name, "unknown")
        return redact(value, self._secrets)

    def _masked(self, words: str | None) -> str | None:
        return words and redact(words, self._secrets)

    def _redacted(self, error: UpstreamError) -> UpstreamError:
        """Mask secrets in what others than `refusal` wrote: services, the transport, libraries.

        In our own words a short secret may be just a word.
        """
        error.message = redact(error.message, [one for one in self._secrets if len(one) >= _LONG])
        error.code, error.param = self._masked(error.code), self._masked(error.param)
        error.kind = self._masked(error.kind)
        cause = cause_of(error)
        if isinstance(cause, ForeignError):
            cause.message = redact(cause.message, self._secrets)
            error.__cause__ = cause
        elif isinstance(cause, UpstreamError):
            self._redacted(cause)
        return error


@dataclass(slots=True)
class _Made:
    """What came of events that arrived together, as far as they made sense."""

    chunks: list[ChatChunk]
    is_over: bool = False
    failure: UpstreamError | None = None


def _reduce_all(reduce: Reduce, events: list[Event]) -> _Made:
    made = _Made([])
    try:
        for event in events:
            chunks = reduce(event)
            if chunks is None:
                made.is_over = True
                break
            made.chunks += chunks
    except UpstreamError as error:
        made.failure = error
    return made


def _row_of(rows: tuple[ErrorRow, ...], status: int, message: str) -> ErrorRow:
    for row in rows:
        if row.first <= status <= row.last and row.contains in message:
            return row
    return _NO_ROW


def _tail(provider: ProviderError) -> str:
    return f". Error message: [{provider.message}]" if provider.message else ""
