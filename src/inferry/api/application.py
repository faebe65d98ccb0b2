"""The ASGI application: from a request to an answer, once for all routes.

Order: route → who is it (401, also where there is no route) → no route (400, 405) → may they (403)
→ media types (406, 400) → query parameters → body → handler. Errors are rendered by the dialect of
the route; `filter_path`, `pretty` and gzip act on whatever comes out. No middleware, no framework:
this is the hot path.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable
from time import perf_counter
from typing import Any, Final, TypeAlias

from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.head import Head, read_head
from inferry.api.http.direct import DIRECT, Direct, Kept, Pairs, Whole
from inferry.api.http.media_types import MediaTypes, Negotiated
from inferry.api.http.reading import Reading
from inferry.api.http.rendering import check_rendering
from inferry.api.http.request_body import BodyLimits, BodyReader, Receive, has_body
from inferry.api.http.responding import PRODUCT, Responder, Send, transform
from inferry.api.parameters import check_parameters, parse_query
from inferry.api.routes import Match, RouteTable
from inferry.api.strict_json import TOO_DEEP
from inferry.api.watch import Watch, origin_of
from inferry.errors import (
    IllegalArgument,
    InferenceError,
    InternalError,
    MethodNotAllowed,
    UnreadableBody,
)
from inferry.key_limits import bind_key_holder
from inferry.origin import bind_origin
from inferry.security.gate import Gate, Principal
from inferry.telemetry import bind_request_id, get_logger

Scope: TypeAlias = dict[str, Any]

_NOBODY: Final = Principal("", kind="anonymous")
_SAFE_VALUE: Final = re.compile(r"[\x20-\x7e\x80-\xff]{1,256}")


class Application:
    """Serves a route table behind a gate.

    bodies: what those of requests may take. watch: told of every request. reading: where bodies
    are read that may take long.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        gate: Gate,
        *,
        bodies: BodyLimits,
        watch: Watch,
        reading: Reading,
    ) -> None:
        self._table = RouteTable(routes)
        self._gate = gate
        self._bodies = BodyReader(bodies, reading)
        self._watch = watch
        self._reading = reading
        self._media_types = MediaTypes()
        self._responder = Responder()
        self._log = get_logger(component="api")
        self._id_prefix = secrets.token_hex(6)
        self._ids = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        started = perf_counter()
        head = read_head(scope["headers"], self._media_types)
        request = _request_of(scope, head)
        pairs = self._identify(request)
        bind_request_id(request.id)
        direct: Direct | None = scope.get("extensions", {}).get(DIRECT)
        answer: Answer | None = None
        try:
            answer = await self._answer(request, head.agreed, receive, direct)
            await self._responder.send(answer, request, pairs, send, direct=direct)
        finally:
            self._watch.ended(request, answer, perf_counter() - started)

    def answer_at_once(self, scope: Scope, kept: Kept) -> Whole | None:
        """Answer without waiting; None when the request must go the usual way, also to be refused.

        Reads of the snapshot by somebody known cost half as much this way: no task, no messages.
        What `kept` has of the connection's last request need not be found out again.
        """
        found = self._table.recall(scope["method"], scope["raw_path"].decode("latin-1"))
        if found is None or not found.answers_at_once or scope["query_string"]:
            return None
        started = perf_counter()
        head: Head | None = kept.head
        if head is None or head.raw != scope["headers"]:
            head = read_head(scope["headers"], self._media_types)
            if not head.is_plain:
                return None
            kept.head = head
        try:
            known = self._recall(head, found.route)
            if known is None:
                return None
            request = _request_of(scope, head, principal=known)
            request.path_values, request.route = found.values, found.route.path
            answer = found.route.handler(request)
            if isinstance(answer, Answer):
                whole = self._responder.whole(answer, request, self._identify(request))
                if whole is not None:
                    self._watch.ended(request, answer, perf_counter() - started)
                return whole
        except Exception:  # noqa: BLE001, S110  the usual way tells what is wrong
            pass
        return None

    def _recall(self, head: Head, route: Route) -> Principal | None:
        """Give who asks, if they are known and may; raises what the usual way refuses them with.

        What the gate said stands as long as the login does that it said it of.
        """
        if route.is_open:
            self._admit(route, head.agreed, _NOBODY)
            return _NOBODY
        if head.entered is not None:
            login, entered = head.entered
            if entered is route and self._gate.holds(login):
                return login.principal
        known = self._gate.recall(head.values)
        if known is None:
            return None
        self._admit(route, head.agreed, known.principal)
        head.entered = known, route
        return known.principal

    async def _answer(
        self, request: Request, agreed: Negotiated, receive: Receive, direct: Direct | None
    ) -> Answer:
        """Give the answer as it goes out, whatever happens."""
        found = self._table.find(request.method, request.path, request.uri)
        render = render_error if isinstance(found, InferenceError) else found.route.render_error
        try:
            try:
                if isinstance(found, InferenceError):
                    answer = await self._answer_unrouted(found, request)
                else:
                    answer = await self._run(found, agreed, request, receive, direct)
            except InferenceError as error:
                self._watch.failed(request, error, found)
                answer = render(error, request)
            return await transform(answer, request)
        except Exception:  # noqa: BLE001  the outermost handler
            self._log.exception("request failed", method=request.method, path=request.path)
            return render(InternalError("internal server error"), request)

    async def _answer_unrouted(self, refusal: InferenceError, request: Request) -> Answer:
        if request.method == "OPTIONS" and isinstance(refusal, MethodNotAllowed):
            return Answer(headers={"Allow": refusal.allowed})
        await self._gate.authenticate(request.headers, request.uri, address=request.address)
        raise refusal

    async def _run(
        self,
        found: Match,
        agreed: Negotiated,
        request: Request,
        receive: Receive,
        direct: Direct | None,
    ) -> Answer:
        route = found.route
        request.path_values, request.route = found.values, route.path
        if not route.is_open:
            request.principal = await self._gate.authenticate(
                request.headers, request.uri, address=request.address
            )
        self._admit(route, agreed, request.principal)
        if request.query:
            check_rendering(request.query)
            check_parameters(request.query, route.parameters, request.path)
        holder = request.principal.holder
        if holder is not None:
            bind_key_holder(holder)
        if route.changes:
            bind_origin(origin_of(request, route.action))
        if not has_body(request.headers):
            return await route.answer(request)
        if not route.takes_body:
            where = f"{request.method} {request.path}"
            raise IllegalArgument(f"request [{where}] does not support having a body")
        request.reading = self._reading
        with self._bodies.hold() as held:
            request.body = await self._bodies.read(
                request.headers, receive, held, max_bytes=route.max_body_bytes, direct=direct
            )
            try:
                return await route.answer(request)
            except RecursionError as error:  # what reads or passes on a body gave up on its depth
                raise UnreadableBody(f"[1:1] {TOO_DEEP}") from error
            finally:
                request.body = b""  # a stream would hold it to its end

    def _admit(self, route: Route, agreed: Negotiated, principal: Principal) -> None:
        """Refuse what the caller may not do, or asks for in media types that we do not speak."""
        if not route.is_open and route.action is not None:
            self._gate.authorize(principal, route.action)
        if route.has_media_types:
            agreed.check()

    def _identify(self, request: Request) -> Pairs:
        """Give the request its id, and give the headers that stand on every answer."""
        headers = request.headers
        request_id = headers.get("x-request-id", "")
        if not _SAFE_VALUE.fullmatch(request_id):
            request_id = f"{self._id_prefix}-{next(self._ids):x}"
        request.id = request_id
        pairs = [PRODUCT, (b"x-request-id", request_id.encode("latin-1"))]
        opaque_id = headers.get("x-opaque-id")
        if opaque_id is not None and _SAFE_VALUE.fullmatch(opaque_id):
            pairs.append((b"x-opaque-id", opaque_id.encode("latin-1")))
        return pairs


def _request_of(scope: Scope, head: Head, *, principal: Principal = _NOBODY) -> Request:
    path = scope["raw_path"].decode("latin-1")
    query = scope["query_string"]
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=path,
        uri=f"{path}?{query.decode('latin-1')}" if query else path,
        headers=head.values,
        query=parse_query(query) if query else {},
        principal=principal,
        compatible_with=head.agreed.compatible_with,
        address=client[0] if client else "",
    )


async def _live(receive: Receive, send: Send) -> None:
    """Follow the server's start and end; what lives that long is owned by whoever built us."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
