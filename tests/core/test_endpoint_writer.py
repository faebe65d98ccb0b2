"""PUT, `_update` and DELETE: rows 32 to 107 of the checklist that are about stored endpoints."""

from __future__ import annotations

import asyncio

import pytest

from inferry.commands import FetchSecrets
from inferry.concurrency import run_all
from inferry.core.reserve import split_reserve
from inferry.domain import Completion, DenseEmbeddings, ElementType
from inferry.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    InvalidSettings,
    NotFound,
    RegionDenied,
    Retry,
    SecretsUnreadable,
    StoreFailure,
    UpstreamError,
    ValidationCallFailed,
    VersionConflict,
    cause_of,
)
from inferry.records import RegionPolicyRecord
from inferry.vectors import JsonVector
from tests.core.registry_parts import TOKENS, hosted, let_others_come_in, open_house


def unauthorized() -> UpstreamError:
    return UpstreamError(
        "Received an authentication error status code", upstream_status=401, retry=Retry.NO
    )


# --- PUT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference_id", ["A", "aB", "-a", "_a", ".a", "a-", "a b", "", "ä", "a/b"])
async def test_rows_32_33_an_id_outside_the_pattern_is_refused(house, inference_id) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await house.put(inference_id)

    assert refused.value.message == (
        f"Validation Failed: 1: Invalid inference_id; '{inference_id}' can contain lowercase "
        "alphanumeric (a-z and 0-9), hyphens or underscores; must start and end with alphanumeric;"
    )


@pytest.mark.parametrize("inference_id", ["a", "0", "a.b", "a_b-c.d9", "x" * 256])
async def test_row_34_ids_of_the_pattern_are_taken(house, inference_id: str) -> None:
    assert (await house.put(inference_id))["inference_id"] == inference_id


async def test_an_id_above_256_bytes_is_refused(house) -> None:
    with pytest.raises(InvalidRequest, match="must not be longer than"):
        await house.put("x" * 257)


async def test_row_35_a_reserved_id_is_refused_before_its_pattern(house) -> None:
    with pytest.raises(BadRequest) as refused:
        await house.put(".minilm-l6-v2")

    assert refused.value.message == (
        "[.minilm-l6-v2] is a reserved inference ID. "
        "Cannot create a new inference endpoint with a reserved ID."
    )


async def test_row_36_an_id_is_taken_once_and_no_provider_is_asked_the_second_time(house) -> None:
    await house.put("a")

    with pytest.raises(AlreadyExists) as refused:
        await house.put("a", hosted(model_id="other"))

    assert refused.value.message == "Inference endpoint [a] already exists"
    assert len(house.probe.asked) == 1


async def test_settings_are_checked_before_the_id_is_looked_up(house) -> None:
    await house.put("a")

    with pytest.raises(BadRequest, match="Unknown service"):
        await house.put("a", {**hosted(), "service": "foo"})


async def test_a_new_endpoint_is_stored_and_served_when_put_returns(house) -> None:
    answer = await house.put("a")

    assert ("endpoint", "a") in house.store.rows
    assert house.snapshot.require("a").endpoint().service_settings == answer["service_settings"]


async def test_row_67_secrets_are_sealed_and_neither_answered_nor_published(house) -> None:
    answer = await house.put("a")

    stored = house.store.rows["endpoint", "a"]
    assert b"marker-key" in stored.secrets
    assert "marker-key" not in repr(answer) + repr(stored.service_settings) + repr(house.published)


async def test_the_probe_gets_resolved_secrets_and_the_store_the_reference(house) -> None:
    await house.put("a", hosted(api_key="${env:INFERRY_SECRET_A}"))

    assert house.probe.asked[0].secrets == {"api_key": "resolved-a"}
    assert b"${env:INFERRY_SECRET_A}" in house.store.rows["endpoint", "a"].secrets


