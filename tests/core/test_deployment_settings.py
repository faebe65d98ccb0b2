"""What settings of a local endpoint ask of its deployment, and what a deployment shows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from inferry.core.deployment_settings import (
    deployment_of,
    settings_when_attached,
    settings_when_live,
    settings_when_measured,
    spec_of,
    with_allocations,
)
from inferry.core.preconfigured import ELSER_MODEL_ID
from inferry.domain import Json
from inferry.errors import InvalidRequest, InvalidSettings
from inferry.records import DeploymentRecord, DeploymentSpec, EndpointRecord

ADAPTIVE: dict[str, Json] = {
    "enabled": True,
    "min_number_of_allocations": 0,
    "max_number_of_allocations": 4,
}


def record(service: str = "elasticsearch", **settings: Any) -> EndpointRecord:
    usual = {"num_threads": 2, "model_id": "m"}
    given = {name: value for name, value in (usual | settings).items() if value is not None}
    return EndpointRecord("e", "text_embedding", service, given, {}, None)


def deployment(**more: Any) -> DeploymentRecord:
    spec = DeploymentSpec("d", more.pop("model_id", "m"), 3, 2, **more)
    return DeploymentRecord(spec, dimensions=384, similarity="dot_product")


@pytest.mark.parametrize(
    ("settings", "allocations"),
    [
        ({"num_allocations": 3}, 3),
        ({"adaptive_allocations": ADAPTIVE}, 1),
        ({"adaptive_allocations": ADAPTIVE | {"min_number_of_allocations": 2}}, 2),
        ({"adaptive_allocations": {"enabled": True}}, 1),
        ({"num_allocations": 3, "adaptive_allocations": {"enabled": False}}, 3),
    ],
)
def test_a_deployment_starts_with_the_allocations_asked_for_or_the_least(settings, allocations):
    spec = spec_of(record(**settings))

    assert (spec.deployment_id, spec.model_id, spec.num_threads) == ("e", "m", 2)
    assert spec.num_allocations == allocations
    assert spec.adaptive_allocations == settings.get("adaptive_allocations")


@pytest.mark.parametrize("threads", [3, 6, 64])
def test_threads_are_a_power_of_two_up_to_32(threads):
    with pytest.raises(InvalidRequest) as caught:
        spec_of(record(num_allocations=1, num_threads=threads))

    assert str(caught.value) == (
        "Validation Failed: 1: [threads_per_allocation] must be a power of 2 less than or equal to "
        "32;"
    )


def test_a_fixed_number_and_an_adaptive_one_exclude_each_other():
    with pytest.raises(
        InvalidRequest, match=r"\[number_of_allocations\] cannot be set if adaptive"
    ):
        spec_of(record(num_allocations=1, adaptive_allocations=ADAPTIVE))


def test_the_model_of_elser_need_not_be_named():
    assert spec_of(record("elser", model_id=None)).model_id == ELSER_MODEL_ID


def test_a_width_is_asked_for_only_where_the_user_did():
    measured = record(dimensions=384)

    assert spec_of(measured).dimensions is None


def test_an_endpoint_runs_on_its_own_deployment_or_on_the_one_that_it_names():
    assert deployment_of("e", {}) == "e"
    assert deployment_of("e", {"deployment_id": "d"}) == "d"


def test_an_attached_endpoint_has_the_settings_of_the_deployment():
    sparse = msgspec.structs.replace(deployment(), dimensions=None)
    expected = [
        ("num_allocations", 3),
        ("num_threads", 2),
        ("model_id", "m"),
        ("deployment_id", "d"),
    ]

    assert list(settings_when_attached({}, sparse).items()) == expected
    assert list(settings_when_attached({"num_threads": 8}, deployment()).items()) == [
        *expected,
        ("dimensions", 384),
        ("similarity", "dot_product"),
        ("element_type", "float"),
    ]
    adaptive = settings_when_attached({}, deployment(adaptive_allocations=ADAPTIVE))
    assert adaptive["adaptive_allocations"] == ADAPTIVE


def test_a_loaded_model_shows_its_width_unless_it_is_a_built_in_one():
    settings = {"num_threads": 2}

    assert settings_when_measured(settings, deployment()) == {
        "num_threads": 2,
        "dimensions": 384,
        "similarity": "dot_product",
        "element_type": "float",
    }
    chosen = settings_when_measured({"similarity": "l2_norm"}, deployment())
    assert chosen["similarity"] == "l2_norm"
    assert settings_when_measured(settings, deployment(model_id=".m")) == settings


def test_readers_see_the_allocations_of_the_moment_first():
    stored = {"num_threads": 2, "num_allocations": 1}

    assert list(settings_when_live(stored, deployment()).items()) == [
        ("num_allocations", 3),
        ("num_threads", 2),
    ]


def test_an_update_replaces_one_kind_of_allocations_with_the_other():
    stored: dict[str, Json] = {"num_allocations": 1, "num_threads": 2}

    assert with_allocations(stored, {"num_allocations": 2}) == {
        "num_allocations": 2,
        "num_threads": 2,
    }
    adaptive = with_allocations(stored, {"adaptive_allocations": ADAPTIVE, "num_allocations": None})
    assert adaptive == {"adaptive_allocations": ADAPTIVE, "num_threads": 2}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"num_allocations": None},
            "[service_settings] does not contain one of the required settings"
            " [num_allocations, adaptive_allocations]",
        ),
        (
            {"num_allocations": 1, "adaptive_allocations": ADAPTIVE},
            "[num_allocations] cannot be set if [adaptive_allocations] is set",
        ),
    ],
)
def test_an_update_has_exactly_one_kind_of_allocations(given, problem):
    with pytest.raises(InvalidSettings) as caught:
        with_allocations({"num_threads": 2}, given)

    assert str(caught.value) == f"Validation Failed: 1: {problem};"
