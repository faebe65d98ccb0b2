"""The region policy: which document is accepted, how it is answered, and what it forbids.

It holds for services whose settings name a region; an endpoint without one is never refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from inferry.domain import Json, Settings
from inferry.errors import IllegalArgument, NotFound, RegionDenied
from inferry.java_text import java_text
from inferry.records import RegionPolicyRecord

_POLICY = "region_policy"
_GEOS, _REGIONS, _FALLBACK = "allowed_geos", "allowed_regions", "fallback_region"
_AZURE_HOST = re.compile(
    r"https?://[^/]*?\.(?P<region>[a-z]+[0-9]?)\.(?:models\.ai|inference\.ml)\.azure\.com(?:[:/]|$)"
)
_VERTEX_HOST = re.compile(
    r"https?://(?P<region>[a-z]+-[a-z]+[0-9]+)-aiplatform\.googleapis\.com(?:[:/]|$)"
)
# Beginnings of the names of regions, of all three clouds; another name has no known geo.
_GEOS_BY_BEGINNING: Mapping[str, tuple[str, ...]] = {
    "us": (
        "us",
        "eastus",
        "westus",
        "centralus",
        "northcentralus",
        "southcentralus",
        "westcentralus",
    ),
    "ca": ("ca-", "canada", "northamerica-northeast"),
    "eu": (
        *("eu", "northeurope", "westeurope", "france", "germany", "italy", "norway", "poland"),
        *("spain", "sweden", "switzerland", "uk"),
    ),
    "apac": (
        *("ap-", "asia", "australia", "eastasia", "southeastasia", "japan", "korea"),
        *("centralindia", "southindia", "westindia", "newzealand", "indonesia", "malaysia"),
    ),
    "sa": ("sa-", "southamerica", "brazil"),
    "me": ("me-", "il-", "uae", "qatar", "israel"),
    "af": ("af-", "africa", "southafrica"),
}


@dataclass(frozen=True, slots=True)
class Region:
    """A region of a cloud provider: csp `aws`, `gcp` or `azure`, and its name there."""

    csp: str
    name: str

    @property
    def geo(self) -> str | None:
        """The part of the world it lies in (`us`, `eu`, `apac`, ...), None when we do not know."""
        begun = (geo for geo, begin in _GEOS_BY_BEGINNING.items() if self.name.startswith(begin))
        return next(begun, None)


def _named(csp: str, setting: str) -> Callable[[Settings], Region | None]:
    def read(settings: Settings) -> Region | None:
        value = settings.get(setting)
        return Region(csp, value.strip().lower()) if isinstance(value, str) and value else None

    return read


def _in_host(csp: str, host: re.Pattern[str], *urls: str) -> Callable[[Settings], Region | None]:
    def read(settings: Settings) -> Region | None:
        given = (settings.get(name) for name in urls)
        found = (host.match(url.lower()) for url in given if isinstance(url, str))
        return next((Region(csp, one["region"]) for one in found if one), None)

    return read


def _vertex(settings: Settings) -> Region | None:
    in_url = _in_host("gcp", _VERTEX_HOST, "url", "streaming_url")
    return _named("gcp", "location")(settings) or in_url(settings)


_READERS: Mapping[str, Callable[[Settings], Region | None]] = {
    "amazonbedrock": _named("aws", "region"),
    "amazon_sagemaker": _named("aws", "region"),
    "googlevertexai": _vertex,
    "azureaistudio": _in_host("azure", _AZURE_HOST, "target"),
    "azureopenai": _in_host("azure", _AZURE_HOST, "url"),
}

SERVICES_WITH_REGION = frozenset(_READERS)


def region_of(service: str, service_settings: Settings) -> Region | None:
    """Give the region that an endpoint's settings name, None without one."""
    read = _READERS.get(service)
    return None if read is None else read(service_settings)