async def test_a_reference_that_the_rules_do_not_allow_leaves_no_trace(house) -> None:
    with pytest.raises(BadRequest, match="a reference that the rules do not allow"):
        await house.put("a", hosted(api_key="${env:HOME}"))

    assert (house.store.rows, house.probe.asked) == ({}, [])


async def test_row_59_dimensions_that_are_not_given_are_measured(house) -> None:
    answer = await house.put("a", task_type="text_embedding")

    assert answer["service_settings"]["dimensions"] == 3
    assert "dimensions" not in house.probe.asked[0].service_settings
    assert not house.snapshot.require("a").endpoint().dimensions_set_by_user


async def test_dimensions_that_are_given_and_met_are_remembered_as_given(house) -> None:
    answer = await house.put("a", hosted(dimensions=3), task_type="text_embedding")

    assert answer["service_settings"]["dimensions"] == 3
    assert house.probe.asked[0].dimensions_set_by_user
    assert house.snapshot.require("a").endpoint().dimensions_set_by_user


async def test_row_58_dimensions_that_are_not_met_are_refused(house) -> None:
    with pytest.raises(BadRequest) as refused:
        await house.put("a", hosted(dimensions=8), task_type="text_embedding")

    assert refused.value.message == (
        "The retrieved embeddings size [3] does not match the size specified in the settings [8]. "
        "Please recreate the [a] configuration with the correct dimensions"
    )
    assert house.store.rows == {}


async def test_the_size_of_bit_vectors_is_counted_in_bits(house) -> None:
    house.probe.result = DenseEmbeddings((JsonVector(b"[1,2]", 2),), ElementType.BIT)

    answer = await house.put("a", task_type="text_embedding")

    assert answer["service_settings"]["dimensions"] == 16


@pytest.mark.parametrize("vectors", [(), (JsonVector(b"[]", 0),)])
async def test_an_answer_without_a_size_is_refused(house, vectors) -> None:
    house.probe.result = DenseEmbeddings(vectors)

    with pytest.raises(BadRequest, match=r"^Could not determine embedding size$"):
        await house.put("a", task_type="text_embedding")


async def test_an_answer_of_another_kind_is_refused(house) -> None:
    house.probe.result = Completion(("x",))

    with pytest.raises(BadRequest) as refused:
        await house.put("a", task_type="rerank")

    assert refused.value.message == (
        "Validation call did not return expected results type.Expected a result of type "
        "[Ranking] got [Completion]"
    )


@pytest.mark.parametrize(("given", "kept"), [({}, "dot_product"), ({"similarity": "cosine"},) * 2])
async def test_row_60_the_similarity_is_the_callers_or_the_services(house, given, kept) -> None:
    answer = await house.put("a", hosted(**given), task_type="text_embedding")

    expected = kept if isinstance(kept, str) else kept["similarity"]
    assert answer["service_settings"]["similarity"] == expected


@pytest.mark.parametrize("task_type", ["completion", "chat_completion", "rerank"])
async def test_tasks_without_vectors_have_no_size(house, task_type: str) -> None:
    answer = await house.put("a", task_type=task_type)

    assert set(answer["service_settings"]) == {"model_id", "rate_limit"}


async def test_rows_61_62_a_failed_probe_is_told_with_its_cause_and_stores_nothing(house) -> None:
    house.probe.fails = unauthorized()

    with pytest.raises(ValidationCallFailed) as failed:
        await house.put("a")

    assert failed.value.message == (
        "Could not complete inference endpoint creation as validation call to service threw an "
        "exception."
    )
    cause = cause_of(failed.value)
    assert isinstance(cause, UpstreamError)
    assert cause.upstream_status == 401
    assert house.store.rows == {}
    assert house.snapshot.get("a") is None


async def test_an_id_is_free_again_after_a_failed_probe(house) -> None:
    house.probe.fails = unauthorized()
    with pytest.raises(ValidationCallFailed):
        await house.put("a")
    house.probe.fails = None

    assert await house.put("a")


