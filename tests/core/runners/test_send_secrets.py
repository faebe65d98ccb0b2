"""Nothing that a provider, or a library about it, says carries a secret to the caller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inferry.api.elastic.errors import envelope, headers_of
from inferry.api.exchange import Request
from inferry.core.runners.send import Sender
from inferry.errors import InferenceError, Retry, UpstreamError, UpstreamUnreachable, cause_of
from inferry.security.gate import Principal
from tests.core.outbounds import Replies, reply_with
from tests.core.runners.test_send import failure_of, request_for, sender_for

SECRET = "sk-marker"


@pytest.fixture
def outbound() -> Replies:
    return Replies()


@pytest.fixture
def sender(outbound) -> Sender:
    return sender_for("text_embedding", outbound, [], dimensions=2)


def all_of(error: InferenceError) -> Iterator[InferenceError]:
    yield error
    cause = cause_of(error)
    if cause is not None:
        yield from all_of(cause)


def assert_silent(error: UpstreamError) -> None:
    request = Request("POST", "/", "/", {}, {"error_trace": "true"}, Principal("", kind="realm"))
    shown = repr(envelope(error, request)) + repr(headers_of(error))
    assert SECRET not in shown
    for one in all_of(error):
        assert SECRET not in str(one)
        assert SECRET not in repr(one)


@pytest.mark.parametrize("member", ["message", "code", "param", "type"])
async def test_no_member_of_an_error_object_does(sender, outbound, member) -> None:
    body = {"error": {"message": "no", member: f"got {SECRET}"}}
    outbound.replies.append(reply_with(body, 401))

    assert_silent(await failure_of(sender, request_for("a")))


async def test_no_header_does(sender, outbound) -> None:
    outbound.replies.append(reply_with({}, 429, x_limit=SECRET))

    assert_silent(await failure_of(sender, request_for("a")))


async def test_no_part_of_it_is_left_where_a_long_message_is_cut(sender, outbound) -> None:
    text = "x" * 4090 + SECRET
    outbound.replies.append(reply_with({"error": {"message": text}}, 400))

    assert SECRET[:3] not in str(await failure_of(sender, request_for("a")))


async def test_what_the_transport_quotes_does_not(sender, outbound) -> None:
    error = UpstreamUnreachable("Failed to send request to [small.test]", retry=Retry.YES)
    error.__cause__ = ValueError(f"Bad status line: 'HTTP/1.1 {SECRET}'")
    outbound.replies.append(error)

    failure = await failure_of(sender, request_for("a"))

    assert_silent(failure)
    assert "Bad status line" in str(failure.__cause__)


async def test_what_fetching_a_token_says_does_not(sender, outbound) -> None:
    text = f"Failed to retrieve access token: [invalid_client] {SECRET}"
    outbound.replies.append(UpstreamError(text, upstream_status=401))

    assert_silent(await failure_of(sender, request_for("a")))
