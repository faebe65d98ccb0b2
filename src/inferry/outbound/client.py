"""The only door to the outside: the connection pools of a process.

Nothing else in the tree opens an outgoing connection to a provider. No redirects, no cookies, TLS
always verified, and every address passes `egress`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec
from yarl import URL

from inferry.calls import Event, HttpCall, HttpReply
from inferry.concurrency import IdleLimit, Nursery, time_limit
from inferry.domain import Deadline
from inferry.egress import EgressRules
from inferry.errors import (
    BadRequest,
    InferenceError,
    Retry,
    UnreadableReply,
    UpstreamError,
    UpstreamUnreachable,
)
from inferry.outbound.attempts import Attempts
from inferry.outbound.clock import Clock, SystemClock
from inferry.outbound.credentials import Credentials
from inferry.outbound.resolver import CheckingResolver, open_socket
from inferry.outbound.retry import RetryPolicy, retry_after_s
from inferry.outbound.streams import DECODERS, Decoder
from inferry.protocols import EventStream, Exchange
from inferry.sections import OutboundSection
from inferry.service import Framing

T = TypeVar("T")

_AUTH_TIMEOUT_S = 30.0
_KEEPALIVE_S = 60.0
_MAX_CHECKED_URLS = 4096
_HEADERS = {"User-Agent": "inferry", "Accept-Encoding": "gzip"}


class Client:
    """Implements `protocols.Outbound`; made by `open_client`."""

    def __init__(
        self,
        sessions: Mapping[str, aiohttp.ClientSession],
        section: OutboundSection,
        *,
        rules: EgressRules,
        nursery: Nursery,
        clock: Clock,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sessions = sessions
        self._rules = rules
        self._clock = clock
        self._max_bytes = section.max_response_bytes
        self._idle_timeout_s = section.stream_idle_timeout_s
        self._proxy = section.proxy
        self._base_urls = section.base_urls
        self._attempts = Attempts(RetryPolicy(), clock, self._loop)
        self._credentials = Credentials(self._send_for_auth, nursery=nursery, now=clock.now)
        self._checked: dict[str, URL] = {}

    async def exchange(self, exchange: Exchange, read: Callable[[HttpReply], T]) -> T:
        """Send and give `read(reply)`; see `protocols.Outbound`."""
        exchange, url = self._addressed(exchange)

        async def once() -> T:
            response = await self._send_signed(exchange, url)
            try:
                return read(await self._whole(response))
            except InferenceError as error:
                self._note_retry_after(error, response)
                raise

        group = exchange.group or str(url.raw_host)
        return await self._attempts.run(once, group=group, deadline=exchange.deadline)

    @asynccontextmanager
    async def stream(
        self, exchange: Exchange, *, framing: Framing, refuse: Callable[[HttpReply], Exception]
    ) -> AsyncIterator[EventStream]:
        """Open a stream; see `protocols.Outbound`."""
        decoder = DECODERS[framing]()
        response = await self._open(exchange, refuse)
        idle = IdleLimit(self._idle_timeout_s, self._loop)
        try:
            yield _OpenStream(response, decoder, exchange.deadline, idle)
        finally:
            idle.close()
            response.close()

    async def _open(
        self, exchange: Exchange, refuse: Callable[[HttpReply], Exception]
    ) -> aiohttp.ClientResponse:
        exchange, url = self._addressed(exchange)

        async def once() -> aiohttp.ClientResponse:
            response = await self._send_signed(exchange, url)
            if 200 <= response.status < 300:
                return response
            try:
                raise refuse(await self._whole(response))
            except InferenceError as error:
                self._note_retry_after(error, response)
                raise

        group = exchange.group or str(url.raw_host)
        return await self._attempts.run(once, group=group, deadline=exchange.deadline)

    async def _send_signed(self, exchange: Exchange, url: URL) -> aiohttp.ClientResponse:
        """Send with credentials; when they are refused, once more with others, if there are any."""
        call = exchange.call
        headers = await self._credentials.headers(exchange)
        response = await self._send(call, url, headers)
        if response.status == 401 and self._credentials.refused(exchange, headers):
            response.close()
            response = await self._send(call, url, await self._credentials.headers(exchange))
        return response

    async def _send(
        self, call: HttpCall, url: URL, credentials: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        try:
            return await self._sessions[url.scheme].request(
                call.method,
                url,
                data=call.body or None,
                headers={**call.headers, **credentials},
                allow_redirects=False,
                proxy=self._proxy,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error, url) from _root_of(error)
        except ValueError as error:  # a header or a method that HTTP cannot carry
            raise BadRequest(
                f"Failed to send request to [{_place(url)}]: invalid header"
            ) from error

    async def _send_for_auth(self, call: HttpCall) -> HttpReply:
        url = self._check(call.url)
        try:
            with time_limit(_AUTH_TIMEOUT_S, self._loop):
                return await self._whole(await self._send(call, url, {}))
        except TimeoutError as error:
            raise _unreachable(error, url) from error

    async def _whole(self, response: aiohttp.ClientResponse) -> HttpReply:
        """Read the body to its end, which sets the connection free, or close it.

        Within the size limit, and no longer than the caller waits.
        """
        parts: list[bytes] = []
        size = 0
        try:
            while part := await response.content.readany():
                size += len(part)
                if size > self._max_bytes:
                    raise _too_large(response.url, self._max_bytes)
                parts.append(part)
        except BaseException as error:
            response.close()
            if isinstance(error, aiohttp.ClientError | OSError):
                raise _unreachable(error, response.url) from _root_of(error)
            raise
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return HttpReply(response.status, response.headers, body, str(response.url))

    def _addressed(self, exchange: Exchange) -> tuple[Exchange, URL]:
        """Give the exchange with the URL to call, which a signature covers, and that URL checked.

        The operator may put another origin in a provider's default place; an endpoint that names
        its own `url` is left alone.
        """
        call, endpoint = exchange.call, exchange.endpoint
        origin = self._base_urls.get(endpoint.service)
        if origin is not None and "url" not in endpoint.service_settings:
            path = urlunsplit(("", "", *urlsplit(call.url)[2:]))
            call = replace(call, url=origin.rstrip("/") + path)
            exchange = msgspec.structs.replace(exchange, call=call)
        return exchange, self._check(call.url)

    def _check(self, text: str) -> URL:
        url = self._checked.get(text)
        if url is not None:
            return url
        url = self._rules.check_url(text)
        if len(self._checked) >= _MAX_CHECKED_URLS:
            self._checked.clear()
        self._checked[text] = url
        return url

    def _note_retry_after(self, error: InferenceError, response: aiohttp.ClientResponse) -> None:
        if isinstance(error, UpstreamError) and error.retry_after_s is None:
            error.retry_after_s = retry_after_s(response.headers, self._clock.now())


class _OpenStream:
    """Reads events off a response: the first under the deadline, then each within the idle time."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        decoder: Decoder,
        deadline: Deadline,
        idle: IdleLimit,
    ) -> None:
        self._response = response
        self._decoder = decoder
        self._deadline = deadline
        self._idle = idle

    async def events(self) -> AsyncGenerator[list[Event]]:
        """Give the events as they arrive; see `protocols.EventStream`."""
        has_begun = False
        while chunk := await (self._next() if has_begun else self._first()):
            if events := self._decoder.feed(chunk):
                has_begun = True
                yield events
        if events := self._decoder.finish():
            yield events

    async def _first(self) -> bytes:
        """Read before the first event, for as long as the caller waits."""
        try:
            with time_limit(self._deadline.left_s()):
                return await self._read()
        except TimeoutError:
            raise self._deadline.exceeded() from None

    async def _next(self) -> bytes:
        """Read on, for as long as the provider is not idle."""
        try:
            return await self._idle.wait(self._read())
        except TimeoutError as error:
            raise UpstreamUnreachable(
                f"[{_place(self._response.url)}] sent nothing for "
                f"[{self._idle.seconds:g}s] within a stream"
            ) from error

    async def _read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamUnreachable(
                f"The stream of [{_place(self._response.url)}] broke"
            ) from _root_of(error)


