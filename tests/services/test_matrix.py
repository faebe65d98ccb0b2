"""The matrix: what every task of every service does, at a provider that speaks its format.

A test for each column; `python -m tests.services.matrix` writes the table from a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from inferry.concurrency import Nursery
from inferry.core.regions import region_of
from inferry.core.runners.compose import group_of, requests_per_minute
from inferry.core.runners.send import _row_of
from inferry.domain import (
    ChatChunk,
    Completion,
    DenseEmbeddings,
    ElementType,
    Ranking,
    Result,
    SparseEmbeddings,
    TaskType,
)
from inferry.errors import BadRequest, InvalidSettings, RegionDenied, Retry
from inferry.outbound.limiter import Buckets, LeasingLimiter
from inferry.records import Record, RegionPolicyRecord
from inferry.service import ErrorRow
from inferry.vectors import vectors_to_json
from tests.oracles.oracle import folded
from tests.providers import Behaviour, Connection, Received, send_json
from tests.services import simulated
from tests.services.offers import (
    IN_REGION,
    OFFERS,
    RETRIED,
    SPLIT,
    STREAMED,
    Hosted,
    Offer,
    body_of,
    every,
    hosted_offer,
)

TEXTS = ("one", "two", "three")


@pytest.fixture
async def hosted(offer: Offer) -> AsyncIterator[Hosted]:
    async with hosted_offer(offer) as found:
        yield found


def refusing(offer: Offer, status: int, message: str, **headers: str) -> Behaviour:
    """Give a behaviour that refuses in the vendor's form."""

    async def behave(connection: Connection, _: Received) -> None:
        body = simulated.error_body(offer.service.name, status, message)
        await send_json(connection, body, status=status, headers=headers)

    return behave


def refusals(offer: Offer) -> list[tuple[ErrorRow, int, str]]:
    """Give for every row of a service's table a status and a message that lead to it."""
    rows = offer.service.errors
    found = []
    for row in rows:
        message = f"no, {row.contains}" if row.contains else "no"
        statuses = [
            status
            for status in range(max(row.first, 300), row.last + 1)
            if _row_of(rows, status, message) is row
        ]
        assert statuses, f"no status leads to {row}"
        found.append((row, statuses[0], message))
    return found


def contents_of(result: Result) -> list[Any]:
    """Give what depends on the inputs."""
    match result:
        case DenseEmbeddings():
            return [json.loads(row) for row in vectors_to_json(result.vectors)]
        case SparseEmbeddings():
            return [dict(item) for item in result.items]
        case Ranking():
            return [(one.index, one.relevance_score) for one in result.documents]
        case Completion():
            return list(result.texts)
        case ChatChunk():
            return [choice.delta.content for choice in result.choices]


def expected(offer: Offer, texts: tuple[str, ...], result: Result) -> list[Any]:
    """Give what the provider answers to `texts`."""
    match result:
        case DenseEmbeddings(element_type=ElementType.FLOAT):
            return [simulated.vector_of(text) for text in texts]
        case DenseEmbeddings():
            return [simulated.bytes_of(text) for text in texts]
        case SparseEmbeddings():
            return [simulated.weights_of(text) for text in texts]
        case Ranking():
            scored = [(n, simulated.score_of(text)) for n, text in enumerate(texts)]
            return sorted(scored, key=lambda one: -one[1])
        case _:
            return [simulated.reply_text(texts[-1])]


# --- PUT -----------------------------------------------------------------------------------------


async def put(
    hosted: Hosted, *records: Record, leave_out: str = "", **settings: Any
) -> dict[str, Any]:
    """Create the endpoint. leave_out: a setting that is not sent. settings: sent besides."""
    body = body_of(hosted.endpoint)
    body["service_settings"] |= settings
    for scope in ("service_settings", "task_settings"):
        body[scope].pop(leave_out, None)
    return await hosted.put(body, *records)


@every()
async def test_put_probes_once_and_answers_what_was_measured_without_secrets(offer, hosted):
    answer = await put(hosted)

    settings = answer["service_settings"]
    assert (answer["task_type"], answer["service"]) == (offer.task_type, offer.service.name)
    assert len(hosted.calls) == 1
    assert not set(hosted.endpoint.secrets) & set(settings)
    assert "dimensions_set_by_user" not in settings
    assert settings["rate_limit"]["requests_per_minute"] == requests_per_minute(
        replace(hosted.endpoint, service_settings={}), offer.service, offer.task
    )
    if offer.task_type in (TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING):
        assert settings["dimensions"] == simulated.WIDTH
        assert settings["similarity"] in ("cosine", "dot_product", "l2_norm")


@every()
async def test_put_refuses_a_setting_that_the_service_does_not_know(offer, hosted):
    with pytest.raises(BadRequest, match=r"\[{surplus=1}\] unknown to the \["):
        await put(hosted, surplus=1)

    assert hosted.calls == []


REQUIRED = [
    pytest.param(offer, field.name, id=f"{offer}-{field.name}")
    for offer in OFFERS
    for field in (*offer.task.service_settings, *offer.task.task_settings)
    if field.required
]


@pytest.mark.parametrize(("offer", "name"), REQUIRED)
async def test_put_names_a_required_setting_that_is_missing(offer, name, hosted):
    with pytest.raises(InvalidSettings, match=rf"required setting \[{name}\]"):
        await put(hosted, leave_out=name)

    assert hosted.calls == []


# --- region --------------------------------------------------------------------------------------


@every(IN_REGION)
async def test_region_outside_the_policy_is_neither_created_nor_probed(offer, hosted):
    region = region_of(offer.service.name, offer.case.request.endpoint.service_settings)
    assert region is not None
    hosted.endpoint = offer.case.request.endpoint
    elsewhere = {"allowed_regions": [{"csp": region.csp, "region": "elsewhere"}]}

    with pytest.raises(RegionDenied, match=rf"\[{region.name}\]"):
        await put(hosted, RegionPolicyRecord(elsewhere, 0))

    assert hosted.calls == []


