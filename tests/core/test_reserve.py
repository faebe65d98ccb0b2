"""Secrets that were replaced: kept for a while, used only where the newer ones are refused."""

from __future__ import annotations

import pytest

from inferry.commands import FetchSecrets
from inferry.core.reserve import put_in_reserve, reserve_ends_at, split_reserve
from inferry.core.runners.reserve import Reserve
from inferry.domain import ChatChunk, Completion, Deadline, Endpoint, InferenceRequest, TaskType
from inferry.errors import UpstreamError
from tests.core.registry_parts import hosted

STORED = {"access_key": "a1", "secret_key": "s1"}
REQUEST = InferenceRequest(
    Endpoint("a", TaskType.COMPLETION, "hosted", {}), deadline=Deadline.after(10, "10s")
)


def after(stored: dict[str, str], sent: dict[str, str], *, until_ms: int = 9) -> dict[str, str]:
    """Give what is sealed once `sent` is laid over `stored`."""
    return stored | sent | put_in_reserve(stored, sent, until_ms=until_ms)


def test_what_is_replaced_is_kept_beside_what_replaced_it():
    kept = after(STORED, {"secret_key": "s2"}, until_ms=2500)

    current, former = split_reserve(kept)
    assert current == {"access_key": "a1", "secret_key": "s2"}
    assert former == STORED
    assert reserve_ends_at(kept) == 2.5


def test_only_the_last_set_is_kept():
    kept = after(after(STORED, {"access_key": "a2"}), {"secret_key": "s2"})

    assert split_reserve(kept) == (
        {"access_key": "a2", "secret_key": "s2"},
        {"access_key": "a2", "secret_key": "s1"},
    )


@pytest.mark.parametrize("sent", [{}, {"secret_key": "s1"}, {"new_key": "n1"}])
def test_where_nothing_is_replaced_nothing_is_kept(sent):
    assert put_in_reserve(STORED, sent, until_ms=9) == {}


async def test_an_update_keeps_the_former_secret_for_an_hour_and_proves_the_new_one(house):
    await house.put("a")

    await house.update({"service_settings": {"api_key": "newer-key"}})

    record = house.store.rows["endpoint", "a"]
    secrets = await house.registry.fetch_secrets(FetchSecrets("a", record.revision))
    assert split_reserve(secrets) == ({"api_key": "newer-key"}, {"api_key": "marker-key"})
    assert reserve_ends_at(secrets) == house.now + 3600
    assert house.probe.asked[-1].secrets == {"api_key": "newer-key"}


async def test_an_update_that_is_refused_changes_nothing(house):
    await house.put("a")
    before = house.store.rows["endpoint", "a"]
    house.probe.fails_once = UpstreamError("wrong key", upstream_status=401)

    with pytest.raises(Exception, match="validation call"):
        await house.update({"service_settings": {"api_key": "wrong-key"}})

    assert house.store.rows["endpoint", "a"] == before


async def test_an_endpoint_that_never_changed_its_secret_has_no_reserve(house):
    await house.put("a", hosted())
    await house.update({"service_settings": {"rate_limit": {"requests_per_minute": 9}}})

    record = house.store.rows["endpoint", "a"]
    secrets = await house.registry.fetch_secrets(FetchSecrets("a", record.revision))
    assert secrets == {"api_key": "marker-key"}


# --- runs ----------------------------------------------------------------------------------------


def run_that(outcome: str | int):
    """Give a run that answers with a text, or is refused with a status."""

    async def run(_: InferenceRequest) -> Completion:
        if isinstance(outcome, int):
            raise UpstreamError(f"refused with {outcome}", upstream_status=outcome)
        return Completion((outcome,))

    return run


def stream_that(*outcomes: str | int):
    async def stream(_: InferenceRequest):
        for outcome in outcomes:
            if isinstance(outcome, int):
                raise UpstreamError(f"refused with {outcome}", upstream_status=outcome)
            yield [ChatChunk(outcome, [])]

    return stream


def reserve(*, now: float = 0.0) -> Reserve:
    return Reserve("a", ends_at=10.0, now=lambda: now)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_secret_gives_way_to_the_former_one(status):
    run = reserve().run(run_that(status), run_that("former"))

    assert await run(REQUEST) == Completion(("former",))


async def test_a_secret_that_is_taken_is_the_only_one_used():
    run = reserve().run(run_that("newer"), run_that(500))

    assert await run(REQUEST) == Completion(("newer",))


@pytest.mark.parametrize(
    ("newer", "former", "now", "told"),
    [
        (500, "former", 0.0, "refused with 500"),
        (401, "former", 10.0, "refused with 401"),
        (401, 403, 0.0, "refused with 401"),
        (401, 503, 0.0, "refused with 503"),
    ],
)
async def test_other_failures_and_a_reserve_that_is_over_are_told(newer, former, now, told):
    run = reserve(now=now).run(run_that(newer), run_that(former))

    with pytest.raises(UpstreamError, match=told):
        await run(REQUEST)


async def ids_of(stream) -> list[str]:
    return [chunk.id async for chunks in stream(REQUEST) for chunk in chunks]


async def test_a_stream_that_is_refused_at_its_start_is_opened_with_the_former_secret():
    stream = reserve().stream(stream_that(401), stream_that("a", "b"))

    assert await ids_of(stream) == ["a", "b"]


async def test_a_stream_that_breaks_later_is_not_begun_again():
    stream = reserve().stream(stream_that("a", 401), stream_that("b"))

    with pytest.raises(UpstreamError, match="refused with 401"):
        await ids_of(stream)