@pytest.mark.parametrize(
    ("task_type", "given", "seconds", "shown"),
    [
        ("rerank", {}, 30, "30s"),
        ("completion", {}, 120, "120s"),
        ("rerank", {"timeout_s": 60.0, "timeout": "1m"}, 60, "1m"),
        ("rerank", {"timeout_s": -1.0, "timeout": "-1"}, 30, "30s"),
    ],
)
async def test_the_timeout_bounds_the_probe(house, task_type, given, seconds, shown) -> None:
    await house.put("a", task_type=task_type, **given)

    deadline = house.probe.deadlines[0]
    assert deadline.timeout == shown
    assert seconds - 5 < deadline.left_s() <= seconds


async def test_a_probe_that_takes_too_long_is_given_up(house) -> None:
    house.probe.gate = asyncio.Event()

    with pytest.raises(ValidationCallFailed) as failed:
        await house.put("a", timeout_s=0.01, timeout="10ms")

    cause = cause_of(failed.value)
    assert isinstance(cause, DeadlineExceeded)
    assert cause.timeout == "10ms"


async def test_row_64_validation_can_be_switched_off() -> None:
    async with open_house(skip_validation=True) as house:
        answer = await house.put("a", hosted(dimensions=8), task_type="text_embedding")
        await house.update({"task_settings": {"user": "x"}})

    assert answer["service_settings"]["dimensions"] == 8
    assert house.probe.asked == []


async def test_a_second_put_waits_for_the_first_and_finds_the_id_taken(house) -> None:
    house.probe.gate = asyncio.Event()
    first = house.nursery.start(house.put("a"))
    await house.probe.arrived.wait()
    second = house.nursery.start(house.put("a"))
    await let_others_come_in()
    house.probe.gate.set()

    assert (await first)["inference_id"] == "a"
    with pytest.raises(AlreadyExists):
        await second
    assert len(house.probe.asked) == 1


async def test_a_second_put_runs_itself_when_the_first_fails(house) -> None:
    house.probe.gate = asyncio.Event()
    house.probe.fails_once = unauthorized()
    first = house.nursery.start(house.put("a"))
    await house.probe.arrived.wait()
    second = house.nursery.start(house.put("a", hosted(model_id="second")))
    await let_others_come_in()
    house.probe.gate.set()
    with pytest.raises(ValidationCallFailed):
        await first

    assert (await second)["service_settings"]["model_id"] == "second"


async def test_a_put_that_waits_for_another_gives_up_at_its_own_deadline(house) -> None:
    house.probe.gate = asyncio.Event()
    first = house.nursery.start(house.put("a"))
    await house.probe.arrived.wait()

    with pytest.raises(DeadlineExceeded):
        await house.put("a", timeout_s=0.01, timeout="10ms")

    house.probe.gate.set()
    assert await first


async def test_puts_of_other_ids_do_not_wait(house) -> None:
    house.probe.gate = asyncio.Event()
    first = house.nursery.start(house.put("a"))
    await house.probe.arrived.wait()
    house.probe.gate, gate = None, house.probe.gate

    assert await house.put("b")
    gate.set()
    assert await first


async def test_a_put_whose_caller_is_gone_ends_as_if_it_had_stayed(house) -> None:
    house.probe.gate = asyncio.Event()
    caller = house.nursery.start(house.put("a"))
    await house.probe.arrived.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    house.probe.gate.set()

    await house.nursery.drain()

    assert ("endpoint", "a") in house.store.rows
    assert house.snapshot.get("a") is not None


async def test_an_endpoint_that_cannot_be_stored_is_not_served(house) -> None:
    house.store.fails = StoreFailure("the disk is full")

    with pytest.raises(StoreFailure, match=r"^Failed to store inference endpoint \[a\]$"):
        await house.put("a")

    house.store.fails = None
    assert house.snapshot.get("a") is None
    assert await house.put("a")


