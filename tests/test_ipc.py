"""How the processes of a host talk: frames, commands and changes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from inferry.commands import (
    DeleteEndpoint,
    DeleteRegionPolicy,
    Deletion,
    FetchSecrets,
    Grant,
    PutEndpoint,
    TakeTokens,
)
from inferry.concurrency import Nursery, run_all
from inferry.errors import (
    BodyTooLarge,
    IllegalArgument,
    InternalError,
    UpstreamError,
    ValidationCallFailed,
)
from inferry.ipc import (
    COMMAND,
    MAX_FRAME_BYTES,
    MOST_CALLS_OF_A_STRANGER,
    ChannelClosed,
    Handler,
    Peer,
    RemoteWriter,
    answer_commands,
    connect_peer,
    decode_changes,
    decode_command,
    decode_reply,
    encode_changes,
    encode_command,
    encode_reply,
    listen_for_peers,
    open_peer,
    pages_of,
)
from inferry.origin import Origin
from inferry.records import Change, Drop, EndpointRecord, Put
from inferry.unix_sockets import listen_at


@asynccontextmanager
async def channel(
    *, left: dict[str, Handler], right: dict[str, Handler], drops_orphans: bool = False
) -> AsyncIterator[tuple[Peer, Peer]]:
    ends = socket.socketpair()
    async with Nursery() as nursery:
        peers = [
            await open_peer(end, handlers, nursery=nursery, drops_orphans=drops_orphans)
            for end, handlers in zip(ends, (left, right), strict=True)
        ]
        yield peers[0], peers[1]
        for peer in peers:
            peer.close()
        await run_all(peer.closed() for peer in peers)


async def echo(body: bytes) -> bytes:
    return body


async def test_both_ends_may_call_each_other() -> None:
    async def shout(body: bytes) -> bytes:
        return body.upper()

    async with channel(left={"shout": shout}, right={"echo": echo}) as (left, right):
        assert await left.call("echo", b"a") == b"a"
        assert await right.call("shout", b"a") == b"A"


async def test_concurrent_calls_get_their_own_answers() -> None:
    gates = {b"%d" % n: asyncio.Event() for n in range(3)}

    async def wait(body: bytes) -> bytes:
        await gates[body].wait()
        following = b"%d" % (int(body) - 1)
        if following in gates:
            gates[following].set()
        return body

    async with channel(left={}, right={"wait": wait}) as (left, _):
        gates[b"2"].set()  # answers come in the opposite order

        replies = await run_all(left.call("wait", body) for body in gates)

    assert replies == list(gates)


async def test_calls_of_one_turn_leave_in_one_write() -> None:
    ends = socket.socketpair()
    async with Nursery() as nursery:
        peer = await open_peer(ends[0], {}, nursery=nursery)
        calls = [nursery.start(peer.call("echo", b"%d" % number)) for number in range(10)]
        arrived = await asyncio.get_running_loop().run_in_executor(None, ends[1].recv, 65536)
        peer.close()
        await asyncio.wait(calls)
        ends[1].close()

    assert [b"echo" + bytes([0xC4, 1]) + b"%d" % n in arrived for n in range(10)] == [True] * 10


async def test_frames_that_come_in_pieces_are_put_together() -> None:
    bodies: list[bytes] = []

    async def note(body: bytes) -> bytes:
        bodies.append(body)
        return b""

    ends = socket.socketpair()
    async with Nursery() as nursery:
        peer = await open_peer(ends[0], {"note": note}, nursery=nursery)
        frames = [msgspec.msgpack.encode([0, n, "note", bytes(n)]) for n in range(1, 20)]
        sent = b"".join(len(frame).to_bytes(4, "little") + frame for frame in frames)
        for start, end in [(0, 1), (1, 3), (3, 30), (30, 200), (200, len(sent))]:
            peer.data_received(sent[start:end])
        await nursery.drain()
        peer.close()
        await peer.closed()
        ends[1].close()

    assert bodies == [bytes(n) for n in range(1, 20)]


async def test_a_large_message_arrives_whole() -> None:
    body = bytes(range(256)) * 40_000

    async with channel(left={}, right={"echo": echo}) as (left, _):
        assert await left.call("echo", body) == body


async def test_a_message_above_the_limit_is_refused_where_it_is_made() -> None:
    async with channel(left={}, right={"echo": echo}) as (left, _):
        with pytest.raises(BodyTooLarge, match="above the limit"):
            await left.call("echo", bytes(MAX_FRAME_BYTES + 1))

        assert await left.call("echo", b"still there") == b"still there"


async def test_an_error_arrives_as_itself_with_its_causes() -> None:
    async def fail(_: bytes) -> bytes:
        cause = UpstreamError("no", upstream_status=401, code="invalid_api_key")
        raise ValidationCallFailed("the probe failed") from cause

    async with channel(left={}, right={"fail": fail}) as (left, _):
        with pytest.raises(ValidationCallFailed, match="the probe failed") as caught:
            await left.call("fail")

    cause = caught.value.__cause__
    assert isinstance(cause, UpstreamError)
    assert (cause.upstream_status, cause.code) == (401, "invalid_api_key")


async def test_a_defect_becomes_an_internal_error_without_its_words() -> None:
    async def break_down(_: bytes) -> bytes:
        raise KeyError("a secret")

    async with channel(left={}, right={"break": break_down}) as (left, _):
        with pytest.raises(InternalError) as caught:
            await left.call("break")

    assert "secret" not in str(caught.value)


async def test_a_call_that_nothing_answers_fails() -> None:
    async with channel(left={}, right={}) as (left, _):
        with pytest.raises(InternalError, match=r"\[nothing\]"):
            await left.call("nothing")


async def test_a_caller_that_gives_up_does_not_stop_the_work() -> None:
    started, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(body: bytes) -> bytes:
        started.set()
        await go_on.wait()
        ended.set()
        return body

    async with channel(left={}, right={"work": work, "echo": echo}) as (left, _):
        async with Nursery() as callers:
            callers.start(left.call("work"))
            await started.wait()

        go_on.set()

        await ended.wait()
        assert await left.call("echo", b"usable") == b"usable"


async def test_work_goes_on_when_the_caller_process_dies() -> None:
    started, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(body: bytes) -> bytes:
        started.set()
        await go_on.wait()
        ended.set()
        return body

    async with channel(left={}, right={"work": work}) as (left, right), Nursery() as callers:
        call = callers.start(left.call("work"))
        await started.wait()
        left.close()
        with pytest.raises(ChannelClosed):
            await call
        await right.closed()

        go_on.set()

        await ended.wait()


class Hanging:
    """A handler that never ends by itself."""

    def __init__(self) -> None:
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()

    async def __call__(self, body: bytes) -> bytes:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return body


async def test_where_orphans_are_dropped_work_ends_with_the_caller_that_gives_up() -> None:
    hang = Hanging()
    handlers: dict[str, Handler] = {"hang": hang, "echo": echo}
    async with channel(left={}, right=handlers, drops_orphans=True) as (left, _):
        async with Nursery() as callers:
            callers.start(left.call("hang"))
            await hang.started.wait()

        await hang.cancelled.wait()

        assert await left.call("echo", b"usable") == b"usable"


async def test_where_orphans_are_dropped_work_ends_with_the_channel() -> None:
    hang = Hanging()
    opened = channel(left={}, right={"hang": hang}, drops_orphans=True)
    async with opened as (left, _), Nursery() as callers:
        call = callers.start(left.call("hang"))
        await hang.started.wait()
        left.close()

        await hang.cancelled.wait()

        with pytest.raises(ChannelClosed):
            await call


async def test_a_process_that_listens_is_reached_by_its_path(tmp_path) -> None:
    path = tmp_path / "s"
    listening = listen_at(path)
    async with Nursery() as nursery:
        server = await listen_for_peers(listening, {"echo": echo}, nursery=nursery)
        peers = [await connect_peer(path, nursery=nursery) for _ in range(2)]

        assert await run_all(peer.call("echo", b"a") for peer in peers) == [b"a", b"a"]

        server.close()
        for peer in peers:
            peer.close()
            await peer.closed()


async def test_where_nobody_listens_the_channel_is_closed(tmp_path) -> None:
    async with Nursery() as nursery:
        with pytest.raises(ChannelClosed):
            await connect_peer(tmp_path / "s", nursery=nursery)


async def test_calls_that_wait_fail_when_the_other_end_closes() -> None:
    started = asyncio.Event()

    async def hang(body: bytes) -> bytes:
        started.set()
        await asyncio.Event().wait()
        return body

    async with channel(left={}, right={"hang": hang}) as (left, right), Nursery() as callers:
        call = callers.start(left.call("hang"))
        await started.wait()

        right.close()

        with pytest.raises(ChannelClosed, match="has ended"):
            await call
        with pytest.raises(ChannelClosed):
            await left.call("hang")


async def test_garbage_closes_the_channel() -> None:
    ours, theirs = socket.socketpair()
    async with Nursery() as nursery:
        peer = await open_peer(ours, {}, nursery=nursery)

        theirs.send(b"\xff\xff\xff\xff" + b"GET / HTTP/1.1")

        await peer.closed()
    theirs.close()


async def test_handlers_start_in_the_order_of_the_calls() -> None:
    seen: list[bytes] = []

    async def note(body: bytes) -> bytes:
        seen.append(body)
        return b""

    bodies = [b"%d" % n for n in range(200)]
    async with channel(left={}, right={"note": note}) as (left, _):
        await run_all(left.call("note", body) for body in bodies)

    assert seen == bodies


async def test_a_writer_far_away_carries_out_commands() -> None:
    async def run(command: object) -> object:
        assert command == DeleteEndpoint(inference_id="a", task_type=None, force=True)
        return Deletion(acknowledged=True, pipelines=["p"], indexes=[])

    async with channel(left={}, right={COMMAND: answer_commands(run)}) as (left, _):
        reply = await RemoteWriter(left).submit(
            DeleteEndpoint(inference_id="a", task_type=None, force=True)
        )

    assert reply == Deletion(acknowledged=True, pipelines=["p"], indexes=[])


@pytest.mark.parametrize(
    "command",
    [
        PutEndpoint(inference_id="a", task_type=None, url="/", body={"a": [1, 2.5, None, "é"]}),
        TakeTokens(group="g", requests_per_minute=60.0, wanted=3),
        DeleteRegionPolicy(),
    ],
)
def test_a_command_is_decoded_as_what_it_was(command) -> None:
    origin = Origin(user="ann", address="192.0.2.1", request_id="7")

    assert decode_command(encode_command(command, origin)) == (origin, command)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (PutEndpoint, b"{}"),
        (FetchSecrets, {"api_key": "k"}),
        (TakeTokens, Grant(tokens=1, holds_s=0.5, wait_s=0.0)),
        (DeleteRegionPolicy, None),
    ],
)
def test_a_reply_has_the_type_that_its_command_names(command, reply) -> None:
    assert decode_reply(command, encode_reply(reply)) == reply


@pytest.mark.parametrize("value", [10**30, "\ud800"])
def test_a_value_that_cannot_travel_is_the_callers_mistake(value) -> None:
    with pytest.raises(IllegalArgument):
        encode_command(PutEndpoint(inference_id="a", task_type=None, url="/", body={"a": value}))


def endpoint(number: int) -> EndpointRecord:
    return EndpointRecord(
        inference_id=f"e{number}",
        task_type="text_embedding",
        service="openai",
        service_settings={"model_id": "m", "rate_limit": {"requests_per_minute": 3000}},
        task_settings={},
        chunking_settings=None,
        secrets=b"\x00sealed",
    )


def test_changes_survive_the_way() -> None:
    changes: list[Change] = [Put(endpoint(1), expects=0), Drop("endpoint", "e2")]

    assert decode_changes(encode_changes(changes)) == changes


def test_pages_hold_all_changes_in_order_within_their_size() -> None:
    changes = [Put(endpoint(number)) for number in range(100)]

    pages = list(pages_of(changes, max_bytes=1000))

    assert len(pages) > 5
    assert max(map(len, pages)) < 2000
    assert [change for page in pages for change in decode_changes(page)] == changes


def test_no_changes_make_no_page() -> None:
    assert list(pages_of([])) == []


# --- strangers -----------------------------------------------------------------------------------


@asynccontextmanager
async def stranger(handlers: dict[str, Handler]) -> AsyncIterator[tuple[Peer, socket.socket]]:
    """Give a peer that expects the worst, and the socket of whoever it speaks with."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    async with Nursery() as nursery:
        with theirs:
            yield await open_peer(ours, handlers, nursery=nursery, is_stranger=True), theirs


def calls_of(name: str, count: int) -> bytes:
    body = msgspec.msgpack.encode([0, 1, name, b""])
    return (len(body).to_bytes(4, "little") + body) * count


async def test_who_calls_without_end_is_cut_off() -> None:
    forever = asyncio.Event()

    async def wait(_: bytes) -> bytes:
        await forever.wait()
        return b""

    async with stranger({"wait": wait}) as (peer, theirs):
        flood = calls_of("wait", MOST_CALLS_OF_A_STRANGER)
        await asyncio.get_running_loop().sock_sendall(theirs, flood)
        assert not peer.is_closed

        await asyncio.get_running_loop().sock_sendall(theirs, calls_of("wait", 1))

        await peer.closed()


async def test_who_does_not_read_what_it_is_answered_is_cut_off() -> None:
    async with stranger({}) as (peer, theirs):
        flood = calls_of("nonsense", 10_000)

        with pytest.raises(OSError):  # noqa: PT011  the pipe breaks or is reset
            for _ in range(100):
                await asyncio.get_running_loop().sock_sendall(theirs, flood)

        await peer.closed()
