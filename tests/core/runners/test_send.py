"""What a provider's answer means, in the words that callers match on."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from inferry.calls import Event, HttpReply
from inferry.core.runners.send import Sender
from inferry.domain import (
    Completion,
    Deadline,
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    Ranking,
    TaskType,
)
from inferry.errors import InternalError, Retry, UnreadableReply, UpstreamError, UpstreamUnreachable
from inferry.service import HttpTask
from inferry.vectors import vectors_to_json
from tests.core.outbounds import SERVICE, Replies, reply_with

SUBJECT = "for request from inference entity id [my-id]"
ENDPOINT = Endpoint("my-id", TaskType.TEXT_EMBEDDING, "small", {}, secrets={"api_key": "sk-marker"})


@pytest.fixture
def outbound() -> Replies:
    return Replies()


@pytest.fixture
def counted() -> list[int | None]:
    return []


def sender_for(task_type, outbound, counted, *, dimensions=None, service=SERVICE) -> Sender:
    task = service.tasks[task_type]
    assert isinstance(task, HttpTask)
    return Sender(
        replace(ENDPOINT, task_type=task_type),
        service,
        task,
        outbound=outbound,
        group="g",
        count=counted.append,
        dimensions=dimensions,
    )


@pytest.fixture
def sender(outbound, counted) -> Sender:
    return sender_for(TaskType.TEXT_EMBEDDING, outbound, counted, dimensions=2)


def request_for(*inputs: str, task_type=TaskType.TEXT_EMBEDDING, **options) -> InferenceRequest:
    endpoint = replace(ENDPOINT, task_type=task_type)
    return InferenceRequest(endpoint, Deadline.after(30, "30s"), inputs, **options)


async def failure_of(sender: Sender, request: InferenceRequest) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await sender.run(request)
    return caught.value


async def test_a_good_answer_is_parsed_and_its_status_counted(sender, outbound, counted) -> None:
    result = await sender.run(request_for("a", "bb"))

    assert isinstance(result, DenseEmbeddings)
    assert vectors_to_json(result.vectors) == [b"[1,0]", b"[2,0]"]
    assert counted == [200]
    assert outbound.exchanges[0].group == "g"
    assert outbound.exchanges[0].endpoint.secrets == {"api_key": "sk-marker"}


async def test_an_error_status_gives_the_services_prefix_and_the_providers_message(
    sender, outbound, counted
) -> None:
    body = {"error": {"message": "overloaded", "code": "busy", "param": "p", "type": "t"}}
    outbound.replies.append(reply_with(body, 503))

    error = await failure_of(sender, request_for("a"))

    prefix = "Received a server error status code"
    assert str(error) == f"{prefix} {SUBJECT} status [503]. Error message: [overloaded]"
    assert (error.upstream_status, error.retry) == (503, Retry.YES)
    assert (error.code, error.param, error.kind) == ("busy", "p", "t")
    assert counted == [503]


async def test_without_a_message_its_part_of_the_text_is_left_out(sender, outbound) -> None:
    outbound.replies.append(HttpReply(503, {}, b"<html>"))

    error = await failure_of(sender, request_for("a"))

    assert str(error) == f"Received a server error status code {SUBJECT} status [503]"


async def test_a_row_may_depend_on_the_message(sender, outbound) -> None:
    outbound.replies.append(reply_with({"error": {"message": "please reduce it"}}, 400))

    error = await failure_of(sender, request_for("a"))

    assert str(error).startswith("Received a shorter please status code")


@pytest.mark.parametrize("status", [302, 400, 418, 599])
async def test_a_status_without_a_row_is_unsuccessful_and_final(sender, outbound, status) -> None:
    outbound.replies.append(reply_with({}, status))

    error = await failure_of(sender, request_for("a"))

    assert str(error) == f"Received an unsuccessful status code {SUBJECT} status [{status}]"
    assert error.retry is Retry.NO


async def test_headers_of_the_reply_stand_in_the_text(sender, outbound) -> None:
    outbound.replies.append(reply_with({}, 429, x_limit="60"))

    error = await failure_of(sender, request_for("a"))

    assert str(error) == f"Rate limit [60], left [unknown] {SUBJECT} status [429]"


async def test_secrets_are_masked_in_urls_and_in_what_a_provider_echoes(sender, outbound) -> None:
    outbound.replies.append(reply_with({"error": {"message": "bad key sk-marker"}}, 404))

    error = await failure_of(sender, request_for("a"))

    assert str(error) == (
        f"Resource not found at [https://small.test/v1?key=********] {SUBJECT} status [404]. "
        "Error message: [bad key ********]"
    )


async def test_a_very_long_message_is_cut(sender, outbound) -> None:
    outbound.replies.append(reply_with({"error": {"message": "x" * 100_000}}, 503))

    assert len(str(await failure_of(sender, request_for("a")))) < 5000


async def test_an_error_object_in_a_good_answer_is_told_as_such(sender, outbound) -> None:
    outbound.replies.append(reply_with({"error": {"message": "no such model"}}))

    error = await failure_of(sender, request_for("a"))

    assert str(error) == (
        f"Received an error response {SUBJECT} status [200]. Error message: [no such model]"
    )
    assert not isinstance(error, UnreadableReply)
    assert error.retry is Retry.NO


async def test_an_answer_that_makes_no_sense_may_be_asked_for_again(sender, outbound) -> None:
    outbound.replies.append(HttpReply(200, {}, b'{"results": ['))

    error = await failure_of(sender, request_for("a"))

    assert isinstance(error, UnreadableReply)
    assert str(error) == "Failed to parse the reply, key ********"
    assert (error.upstream_status, error.retry) == (200, Retry.YES)


async def test_an_empty_answer_may_be_asked_for_again(sender, outbound) -> None:
    outbound.replies.append(HttpReply(200, {}, b""))

    error = await failure_of(sender, request_for("a"))

    assert str(error) == f"Response body was empty {SUBJECT}"
    assert error.retry is Retry.YES


async def test_a_reply_with_too_few_embeddings_is_unreadable(sender, outbound) -> None:
    outbound.replies.append(reply_with({"results": [1]}))

    error = await failure_of(sender, request_for("a", "b"))

    assert isinstance(error, UnreadableReply)
    assert str(error).endswith(
        "Error the number of embedding responses [1] does not equal the number of requests [2]"
    )
    assert error.retry is Retry.NO


async def test_vectors_of_another_width_than_the_stored_one_are_unreadable(outbound, counted):
    sender = sender_for(TaskType.TEXT_EMBEDDING, outbound, counted, dimensions=3)

    error = await failure_of(sender, request_for("a"))

    assert isinstance(error, UnreadableReply)
    assert "has [2] elements instead of the [3]" in str(error)


async def test_no_answer_is_counted_too(sender, outbound, counted) -> None:
    outbound.replies.append(UpstreamUnreachable("Failed to send request to [small.test]"))

    await failure_of(sender, request_for("a"))

    assert counted == [None]


# --- inputs that are too long ------------------------------------------------------------------


async def test_inputs_that_are_too_long_are_halved_and_sent_again(sender, outbound) -> None:
    outbound.replies += [reply_with({}, 413), reply_with({}, 413)]

    result = await sender.run(request_for("x" * 100, "y" * 40))

    assert [outbound.sent(n)["inputs"] for n in range(3)] == [
        ["x" * 100, "y" * 40],
        ["x" * 50, "y" * 20],
        ["x" * 25, "y" * 10],
    ]
    assert result.truncated == (0, 1)


async def test_after_three_attempts_too_long_is_final(sender, outbound) -> None:
    outbound.replies += [reply_with({}, 413)] * 3

    error = await failure_of(sender, request_for("x" * 100))

    assert str(error) == f"Received a content too large status code {SUBJECT} status [413]"
    assert len(outbound.exchanges) == 3


async def test_what_cannot_be_shorter_is_not_sent_again(sender, outbound) -> None:
    outbound.replies.append(reply_with({}, 413))

    await failure_of(sender, request_for("x"))

    assert len(outbound.exchanges) == 1


async def test_documents_to_rank_are_never_cut(outbound, counted) -> None:
    sender = sender_for(TaskType.RERANK, outbound, counted)
    outbound.replies.append(reply_with({}, 413))

    await failure_of(sender, request_for("x" * 100, task_type=TaskType.RERANK))

    assert len(outbound.exchanges) == 1


# --- rankings and completions ------------------------------------------------------------------


async def test_a_ranking_is_sorted_cut_and_given_its_texts(outbound, counted) -> None:
    sender = sender_for(TaskType.RERANK, outbound, counted)
    request = request_for(
        "a", "ccc", "bb", task_type=TaskType.RERANK, top_n=2, return_documents=True
    )

    result = await sender.run(request)

    assert isinstance(result, Ranking)
    ranked = [(one.index, one.relevance_score, one.text) for one in result.documents]
    assert ranked == [(1, 3.0, "ccc"), (2, 2.0, "bb")]


async def test_a_ranking_of_more_documents_than_there_were_is_unreadable(outbound, counted) -> None:
    sender = sender_for(TaskType.RERANK, outbound, counted)
    outbound.replies.append(reply_with({"results": [1, 2]}))

    error = await failure_of(sender, request_for("a", task_type=TaskType.RERANK))

    assert isinstance(error, UnreadableReply)


async def test_a_completion_is_passed_on(outbound, counted) -> None:
    sender = sender_for(TaskType.COMPLETION, outbound, counted)

    assert await sender.run(request_for("abc", task_type=TaskType.COMPLETION)) == Completion(
        ("3",), (await sender.run(request_for("abc", task_type=TaskType.COMPLETION))).usage
    )


# --- streams -----------------------------------------------------------------------------------


@pytest.fixture
def writer(outbound, counted) -> Sender:
    return sender_for(TaskType.COMPLETION, outbound, counted)


async def texts_of(sender: Sender) -> list[str | None]:
    request = request_for("hi", task_type=TaskType.COMPLETION)
    return [
        chunk.choices[0].delta.content
        async for chunks in sender.stream(request)
        for chunk in chunks
    ]


async def test_a_stream_ends_where_the_service_says_so(writer, outbound, counted) -> None:
    outbound.events += [Event("a"), Event(""), Event("b"), Event("end"), Event("never read")]

    assert await texts_of(writer) == ["a", "b"]
    assert outbound.sent()["stream"] is True
    assert outbound.open_streams == 0
    assert counted == [200]


async def test_a_stream_also_ends_with_its_body(writer, outbound) -> None:
    outbound.events.append(Event("a"))

    assert await texts_of(writer) == ["a"]


async def test_a_refused_stream_has_the_words_of_a_refused_call(writer, outbound, counted) -> None:
    outbound.replies.append(reply_with({"error": {"message": "busy"}}, 503))

    with pytest.raises(UpstreamError, match="Received a server error status code") as caught:
        await texts_of(writer)

    assert str(caught.value).endswith("status [503]. Error message: [busy]")
    assert counted == [503]


async def test_a_stream_without_an_answer_is_counted_too(writer, outbound, counted) -> None:
    outbound.replies.append(UpstreamUnreachable("Failed to send request to [small.test]"))

    with pytest.raises(UpstreamUnreachable):
        await texts_of(writer)

    assert counted == [None]


async def test_an_error_within_a_stream_is_raised_without_secrets(writer, outbound) -> None:
    outbound.events += [Event("a"), Event("error")]

    with pytest.raises(UpstreamError, match=r"the model died, \*+$"):
        await texts_of(writer)

    assert outbound.open_streams == 0


async def test_what_came_before_an_error_is_given_before_it(writer, outbound) -> None:
    outbound.events.append([Event("a"), Event("b"), Event("error")])
    stream = writer.stream(request_for("hi", task_type=TaskType.COMPLETION))

    assert [one.choices[0].delta.content for one in await anext(stream)] == ["a", "b"]
    with pytest.raises(UpstreamError, match="the model died"):
        await anext(stream)


async def test_what_comes_with_the_end_is_given_before_it(writer, outbound) -> None:
    outbound.events.append([Event("a"), Event("end"), Event("never read")])

    assert await texts_of(writer) == ["a"]


async def test_leaving_a_stream_hangs_up_on_the_provider(writer, outbound) -> None:
    outbound.events += [Event("a"), Event("b")]

    async with aclosing(writer.stream(request_for("hi", task_type=TaskType.COMPLETION))) as chunks:
        await anext(chunks)
        assert outbound.open_streams == 1

    assert outbound.open_streams == 0


async def test_a_task_without_a_decoder_is_never_streamed(sender) -> None:
    with pytest.raises(InternalError):
        await anext(sender.stream(request_for("a")))