def check_region(
    policy: RegionPolicyRecord | None,
    *,
    inference_id: str,
    service: str,
    service_settings: Settings,
) -> None:
    """Refuse to create or run an endpoint outside `policy`; a region of unknown geo is outside."""
    if policy is None:
        return
    region = region_of(service, service_settings)
    if region is None or is_allowed(policy.policy, region):
        return
    raise RegionDenied(
        f"The region policy does not allow the inference endpoint [{inference_id}] of the service "
        f"[{service}] in the region [{region.name}] of [{region.csp}]"
    )


def is_allowed(policy: Mapping[str, Any], region: Region) -> bool:
    """Tell whether a policy document allows `region`."""
    geos = policy.get(_GEOS)
    if geos is not None:
        return region.geo in [geo.lower() for geo in geos]
    return any(
        (item["csp"].lower(), item["region"].lower()) == (region.csp, region.name)
        for item in policy[_REGIONS]
    )


def parse_region_policy(body: Mapping[str, Json]) -> dict[str, Json]:
    """Validate the body of PUT `_region_policy` and give its document."""
    _only(body, (_POLICY,), "put_region_policy_request")
    policy = body.get(_POLICY)
    if policy is None:
        raise IllegalArgument(f"Required [{_POLICY}]")
    if not isinstance(policy, dict):
        raise _not_a(_POLICY, "put_region_policy_request", "an object", policy)
    _only(policy, (_GEOS, _REGIONS, _FALLBACK), _POLICY)
    geos, regions = policy.get(_GEOS), policy.get(_REGIONS)
    if geos is not None and regions is not None:
        raise IllegalArgument(
            f"The following fields are not allowed together: [{_GEOS}, {_REGIONS}]"
        )
    if geos is None and regions is None:
        raise IllegalArgument(
            f"Required one of fields [{_GEOS}, {_REGIONS}], but none were specified."
        )
    _check_list(_GEOS, geos, _check_geo)
    _check_list(_REGIONS, regions, _check_region_object)
    if policy.get(_FALLBACK) is not None:
        _check_region_object(_FALLBACK, policy[_FALLBACK])
    return {name: value for name, value in policy.items() if value is not None}


def encode_region_policy(record: RegionPolicyRecord) -> bytes:
    """Encode the stored document as it is answered."""
    answer: dict[str, Any] = {_POLICY: record.policy, "created_at": _iso(record.created_at_ms)}
    if record.created_by is not None:
        answer["created_by"] = record.created_by
    if record.updated_at_ms is not None:
        answer["updated_at"] = _iso(record.updated_at_ms)
    if record.updated_by is not None:
        answer["updated_by"] = record.updated_by
    return msgspec.json.encode(answer)


def no_region_policy() -> NotFound:
    """Say that there is none."""
    return NotFound("No region policy is configured for this deployment")


def _iso(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_list(name: str, given: Json, check: Callable[[str, Json], None]) -> None:
    if given is None:
        return
    if not isinstance(given, list):
        raise _not_a(name, _POLICY, "an array", given)
    if not given:
        raise IllegalArgument(f"[{_POLICY}.{name}] must not be empty")
    for item in given:
        check(name, item)


def _check_geo(name: str, item: Json) -> None:
    if not isinstance(item, str) or not item:
        raise _not_a(name, _POLICY, "a non-empty string", item)


def _check_region_object(name: str, item: Json) -> None:
    if not isinstance(item, dict):
        raise _not_a(name, _POLICY, "an object", item)
    _only(item, ("csp", "region"), name)
    for member in ("csp", "region"):
        if item.get(member) is None:
            raise IllegalArgument(f"Required [{member}]")
        _check_geo(member, item[member])


def _only(given: Mapping[str, Json], known: tuple[str, ...], parser: str) -> None:
    for name in given:
        if name not in known:
            raise IllegalArgument(f"[{parser}] unknown field [{name}]")


def _not_a(name: str, parser: str, expected: str, value: Json) -> IllegalArgument:
    return IllegalArgument(f"[{parser}] [{name}] must be {expected}, got [{java_text(value)}]")