async def test_a_write_stands_although_it_could_not_be_published(house) -> None:
    house.publish_fails = OSError("a process is gone")

    await house.put("a")

    with pytest.raises(AlreadyExists):
        await house.put("a")
    assert ("endpoint", "a") in house.store.rows


async def test_an_id_that_another_host_took_meanwhile_is_taken(house) -> None:
    await house.put("a")
    house.registry._ledger._endpoints.clear()  # as if the other host had written it

    with pytest.raises(AlreadyExists):
        await house.put("a")


async def test_a_region_outside_the_policy_is_refused_before_the_probe(house) -> None:
    house.registry.load([RegionPolicyRecord({"allowed_geos": ["eu"]}, 0)])
    body = {**hosted(region="us-east-1"), "service": "amazonbedrock"}

    with pytest.raises(RegionDenied, match=r"\[us-east-1\]"):
        await house.put("a", body)

    assert house.probe.asked == []
    assert await house.put("a", {**hosted(region="eu-west-1"), "service": "amazonbedrock"})


# --- dry run -------------------------------------------------------------------------------------


async def test_a_dry_run_shows_what_would_be_stored_and_sent_and_stores_nothing(house) -> None:
    answer = await house.put("a", task_type="text_embedding", dry_run=True)

    assert answer == {
        "dry_run": True,
        "endpoint": {
            "inference_id": "a",
            "task_type": "text_embedding",
            "service": "hosted",
            "service_settings": {
                "model_id": "m",
                "dimensions": 3,
                "similarity": "dot_product",
                "rate_limit": {"requests_per_minute": 3000},
            },
            "chunking_settings": {
                "strategy": "sentence",
                "max_chunk_size": 250,
                "sentence_overlap": 1,
            },
        },
        "dimensions": 3,
        "request": {
            "method": "POST",
            "url": "https://provider.test/v1?account=********",
            "headers": {"Content-Type": "application/json", "X-Key": "********"},
            "body": {"model": "m"},
        },
    }
    assert (house.store.rows, house.published) == ({}, [])


@pytest.mark.parametrize("task_type", ["completion", "chat_completion", "rerank"])
async def test_a_dry_run_shows_a_request_of_every_task(house, task_type: str) -> None:
    answer = await house.put("a", task_type=task_type, dry_run=True)

    assert answer["request"]["body"]["model"] == "m"
    assert "marker-key" not in repr(answer)


async def test_a_dry_run_fetches_no_token(house) -> None:
    body = {**hosted(), "service": TOKENS.name}

    answer = await house.put("a", body, task_type="rerank", dry_run=True)

    assert answer["request"]["headers"]["Authorization"] == "********"


async def test_a_dry_run_of_an_id_that_is_taken_is_refused(house) -> None:
    await house.put("a")

    with pytest.raises(AlreadyExists):
        await house.put("a", dry_run=True)


# --- _update -------------------------------------------------------------------------------------


async def test_row_84_task_settings_are_merged_key_by_key(house) -> None:
    await house.put("a", hosted(task_settings={"user": "x", "team": "y"}))

    answer = await house.update({"task_settings": {"team": "z"}})

    assert answer["task_settings"] == {"user": "x", "team": "z"}
    assert house.snapshot.require("a").endpoint().task_settings == answer["task_settings"]


async def test_row_85_a_new_secret_is_probed_sealed_and_not_answered(house) -> None:
    await house.put("a")

    answer = await house.update({"service_settings": {"api_key": "new-marker"}})

    assert house.probe.asked[-1].secrets == {"api_key": "new-marker"}
    assert "new-marker" not in repr(answer) + repr(house.published)
    revision = house.snapshot.require("a").revision
    secrets = await house.registry.fetch_secrets(FetchSecrets("a", revision))
    assert split_reserve(secrets)[0] == {"api_key": "new-marker"}