@asynccontextmanager
async def open_client(
    section: OutboundSection, *, allow_private_networks: bool, clock: Clock | None = None
) -> AsyncIterator[Client]:
    """Open the pools of a process; leaving closes every connection."""
    rules = EgressRules(allow_private_networks, section.allow_hosts)
    context = ssl.create_default_context()
    if section.ca_file is not None:
        context.load_verify_locations(cafile=section.ca_file)
    async with (
        Nursery() as nursery,
        _open_session(section, rules, context, is_plain=False) as secure,
        _open_session(section, rules, context, is_plain=True) as plain,
    ):
        sessions = {"https": secure, "http": plain}
        yield Client(sessions, section, rules=rules, nursery=nursery, clock=clock or SystemClock())


def _open_session(
    section: OutboundSection, rules: EgressRules, context: ssl.SSLContext, *, is_plain: bool
) -> aiohttp.ClientSession:
    """Open the pool of a scheme.

    A pool remembers addresses of names, and by http only private ones may be called: what one has
    checked must not serve the other.
    """
    is_direct = section.proxy is None  # through a proxy the address is its business
    connector = aiohttp.TCPConnector(
        ssl=context,
        limit=section.max_connections,
        keepalive_timeout=_KEEPALIVE_S,
        resolver=CheckingResolver(rules, is_plain=is_plain) if is_direct else None,
        socket_factory=partial(open_socket, rules=rules, is_plain=is_plain) if is_direct else None,
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=section.connect_timeout_s),
        trust_env=False,
    )


def _unreachable(error: Exception, url: URL) -> UpstreamUnreachable:
    """Translate a failure of the transport; a name that nobody knows is final."""
    is_final = isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.InvalidURL)
    is_final = is_final or isinstance(error, aiohttp.ClientConnectorCertificateError)
    return UpstreamUnreachable(
        f"Failed to send request to [{_place(url)}]",
        retry=Retry.NO if is_final else Retry.YES,
    )


def _root_of(error: Exception) -> Exception:
    """Give the socket's error inside the library's."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return ConnectionResetError("the connection was closed before an answer")
    if isinstance(error, aiohttp.ClientOSError) and error.errno is not None:
        return OSError(error.errno, error.strerror)  # gives the subclass of the number
    return error


def _too_large(url: URL, limit: int) -> UnreadableReply:
    return UnreadableReply(f"The answer of [{_place(url)}] is larger than [{limit}] bytes")


def _place(url: URL) -> str:
    """Name host and port; never path or query, which may hold secrets."""
    return url.raw_host or "" if url.is_default_port() else f"{url.raw_host}:{url.port}"
