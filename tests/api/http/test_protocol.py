"""The limits of a connection, and what happens to a request whose client is gone."""

from __future__ import annotations

import asyncio
import gc
import json
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from uvicorn.server import ServerState

from inferry.api.http.crowd import HttpLimits
from inferry.api.http.protocol import protocol_factory

REQUEST = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Waiting:
    """Answers `/x` at once, and anything else never; it knows how that ended."""

    def __init__(self) -> None:
        self.began, self.was_cancelled = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        if scope["path"] != "/x":
            self.began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.was_cancelled.set()
                raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def serve(application, at_once=lambda *_: None, **limits) -> AsyncIterator[int]:
    """Listen with the protocol, and nothing else of a server."""
    config = uvicorn.Config(application, log_config=None, lifespan="off", ws="none")
    state, make = ServerState(), protocol_factory(HttpLimits(**limits), at_once)
    server = await asyncio.get_running_loop().create_server(
        lambda: make(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.close()
        await server.wait_closed()


async def talk(port, *parts: bytes) -> bytes:
    """Send parts and give everything until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received


def status_of(received: bytes) -> int:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"x-elastic-product: Elasticsearch" in head
    assert json.loads(body)["error"]
    return int(head.split(b" ")[1])


async def test_a_head_may_have_its_limit_and_no_more():
    filler = b"x" * 500
    head = b"GET /x HTTP/1.1\r\nConnection: close\r\nX: " + filler

    async with serve(Waiting(), max_head_bytes=600) as port:
        fits = await talk(port, head + b"\r\n\r\n")
        is_whole = await talk(port, head + filler + b"\r\n\r\n")
        is_half = await talk(port, head + filler)

    assert fits.startswith(b"HTTP/1.1 200 ")
    assert (status_of(is_whole), status_of(is_half)) == (431, 431)


async def test_a_body_counts_for_nothing_in_the_head():
    body = b"x" * 5000
    head = b"POST /x HTTP/1.1\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n"

    async with serve(Waiting(), max_head_bytes=600) as port:
        assert (await talk(port, head + body)).startswith(b"HTTP/1.1 200 ")


async def test_many_requests_in_one_packet_have_a_limit_each():
    async with serve(Waiting(), max_head_bytes=600) as port:
        received = await talk(port, REQUEST * 50 + LAST)

    assert received.count(b"HTTP/1.1 200 ") == 51


async def test_a_head_that_does_not_come_closes_the_connection():
    async with serve(Waiting(), head_timeout_s=0.05) as port:
        nothing = await talk(port)
        half = await talk(port, b"GET /x HTT")

    assert nothing == b""
    assert status_of(half) == 408


async def test_a_second_head_that_does_not_come_closes_the_connection():
    async with serve(Waiting(), head_timeout_s=0.05) as port:
        received = await talk(port, REQUEST + b"GET /x HTT")

    assert received.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408 " in received


async def test_a_connection_that_rests_makes_room_for_another():
    async with serve(Waiting(), max_connections=2) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        opened[1][1].write(b"GET /x HTT")

        received = [await talk(port, LAST) for _ in range(2)]

        assert [one[:13] for one in received] == [b"HTTP/1.1 200 "] * 2
        for _, writer in opened:
            writer.close()


async def test_too_many_connections_are_told_when_all_are_busy():
    application = Waiting()
    async with serve(application, max_connections=1) as port:
        _, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        await application.began.wait()

        refused = await talk(port)

        first.close()
        await first.wait_closed()
    assert status_of(refused) == 503


async def test_one_address_has_so_many_connections_and_others_have_theirs():
    async with serve(Waiting(), max_connections_per_address=1) as port:
        _, first = await asyncio.open_connection("127.0.0.1", port)

        refused = await talk(port)
        reader, other = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=("127.0.0.2", 0)
        )
        other.write(LAST)
        entered = await reader.read()
        other.close()
        first.close()

    assert status_of(refused) == 503
    assert b"too many open connections from [127.0.0.1]" in refused
    assert entered.startswith(b"HTTP/1.1 200 ")


async def test_an_address_that_closes_a_connection_may_open_another():
    async with serve(Waiting(), max_connections_per_address=1) as port:
        received = [await talk(port, LAST) for _ in range(5)]

    assert [one[:13] for one in received] == [b"HTTP/1.1 200 "] * 5


@pytest.mark.parametrize(("pause_s", "said", "status"), [(0.0, LAST, 200), (60.0, b"", 503)])
async def test_a_full_house_is_not_searched_for_everybody_who_knocks(
    monkeypatch, pause_s, said, status
):
    monkeypatch.setattr("inferry.api.http.protocol._FULL_S", pause_s)
    application = Held()
    async with serve(application, max_connections=1) as port:
        reader, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(REQUEST)
        await application.began.wait()
        refused = await talk(port)
        application.go_on.set()
        await reader.readuntil(b"\r\n\r\n")

        came_later = await talk(port, said)

        first.close()
    assert status_of(refused) == 503
    assert came_later.startswith(b"HTTP/1.1 %d " % status)


async def test_a_client_that_hangs_up_cancels_its_request():
    application = Waiting()
    async with serve(application) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        await application.began.wait()

        writer.close()

        await asyncio.wait_for(application.was_cancelled.wait(), 5)


@pytest.mark.parametrize("rubbish", [b"rubbish\r\n\r\n", b"\x00\x01"])
async def test_rubbish_behind_a_request_is_not_taken_for_its_answer(rubbish):
    async with serve(Waiting()) as port:
        received = await talk(port, REQUEST + rubbish)

    assert received.startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_breaks_off_cancels_the_request_and_is_told():
    application = Waiting()
    head = b"POST /wait HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serve(application) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        await application.began.wait()
        writer.write(b"no chunk\r\n")

        received = await reader.read()

        writer.close()
        await writer.wait_closed()
    assert application.was_cancelled.is_set()
    assert status_of(received) == 400


class Writes(asyncio.Transport):
    """A transport that keeps what it is told to write, and tells when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = asyncio.Event()

    def write(self, data) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()


async def answer_in_parts(scope, receive, send) -> None:
    """Send ten parts without a pause, then more after one."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(10):
        await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
    await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"end"})


async def test_parts_that_come_together_leave_in_one_write():
    config = uvicorn.Config(answer_in_parts, log_config=None, lifespan="off", ws="none")
    config.load()
    make = protocol_factory(HttpLimits())
    protocol = make(config=config, server_state=ServerState(), app_state={})
    transport = Writes()

    protocol.connection_made(transport)
    protocol.data_received(LAST)
    await transport.closed.wait()

    together, after = transport.writes
    assert together.startswith(b"HTTP/1.1 200 OK")
    assert together.endswith(b"".join(b"1\r\n%d\r\n" % number for number in range(10)))
    assert after == b"3\r\nend\r\n0\r\n\r\n"
    protocol.connection_lost(None)


def number_at_once(scope, _=None):
    """Answer `/n?<number>` with the number, at once."""
    if scope["path"] != "/n":
        return None
    body = scope["query_string"]
    return 200, [(b"content-length", b"%d" % len(body))], body


async def number_later(scope, receive, send) -> None:
    """Answer the same the usual way, and `/x` with nothing."""
    await asyncio.sleep(0)
    status, headers, body = number_at_once(scope) or (200, [(b"content-length", b"0")], b"")
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("first", [b"", REQUEST])
async def test_answers_keep_the_order_of_their_requests_however_many_wait(first):
    asked = [b"GET /n?%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(2000)]
    last = b"GET /n?last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

    async with serve(number_later, number_at_once) as port:
        received = await talk(port, first + b"".join(asked) + last)

    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK")[1:]]
    numbers = [b"%d" % number for number in range(2000)]
    assert bodies[bool(first) :] == [*numbers, b"last"]


async def test_a_request_leaves_nothing_for_the_garbage_collector():
    async with serve(Waiting()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        gc.disable()
        try:
            for _ in range(10):
                writer.write(REQUEST)
                await reader.readuntil(b"done")
            left = [one for one in gc.get_objects() if type(one).__name__ == "DirectConnection"]
        finally:
            gc.enable()
        writer.close()

    assert len(left) <= 1


async def test_a_line_end_in_a_header_never_reaches_the_wire():
    def split(*_):
        return 200, [(b"x", b"a\r\nset-cookie: b"), (b"content-length", b"0")], b""

    async with serve(Waiting(), split) as port:
        received = await talk(port, LAST)

    assert received.endswith(b"done\r\n0\r\n\r\n")
    assert b"set-cookie" not in received


# --- floods --------------------------------------------------------------------------------------

CHUNKED = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("end", [b"a:b\r\n\r\n", b"a:b\r\na:b"])
async def test_a_head_has_a_number_of_headers(end):
    async with serve(Waiting(), max_headers=20) as port:
        fits = await talk(port, LAST[:-2] + b"a:b\r\n" * 18 + b"\r\n")
        is_too_much = await talk(port, LAST[:-2] + b"a:b\r\n" * 18 + end)

    assert fits.startswith(b"HTTP/1.1 200 ")
    assert status_of(is_too_much) == 431


@pytest.mark.parametrize("cut", [-2, -1, 0])
async def test_the_lines_of_a_body_are_no_headers(cut):
    body = b"\n" * 1000
    head = b"POST /x HTTP/1.1\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
    sent = head + body
    at = len(head) + cut

    async with serve(Waiting(), max_headers=20) as port:
        received = await talk(port, sent[:at], sent[at:])
        received_whole = await talk(port, sent)

    assert received.startswith(b"HTTP/1.1 200 ")
    assert received_whole.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("flood", [b"a: b\r\n", b"a: " + b"x" * 5000])
async def test_what_follows_a_body_without_end_is_cut_off(flood):
    """Trailers come after the answer, and nothing else limits them."""
    async with serve(Waiting(), max_head_bytes=600) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(CHUNKED + b"0\r\n")

        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(flood * 100)
                await writer.drain()
                await asyncio.sleep(0)
            await reader.read()

        writer.close()


async def test_a_body_that_is_none_is_cut_off_before_it_is_answered():
    application = Waiting()
    head = CHUNKED.replace(b"/x", b"/wait")
    async with serve(application, max_head_bytes=600) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        await application.began.wait()
        writer.write(b"1;" + b"x" * 5000)

        received = await reader.read()

        writer.close()
    assert status_of(received) == 431


async def test_the_rest_of_a_body_that_nobody_reads_ends_the_connection():
    async with serve(Waiting(), head_timeout_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
        assert (await reader.readuntil(b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0)

        writer.close()


async def test_a_body_that_comes_after_its_answer_leaves_the_connection_open():
    async with serve(Waiting()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\na")
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"bcd" + LAST)

        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")

        writer.close()


async def test_requests_that_wait_behind_others_are_counted_over_all_connections():
    application = Held()
    async with serve(application, max_waiting=10) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST * 8 + LAST)
        await application.began.wait()

        refused = await talk(port, REQUEST * 4)
        application.go_on.set()
        answered = await reader.read()
        again = await talk(port, REQUEST * 10 + LAST)

        writer.close()
    assert status_of(refused) == 503
    assert answered.count(b"HTTP/1.1 200 ") == 9
    assert again.count(b"HTTP/1.1 200 ") == 11


class Held:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        self.began.set()
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def test_half_a_head_does_not_get_into_the_answer_before_it():
    application = Streaming()
    async with serve(application, head_timeout_s=0.02) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + b"GET /x HTT")
        await application.said.wait()
        await asyncio.sleep(0)
        application.go_on.set()

        received = await reader.read()

        writer.close()
    answer, _, rest = received.partition(b"0\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"5\r\nfirst\r\n4\r\nlast\r\n")
    assert rest.startswith(b"HTTP/1.1 408 ")


class Streaming:
    """Says `first`, waits for longer than a head may take, and says `last`."""

    def __init__(self) -> None:
        self.said, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        late = asyncio.get_running_loop().call_later(0.06, self.go_on.set)
        self.said.set()
        await self.go_on.wait()
        late.cancel()
        await send({"type": "http.response.body", "body": b"last"})


async def answer_much(scope, receive, send) -> None:
    """Answer more than any buffer between here and the client holds."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(64 * 2**20)})


async def test_a_client_that_does_not_read_is_cut_off():
    async with serve(answer_much, write_timeout_s=0.05) as port:
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, REQUEST)

            waiting = select.poll()
            waiting.register(client, 0)  # for nothing but errors

            [(_, event)] = await asyncio.to_thread(waiting.poll, 30_000)

    assert event & select.POLLERR


async def test_a_client_that_reads_on_gets_everything():
    async with serve(answer_much, write_timeout_s=0.5) as port:
        received = await talk(port, LAST)

    assert len(received) > 64 * 2**20