async def test_secrets_that_are_not_sent_are_kept_references_as_references(house) -> None:
    body = hosted(api_key="${env:INFERRY_SECRET_A}", url="https://x.test")
    await house.put("a", body)

    await house.update({"service_settings": {"second_key": "two"}})

    assert house.probe.asked[-1].secrets == {"api_key": "resolved-a", "second_key": "two"}
    assert b"${env:INFERRY_SECRET_A}" in house.store.rows["endpoint", "a"].secrets


async def test_a_rate_limit_can_be_changed(house) -> None:
    await house.put("a")

    answer = await house.update({"service_settings": {"rate_limit": {"requests_per_minute": 9}}})

    assert answer["service_settings"]["rate_limit"] == {"requests_per_minute": 9}


async def test_row_86_an_unknown_id_cannot_be_updated(house) -> None:
    with pytest.raises(NotFound) as refused:
        await house.update({"task_settings": {}})

    assert refused.value.message == (
        "The inference endpoint [a] does not exist and cannot be updated"
    )


async def test_row_87_an_empty_body_updates_nothing(house) -> None:
    with pytest.raises(BadRequest, match=r"^Request body is empty$"):
        await house.update({})


async def test_row_88_other_members_cannot_be_updated(house) -> None:
    await house.put("a")

    with pytest.raises(BadRequest) as refused:
        await house.update({"chunking_settings": {"strategy": "none"}, "api_key": "marker"})

    assert refused.value.message == (
        "Request contained fields which cannot be updated, remove these fields and try again "
        "[{chunking_settings={strategy=none}, api_key=***}]"
    )


async def test_row_89_the_stored_service_may_be_named_and_no_other(house) -> None:
    await house.put("a")

    assert await house.update({"service": "hosted", "task_settings": {"user": "x"}})
    with pytest.raises(BadRequest, match=r"cannot be updated, remove .* \[\{service=foo\}\]$"):
        await house.update({"service": "foo"})


@pytest.mark.parametrize("where", ["url", "body"])
async def test_row_90_another_task_type_is_refused(house, where: str) -> None:
    await house.put("a")
    body: dict[str, object] = {"task_settings": {}} | (
        {"task_type": "rerank"} if where == "body" else {}
    )

    with pytest.raises(BadRequest) as refused:
        await house.update(body, task_type="rerank" if where == "url" else None)

    assert refused.value.message == ("Task type must match the task type of the existing endpoint")


@pytest.mark.parametrize("task_type", [None, "completion", "any"])
async def test_row_91_the_task_type_need_not_be_named(house, task_type) -> None:
    await house.put("a")

    assert await house.update({"task_settings": {"user": "x"}}, task_type=task_type)


async def test_row_92_a_failed_probe_changes_nothing(house) -> None:
    await house.put("a")
    before = dict(house.store.rows)
    house.probe.fails = unauthorized()

    with pytest.raises(ValidationCallFailed):
        await house.update({"service_settings": {"api_key": "wrong"}})

    assert house.store.rows == before
    assert len(house.published) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"task_settings": {"user": "x"}},
        {"service_settings": {"api_key": "marker-key", "model_id": "m"}},
        {"service_settings": {}},
        {"task_type": "completion"},
    ],
)
async def test_row_93_an_update_that_changes_nothing_asks_no_provider(house, body) -> None:
    created = await house.put("a", hosted(task_settings={"user": "x"}))

    assert await house.update(body) == created
    assert (len(house.probe.asked), len(house.published)) == (1, 1)


@pytest.mark.parametrize("setting", ["model_id", "url", "dimensions", "similarity"])
async def test_fixed_settings_cannot_be_updated(house, setting: str) -> None:
    await house.put("a", task_type="text_embedding")

    with pytest.raises(InvalidSettings) as refused:
        await house.update({"service_settings": {setting: "other"}})

    assert refused.value.message == f"Validation Failed: 1: [{setting}] cannot be updated;"