# --- infer ---------------------------------------------------------------------------------------


@every()
async def test_infer_answers_every_input_in_its_place(offer, hosted):
    result = await hosted.run(*TEXTS)

    assert contents_of(result) == expected(offer, TEXTS, result)
    assert set(hosted.statuses) == {200}


# --- stream --------------------------------------------------------------------------------------


@every(STREAMED)
async def test_stream_says_what_the_whole_answer_says(offer, hosted):
    whole = await hosted.run("hello there")
    chunks = await hosted.stream("hello there")

    read = folded(chunks)
    assert [read["text"]] == contents_of(whole)
    assert len([one for one in chunks if one.choices]) > 2
    if offer.task_type is TaskType.CHAT_COMPLETION:
        assert read["finish_reasons"] == ["stop"]
        assert read["usage"] == folded([whole])["usage"]


# --- error row -----------------------------------------------------------------------------------

ROWS = [
    pytest.param(
        offer, row, status, message, id=f"{offer}-{status}{'-message' * bool(row.contains)}"
    )
    for offer in OFFERS
    for row, status, message in refusals(offer)
]


@pytest.mark.parametrize(("offer", "row", "status", "message"), ROWS)
async def test_error_row_gives_its_words_and_its_attempts(offer, row, status, message, hosted):
    hosted.always(refusing(offer, status, message))

    error = await hosted.failure("a long text")

    words = re.escape(row.text)
    words = re.sub(r"\\\{[^}]*\\\}", ".*", words)
    tail = rf" for request from inference entity id \[mine\] status \[{status}\]"
    assert re.match(rf"{words}{tail}\. Error message: \[{re.escape(message)}\]$", error.message)
    assert error.upstream_status == status
    again = status == 401 and has_another_credential(offer)
    assert len(hosted.calls) == (2 if again else attempts_of(offer, row))


def has_another_credential(offer: Offer) -> bool:
    """Tell whether a refused credential is fetched anew or has another form."""
    request = offer.case.request
    assert offer.service.auth is not None
    try:
        next(offer.service.auth(offer.task.build(request), request.endpoint, 0.0))
    except StopIteration as done:
        return done.value.otherwise is not None
    return True


def attempts_of(offer: Offer, row: ErrorRow) -> int:
    """Give how often a call is sent that always ends in `row`."""
    match row.retry:
        case Retry.YES:
            return 3
        case Retry.SHORTER:  # what is embedded can be cut in half, and once more
            return 3 if offer.task_type.is_chunkable else 1
        case _:
            return 1


# --- retry ---------------------------------------------------------------------------------------


@every(RETRIED)
async def test_retry_comes_when_the_provider_said_and_succeeds(offer, hosted):
    status = next(
        status for row, status, _ in refusals(offer) if row.retry is Retry.YES and not row.contains
    )
    hosted.then(refusing(offer, status, "later", **{"Retry-After": "2"}))

    result = await hosted.run("one")

    assert contents_of(result) == expected(offer, ("one",), result)
    first, second = hosted.calls
    assert first.body == second.body
    assert hosted.clock.slept == [2.0]


# --- limit ---------------------------------------------------------------------------------------


@every()
async def test_limit_of_an_account_spaces_the_calls_of_all_its_endpoints(offer, hosted):
    slow = {"rate_limit": {"requests_per_minute": 60}}
    endpoint = replace(
        hosted.endpoint, service_settings={**hosted.endpoint.service_settings, **slow}
    )
    other = replace(endpoint, inference_id="other")
    buckets = Buckets(hosted.clock)
    async with Nursery() as nursery:
        limiter = LeasingLimiter(buckets.take, nursery=nursery, clock=hosted.clock)
        for one in (endpoint, other, endpoint):
            await hosted.runners(one, limiter=limiter).run(hosted.request("one"))

    assert group_of(endpoint, offer.service) == group_of(other, offer.service)
    assert len(hosted.calls) == 3
    assert sum(hosted.clock.slept) == pytest.approx(2.0)


# --- split ---------------------------------------------------------------------------------------


@every(SPLIT)
async def test_split_keeps_the_order_and_repeats_only_the_part_that_failed(offer, hosted):
    assert offer.task.max_batch is not None
    texts = tuple(f"text {n}" for n in range(offer.task.max_batch + 1))
    status = next(
        status for row, status, _ in refusals(offer) if row.retry is Retry.YES and not row.contains
    )
    hosted.then(refusing(offer, status, "later"))

    result = await hosted.run(*texts)

    assert contents_of(result) == expected(offer, texts, result)
    bodies = [one.body for one in hosted.calls]
    assert len(bodies) == 3
    assert bodies.count(bodies[0]) == 2


# --- secret marker -------------------------------------------------------------------------------


@every()
async def test_secret_marker_is_in_no_error_log_or_text_of_ours(offer, hosted, capfd):
    async def echo(connection: Connection, received: Received) -> None:
        said = json.dumps([*hosted.endpoint.secrets.values(), received.headers])
        await refusing(offer, 400, said, **{"X-Echo": said})(connection, received)

    hosted.then(*[echo] * 3)

    error = await hosted.failure("one")

    out, err = capfd.readouterr()
    texts = [str(error), repr(error), repr(error.__cause__), repr(hosted.endpoint), out, err]
    texts += [group_of(hosted.endpoint, offer.service), f"{hosted.runners()}"]
    for secret in hosted.endpoint.secrets.values():
        assert not [text for text in texts if secret in text or repr(secret)[1:-1] in text]
    assert "token-1" not in str(error)
