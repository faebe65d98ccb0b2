"""Which region policies are accepted, and what they forbid."""

from __future__ import annotations

import pytest

from inferry.core.regions import (
    Region,
    check_region,
    is_allowed,
    parse_region_policy,
    region_of,
)
from inferry.errors import IllegalArgument, RegionDenied
from inferry.records import RegionPolicyRecord

EU_WEST_1 = {"csp": "aws", "region": "eu-west-1"}


@pytest.mark.parametrize(
    "policy",
    [
        {"allowed_geos": ["eu", "us"]},
        {"allowed_regions": [EU_WEST_1]},
        {"allowed_regions": [EU_WEST_1], "fallback_region": EU_WEST_1},
    ],
)
def test_a_policy_is_kept_as_it_came(policy) -> None:
    assert parse_region_policy({"region_policy": policy}) == policy


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Required [region_policy]"),
        ({"region_policy": None}, "Required [region_policy]"),
        ({"region_policy": []}, "[region_policy] must be an object"),
        ({"region_policy": {}, "x": 1}, "[put_region_policy_request] unknown field [x]"),
        ({"region_policy": {"x": 1}}, "[region_policy] unknown field [x]"),
        ({"region_policy": {}}, "Required one of fields [allowed_geos, allowed_regions]"),
        (
            {"region_policy": {"allowed_geos": ["eu"], "allowed_regions": [EU_WEST_1]}},
            "The following fields are not allowed together: [allowed_geos, allowed_regions]",
        ),
        (
            {"region_policy": {"allowed_geos": []}},
            "[region_policy.allowed_geos] must not be empty",
        ),
        (
            {"region_policy": {"allowed_regions": []}},
            "[region_policy.allowed_regions] must not be empty",
        ),
        ({"region_policy": {"allowed_geos": "eu"}}, "[allowed_geos] must be an array, got [eu]"),
        ({"region_policy": {"allowed_geos": [1]}}, "[allowed_geos] must be a non-empty string"),
        ({"region_policy": {"allowed_regions": ["eu"]}}, "[allowed_regions] must be an object"),
        ({"region_policy": {"allowed_regions": [{"csp": "aws"}]}}, "Required [region]"),
        (
            {"region_policy": {"allowed_regions": [EU_WEST_1 | {"x": 1}]}},
            "[allowed_regions] unknown field [x]",
        ),
        (
            {"region_policy": {"allowed_geos": ["eu"], "fallback_region": {"csp": 1}}},
            "[csp] must be a non-empty string",
        ),
    ],
)
def test_row_179_other_documents_are_refused(body, text: str) -> None:
    with pytest.raises(IllegalArgument) as refused:
        parse_region_policy(body)

    assert text in refused.value.message


@pytest.mark.parametrize(
    ("service", "settings", "region"),
    [
        ("amazonbedrock", {"region": "EU-west-1"}, Region("aws", "eu-west-1")),
        ("amazon_sagemaker", {"region": "us-east-1"}, Region("aws", "us-east-1")),
        ("googlevertexai", {"location": "europe-west4"}, Region("gcp", "europe-west4")),
        (
            "azureaistudio",
            {"target": "https://m.eastus2.models.ai.azure.com/v1"},
            Region("azure", "eastus2"),
        ),
        (
            "azureaistudio",
            {"target": "https://m.westeurope.inference.ml.azure.com"},
            Region("azure", "westeurope"),
        ),
        ("azureaistudio", {"target": "https://models.ai.example.com"}, None),
        ("azureopenai", {"resource_name": "r"}, None),
        ("azureopenai", {"url": 1}, None),
        ("googlevertexai", {}, None),
        (
            "googlevertexai",
            {"streaming_url": "https://us-east5-aiplatform.googleapis.com/v1/projects/p"},
            Region("gcp", "us-east5"),
        ),
        ("googlevertexai", {"url": "https://aiplatform.googleapis.com/v1/projects/p"}, None),
        ("googlevertexai", {"url": "https://us-east5-aiplatform.googleapis.com.a.test/v1"}, None),
        ("openai", {"region": "us-east-1"}, None),
    ],
)
def test_the_region_of_an_endpoint_is_what_its_settings_name(service, settings, region) -> None:
    assert region_of(service, settings) == region


@pytest.mark.parametrize(
    ("csp", "name", "geo"),
    [
        ("aws", "us-gov-west-1", "us"),
        ("aws", "eu-central-2", "eu"),
        ("aws", "ap-south-1", "apac"),
        ("aws", "sa-east-1", "sa"),
        ("gcp", "europe-west4", "eu"),
        ("gcp", "eu", "eu"),
        ("gcp", "us-central1", "us"),
        ("gcp", "southamerica-east1", "sa"),
        ("gcp", "asia-east1", "apac"),
        ("gcp", "africa-south1", "af"),
        ("azure", "eastus2", "us"),
        ("azure", "northeurope", "eu"),
        ("azure", "southafricanorth", "af"),
        ("azure", "southeastasia", "apac"),
        ("gcp", "global", None),
    ],
)
def test_a_region_lies_in_a_part_of_the_world(csp, name, geo) -> None:
    assert Region(csp, name).geo == geo


@pytest.mark.parametrize(
    ("policy", "is_fine"),
    [
        ({"allowed_geos": ["EU"]}, True),
        ({"allowed_geos": ["us"]}, False),
        ({"allowed_regions": [{"csp": "AWS", "region": "eu-west-1"}]}, True),
        ({"allowed_regions": [{"csp": "gcp", "region": "eu-west-1"}]}, False),
        ({"allowed_regions": [{"csp": "aws", "region": "eu-west-2"}]}, False),
    ],
)
def test_a_policy_allows_regions_or_parts_of_the_world(policy, is_fine) -> None:
    assert is_allowed(policy, Region("aws", "eu-west-1")) is is_fine


def test_a_region_of_an_unknown_part_of_the_world_is_outside_every_one() -> None:
    assert not is_allowed({"allowed_geos": ["eu"]}, Region("gcp", "global"))


def test_a_denial_names_the_region() -> None:
    policy = RegionPolicyRecord({"allowed_geos": ["eu"]}, 0)

    with pytest.raises(RegionDenied) as denied:
        check_region(
            policy,
            inference_id="a",
            service="amazonbedrock",
            service_settings={"region": "us-east-1"},
        )

    assert denied.value.message == (
        "The region policy does not allow the inference endpoint [a] of the service "
        "[amazonbedrock] in the region [us-east-1] of [aws]"
    )


def test_nothing_is_denied_without_a_policy_or_without_a_region() -> None:
    policy = RegionPolicyRecord({"allowed_geos": ["eu"]}, 0)

    check_region(
        None, inference_id="a", service="amazonbedrock", service_settings={"region": "us-east-1"}
    )
    check_region(policy, inference_id="a", service="openai", service_settings={})