async def test_unknown_settings_cannot_be_updated(house) -> None:
    await house.put("a")

    with pytest.raises(BadRequest, match=r"settings \[\{foo=1\}\] unknown to the \[hosted\]"):
        await house.update({"service_settings": {"foo": 1}})


@pytest.mark.parametrize(
    ("name", "words"), [("service_settings", "service"), ("task_settings", "task")]
)
async def test_settings_of_an_update_are_objects(house, name: str, words: str) -> None:
    await house.put("a")

    with pytest.raises(BadRequest, match=f"^Unable to parse {words} settings in the request"):
        await house.update({name: [1]})


async def test_an_update_must_leave_settings_that_fit_each_other(house) -> None:
    await house.put("a")

    with pytest.raises(InvalidSettings, match=r"required setting \[url\]"):
        await house.update({"service_settings": {"second_key": "k"}})


async def test_the_measured_dimensions_stay_what_they_were(house) -> None:
    await house.put("a", task_type="text_embedding")
    house.probe.result = DenseEmbeddings((JsonVector(b"[1]", 1),))

    with pytest.raises(BadRequest, match=r"The retrieved embeddings size \[1\]"):
        await house.update({"task_settings": {"user": "x"}})


async def test_an_update_is_probed_for_30_seconds_unless_it_says_otherwise(house) -> None:
    await house.put("a")

    await house.update({"task_settings": {"user": "x"}})
    await house.update({"task_settings": {"user": "y"}}, timeout_s=60.0, timeout="1m")

    assert [one.timeout for one in house.probe.deadlines[1:]] == ["30s", "1m"]


async def test_of_two_updates_at_once_one_loses(house) -> None:
    await house.put("a")

    async def update(user: str) -> str:
        try:
            await house.update({"task_settings": {"user": user}})
        except VersionConflict:
            return "lost"
        return user

    outcomes = await run_all([update("x"), update("y")])

    assert sorted(outcomes) == ["lost", "x"]
    assert house.snapshot.require("a").endpoint().task_settings == {"user": "x"}


async def test_an_update_that_another_host_overtook_loses(house) -> None:
    await house.put("a")
    house.store.fails = VersionConflict("overtaken")

    with pytest.raises(VersionConflict):
        await house.update({"task_settings": {"user": "x"}})


async def test_a_lost_master_key_is_named_and_new_secrets_mend_it(house) -> None:
    await house.put("a")
    house.vault.key = "second"

    with pytest.raises(SecretsUnreadable, match="the master key"):
        await house.update({"task_settings": {"user": "x"}})
    await house.update({"service_settings": {"api_key": "new"}})

    assert house.probe.asked[-1].secrets == {"api_key": "new"}


async def test_an_update_during_a_put_waits_for_it(house) -> None:
    house.probe.gate = asyncio.Event()
    put = house.nursery.start(house.put("a"))
    await house.probe.arrived.wait()
    update = house.nursery.start(house.update({"task_settings": {"user": "x"}}))
    await let_others_come_in()
    house.probe.gate.set()

    await put
    assert (await update)["task_settings"] == {"user": "x"}


async def test_a_preconfigured_endpoint_cannot_be_updated(house) -> None:
    from inferry.commands import UpdateEndpoint

    with pytest.raises(Conflict, match="its model is not deployed"):
        await house.registry.update_endpoint(
            UpdateEndpoint(".minilm-l6-v2", None, {"service_settings": {"num_allocations": 2}})
        )


# --- DELETE --------------------------------------------------------------------------------------


async def test_row_95_a_deleted_endpoint_is_gone(house) -> None:
    await house.put("a")

    answer = await house.delete("a")

    assert answer["acknowledged"] is True
    assert (answer["pipelines"], answer["indexes"]) == ([], [])
    assert (house.store.rows, house.snapshot.get("a")) == ({}, None)


async def test_row_96_the_task_type_may_be_named(house) -> None:
    await house.put("a")

    assert (await house.delete("a", task_type="COMPLETION"))["acknowledged"]


