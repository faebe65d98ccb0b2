"""What an API process answers reads from."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.core.preconfigured import RESERVED_IDS
from inferry.core.snapshot import Snapshot
from inferry.domain import Origin, TaskType
from inferry.errors import BadRequest, NotFound
from inferry.records import (
    DeploymentRecord,
    DeploymentSpec,
    Drop,
    EndpointRecord,
    Put,
    ReferenceRecord,
    RegionPolicyRecord,
    RoleDescriptor,
    RoleRecord,
)


def record(inference_id: str, *, task_type: str = "completion", **more: Any) -> EndpointRecord:
    settings: dict[str, Any] = {
        "service": "openai",
        "service_settings": {"model_id": "m", "rate_limit": {"requests_per_minute": 5}},
        "task_settings": {},
        "chunking_settings": None,
    }
    return EndpointRecord(inference_id, task_type, **(settings | more))


def listed(snapshot: Snapshot, task_type: TaskType | None = None) -> list[dict[str, Any]]:
    parts, size = snapshot.list_answer(task_type)
    body = b"".join(parts)
    assert len(body) == size
    answer = msgspec.json.decode(body)
    assert list(answer) == ["endpoints"]
    items: list[dict[str, Any]] = answer["endpoints"]
    return items


def ids(snapshot: Snapshot, task_type: TaskType | None = None) -> list[str]:
    return [item["inference_id"] for item in listed(snapshot, task_type)]


def test_row_1_a_fresh_snapshot_holds_the_preconfigured_endpoints_only() -> None:
    assert ids(Snapshot()) == sorted(RESERVED_IDS)


def test_row_16_lists_are_sorted_by_code_point_dots_first() -> None:
    snapshot = Snapshot()

    snapshot.apply([Put(record(name)) for name in ("b", "a_b", "a-b", "a.b", "9", "ab", "a")])

    assert ids(snapshot)[len(RESERVED_IDS) :] == ["9", "a", "a-b", "a.b", "a_b", "ab", "b"]


def test_row_4_a_list_of_one_type_has_only_that_type() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record("a")), Put(record("b", task_type="rerank"))])

    assert ids(snapshot, TaskType.COMPLETION) == ["a"]
    assert ids(snapshot, TaskType.RERANK) == [".rerank-v1-elasticsearch", "b"]


def test_row_6_a_list_of_a_type_that_nobody_has_is_empty() -> None:
    assert listed(Snapshot(), TaskType.COMPLETION) == []


def test_items_have_the_members_of_the_wire_in_its_order() -> None:
    snapshot = Snapshot()
    chunking = {"strategy": "none"}
    snapshot.apply(
        [
            Put(
                record(
                    "a",
                    task_type="text_embedding",
                    task_settings={"user": "x"},
                    chunking_settings=chunking,
                )
            )
        ]
    )

    item = listed(snapshot, TaskType.TEXT_EMBEDDING)[-1]

    assert list(item) == [
        "inference_id",
        "task_type",
        "service",
        "service_settings",
        "task_settings",
        "chunking_settings",
    ]
    assert list(item["service_settings"]) == ["model_id", "rate_limit"]


def test_rows_18_19_empty_task_settings_and_absent_chunking_are_left_out() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record("a"))])

    item = listed(snapshot, TaskType.COMPLETION)[0]

    assert list(item) == ["inference_id", "task_type", "service", "service_settings"]


def test_row_17_sealed_secrets_are_in_no_answer_and_nowhere_in_the_entry() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record("a", secrets=b"marker"))])
    entry = snapshot.require("a")

    parts, _ = snapshot.list_answer()

    assert b"marker" not in b"".join(parts) + entry.single_answer()
    assert entry.endpoint().secrets == {}
    assert all(getattr(entry, name) != b"marker" for name in entry.__slots__)


def test_row_7_one_endpoint_is_answered_as_a_list_of_one_and_flat_beside_it() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record("a"))])

    answer = msgspec.json.decode(snapshot.require("a").single_answer())

    assert answer == {
        "endpoints": [
            {
                "inference_id": "a",
                "task_type": "completion",
                "service": "openai",
                "service_settings": {"model_id": "m", "rate_limit": {"requests_per_minute": 5}},
            }
        ],
        "inference_id": "a",
        "task_type": "completion",
        "service": "openai",
        "service_settings": {"model_id": "m", "rate_limit": {"requests_per_minute": 5}},
        "task_settings": {},
    }


def test_the_answer_of_one_endpoint_is_encoded_once_per_revision() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record("a"))])
    entry = snapshot.require("a")

    assert entry.single_answer() is entry.single_answer()
    snapshot.apply([Put(record("a", service="cohere", revision=2))])
    assert b"cohere" in snapshot.require("a").single_answer()


def test_row_9_another_type_than_the_endpoints_own_is_refused() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record("a"))])

    with pytest.raises(BadRequest) as refused:
        snapshot.require("a", TaskType.RERANK)

    assert refused.value.message == (
        "Requested task type [rerank] does not match the inference endpoint's task type "
        "[completion]"
    )


@pytest.mark.parametrize("inference_id", ["nope", "a,b", "my-*", "*"])
def test_rows_10_14_15_an_id_that_nobody_has_is_not_found(inference_id: str) -> None:
    with pytest.raises(NotFound) as refused:
        Snapshot().require(inference_id)

    assert refused.value.message == f"Inference endpoint not found [{inference_id}]"


def test_an_entry_decodes_to_its_endpoint() -> None:
    snapshot = Snapshot()
    snapshot.apply(
        [
            Put(
                record(
                    "a",
                    task_type="text_embedding",
                    task_settings={"user": "x"},
                    chunking_settings={"strategy": "none"},
                    revision=7,
                    dimensions_set_by_user=True,
                )
            )
        ]
    )

    endpoint = snapshot.require("a").endpoint()

    assert endpoint.task_type is TaskType.TEXT_EMBEDDING
    assert endpoint.task_settings == {"user": "x"}
    assert endpoint.chunking_settings == {"strategy": "none"}
    assert (endpoint.revision, endpoint.dimensions_set_by_user) == (7, True)
    assert endpoint.origin is Origin.API
    assert snapshot.require("a").endpoint() is endpoint


def test_a_change_makes_a_new_entry_so_that_what_was_composed_is_forgotten() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record("a"))])
    snapshot.require("a").runners = object()

    snapshot.apply([Put(record("a", revision=2))])

    assert snapshot.require("a").runners is None


def test_a_list_that_is_being_written_does_not_change_under_the_writer() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record(f"e-{number:04}")) for number in range(600)])
    parts, size = snapshot.list_answer()

    first = next(iter_parts := iter(parts))
    snapshot.apply([Drop("endpoint", f"e-{number:04}") for number in range(600)])
    body = first + b"".join(iter_parts)

    assert len(body) == size
    assert len(msgspec.json.decode(body)["endpoints"]) == 600 + len(RESERVED_IDS)


def test_a_preconfigured_endpoint_cannot_be_dropped() -> None:
    snapshot = Snapshot()

    snapshot.apply([Drop("endpoint", ".minilm-l6-v2")])

    assert ".minilm-l6-v2" in ids(snapshot)


def test_region_policy_and_references_follow_their_changes() -> None:
    snapshot = Snapshot()
    policy = RegionPolicyRecord({"allowed_geos": ["eu"]}, 0)
    reference = ReferenceRecord("p", "pipeline", ["a"])

    snapshot.apply([Put(policy), Put(reference), Put(RoleRecord("r", RoleDescriptor()))])
    assert msgspec.json.decode(snapshot.region_policy_answer()) == {
        "region_policy": {"allowed_geos": ["eu"]},
        "created_at": "1970-01-01T00:00:00.000Z",
    }
    assert snapshot.references == {"p": reference}

    snapshot.apply([Drop("region_policy", "region_policy"), Drop("reference", "p")])
    assert snapshot.references == {}
    with pytest.raises(NotFound, match="No region policy is configured for this deployment"):
        snapshot.region_policy_answer()


IDS = st.sampled_from(["a", "a-b", "a.b", "a_b", "ab", "b", "0", "z9"])
CHANGES = st.one_of(
    st.builds(
        lambda name, task, number: Put(
            record(name, task_type=task, service_settings={"n": number}, revision=number)
        ),
        IDS,
        st.sampled_from(["completion", "rerank", "text_embedding"]),
        st.integers(1, 10**6),
    ),
    IDS.map(lambda name: Drop("endpoint", name)),
)


@given(st.lists(st.lists(CHANGES, max_size=6), max_size=12))
def test_after_any_changes_every_view_shows_the_same_endpoints(batches) -> None:
    snapshot = Snapshot()
    expected: dict[str, EndpointRecord] = {}

    for batch in batches:
        snapshot.apply(batch)
        for change in batch:
            if isinstance(change, Put):
                assert isinstance(change.record, EndpointRecord)
                expected[change.record.key] = change.record
            else:
                expected.pop(change.key, None)

    own = [item for item in listed(snapshot) if item["inference_id"] not in RESERVED_IDS]
    assert [item["inference_id"] for item in own] == sorted(expected)
    assert len(snapshot) == len(expected) + len(RESERVED_IDS)
    for name, stored in expected.items():
        entry = snapshot.require(name)
        assert entry.endpoint().service_settings == stored.service_settings
        assert entry.revision == stored.revision
    for task_type in TaskType:
        views = [entry.inference_id for entry in snapshot.entries(task_type)]
        assert views == ids(snapshot, task_type)
        assert {name for name in views if name not in RESERVED_IDS} == {
            name for name, stored in expected.items() if stored.task_type == task_type
        }


def test_one_change_among_very_many_endpoints_does_not_hold_up_the_loop() -> None:
    snapshot = Snapshot()
    snapshot.apply([Put(record(f"e-{number:05}")) for number in range(30_000)])

    took = []
    for number in range(20):
        started = time.perf_counter()
        snapshot.apply([Put(record(f"e-{number * 997:05}-new"))])
        took.append(time.perf_counter() - started)

    assert min(took) < 0.005


def test_many_endpoints_in_any_order_stay_sorted_and_can_all_go_again() -> None:
    names = [f"e-{number * 7919 % 5000:04}" for number in range(5000)]
    snapshot = Snapshot()

    snapshot.apply([Put(record(name)) for name in names])
    assert ids(snapshot, TaskType.COMPLETION) == sorted(names)

    snapshot.apply([Drop("endpoint", name) for name in names])
    assert listed(snapshot, TaskType.COMPLETION) == []
    assert ids(snapshot) == sorted(RESERVED_IDS)


# --- deployments -------------------------------------------------------------------------------


def local(inference_id: str, **settings: Any) -> Put:
    service_settings = {"num_threads": 1, "model_id": "m", **settings}
    more = {"service": "elasticsearch", "service_settings": service_settings}
    return Put(record(inference_id, task_type="text_embedding", **more))


def running(deployment_id: str, allocations: int, **more: Any) -> Put:
    return Put(DeploymentRecord(DeploymentSpec(deployment_id, "m", allocations, 1), **more))


def settings_of(snapshot: Snapshot, inference_id: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(snapshot.require(inference_id).single_answer())
    assert found["endpoints"][0]["service_settings"] == found["service_settings"]
    [item] = [one for one in listed(snapshot) if one["inference_id"] == inference_id]
    assert item == found["endpoints"][0]
    settings: dict[str, Any] = found["service_settings"]
    return settings


def test_an_endpoint_shows_the_allocations_that_its_deployment_has_now() -> None:
    snapshot = Snapshot(cores=1)
    adaptive = {"enabled": True}
    snapshot.apply([local("a", adaptive_allocations=adaptive), running("a", 1)])
    before = settings_of(snapshot, "a")

    snapshot.apply([running("a", 5, state="started")])

    assert list(before) == ["num_allocations", "num_threads", "model_id", "adaptive_allocations"]
    assert before["num_allocations"] == 1
    assert settings_of(snapshot, "a")["num_allocations"] == 5


def test_it_does_so_whatever_is_told_first() -> None:
    snapshot = Snapshot(cores=1)

    snapshot.apply([running("a", 3), local("a", num_allocations=1), running("b", 9)])

    assert settings_of(snapshot, "a")["num_allocations"] == 3
    assert settings_of(snapshot, ".minilm-l6-v2")["num_allocations"] == 1


def test_without_a_deployment_it_shows_what_is_stored() -> None:
    snapshot = Snapshot(cores=1)
    snapshot.apply([running(".elser-2-elasticsearch", 2), local("a"), running("a", 3)])
    assert settings_of(snapshot, ".elser-2-elasticsearch")["num_allocations"] == 2

    snapshot.apply([Drop("deployment", "a"), Drop("deployment", ".elser-2-elasticsearch")])

    assert settings_of(snapshot, "a") == {"num_threads": 1, "model_id": "m"}
    assert "num_allocations" not in settings_of(snapshot, ".elser-2-elasticsearch")


def test_an_attached_endpoint_follows_the_deployment_that_it_names() -> None:
    snapshot = Snapshot(cores=1)
    snapshot.apply([local("guest", deployment_id="owner"), running("owner", 4)])

    assert settings_of(snapshot, "guest")["num_allocations"] == 4


def test_a_deployment_means_nothing_to_endpoints_of_providers() -> None:
    snapshot = Snapshot(cores=1)
    snapshot.apply([Put(record("a", service_settings={"deployment_id": "d"})), running("d", 4)])

    assert settings_of(snapshot, "a") == {"deployment_id": "d"}


def test_an_endpoint_that_is_gone_does_not_come_back_with_its_deployment() -> None:
    snapshot = Snapshot(cores=1)
    snapshot.apply([local("a"), running("a", 1), Drop("endpoint", "a")])

    snapshot.apply([running("a", 2), Drop("deployment", "a")])

    assert snapshot.get("a") is None