async def test_row_97_another_task_type_is_refused(house) -> None:
    await house.put("a")

    with pytest.raises(BadRequest) as refused:
        await house.delete("a", task_type="rerank")

    assert refused.value.message == (
        "Requested task type [rerank] does not match the inference endpoint's task type "
        "[completion]"
    )


@pytest.mark.parametrize("inference_id", ["nope", "_all", "*", "a*"])
async def test_rows_98_99_nothing_but_one_id_is_deleted(house, inference_id: str) -> None:
    await house.put("a")

    with pytest.raises(NotFound, match="Inference endpoint not found"):
        await house.delete(inference_id)

    assert house.snapshot.get("a") is not None


async def test_row_100_a_dry_run_deletes_nothing(house) -> None:
    await house.put("a")

    answer = await house.delete("a", dry_run=True)

    assert answer == {
        "acknowledged": False,
        "pipelines": [],
        "indexes": [],
        "error_message": "",
    }
    assert house.snapshot.get("a") is not None


@pytest.mark.parametrize("task_type", [None, "sparse_embedding"])
async def test_row_105_a_preconfigured_endpoint_needs_force(house, task_type) -> None:
    with pytest.raises(BadRequest) as refused:
        await house.delete(".elser-2-elasticsearch", task_type=task_type)

    assert refused.value.message == (
        "[.elser-2-elasticsearch] is a reserved inference endpoint. "
        "Use the force=true query parameter to delete the inference endpoint."
    )


async def test_row_106_a_preconfigured_endpoint_is_listed_again_after_force(house) -> None:
    answer = await house.delete(".elser-2-elasticsearch", force=True)

    assert answer["acknowledged"] is True
    assert house.snapshot.get(".elser-2-elasticsearch") is not None


async def test_row_107_an_id_is_free_after_delete_and_its_revisions_never_return(house) -> None:
    await house.put("a")
    first = house.snapshot.require("a").revision
    await house.delete("a")

    assert await house.put("a")
    assert house.snapshot.require("a").revision > first


async def test_a_delete_that_an_update_overtook_loses(house) -> None:
    await house.put("a")
    house.probe.gate = asyncio.Event()
    house.probe.arrived.clear()
    update = house.nursery.start(house.update({"task_settings": {"user": "x"}}))
    await house.probe.arrived.wait()
    delete = house.nursery.start(house.delete("a"))
    await let_others_come_in()
    house.probe.gate.set()
    await update

    with pytest.raises(VersionConflict, match="version conflict"):
        await delete
    assert house.snapshot.get("a") is not None


# --- secrets -------------------------------------------------------------------------------------


async def test_secrets_are_given_for_every_revision_of_an_endpoint(house) -> None:
    await house.put("a")
    first = house.snapshot.require("a").revision
    await house.update({"service_settings": {"api_key": "new"}})
    second = house.snapshot.require("a").revision

    for revision in (first, second):
        secrets = await house.registry.fetch_secrets(FetchSecrets("a", revision))
        assert split_reserve(secrets)[0] == {"api_key": "new"}


@pytest.mark.parametrize("later_s", [0, 60, -60])
async def test_secrets_are_not_given_to_who_asks_for_a_former_endpoint_of_the_id(
    house, later_s: float
) -> None:
    await house.put("a")
    former = house.snapshot.require("a").revision
    await house.delete("a")
    house.now += later_s
    await house.put("a", hosted(api_key="another"))

    with pytest.raises(VersionConflict):
        await house.registry.fetch_secrets(FetchSecrets("a", former))


async def test_an_endpoint_that_is_not_there_has_no_secrets(house) -> None:
    with pytest.raises(NotFound):
        await house.registry.fetch_secrets(FetchSecrets("b", 1))


async def test_a_preconfigured_endpoint_has_no_secrets(house) -> None:
    assert await house.registry.fetch_secrets(FetchSecrets(".minilm-l6-v2", 1)) == {}
