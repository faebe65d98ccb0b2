"""Finds the services: the built-in ones and those of installed packages.

A package adds a service with an entry point in the group `inferry.services` whose value names a
`Service`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from inferry.service import Service
from inferry.telemetry import get_logger

GROUP = "inferry.services"


def load_services() -> dict[str, Service]:
    """Give every service by name; packages that are broken are logged and left out."""
    services = {service.name: service for service in built_in_services()}
    return services | services_of(entry_points(group=GROUP), taken=frozenset(services))


def built_in_services() -> list[Service]:
    """Give the services of this package."""
    from inferry.services import (
        amazonbedrock,
        anthropic,
        azureaistudio,
        azureopenai,
        cohere,
        elasticsearch,
        googleaistudio,
        googlevertexai,
        groq,
        hugging_face,
        mistral,
        openai,
    )

    return [
        amazonbedrock.SERVICE,
        anthropic.SERVICE,
        azureaistudio.SERVICE,
        azureopenai.SERVICE,
        cohere.SERVICE,
        elasticsearch.SERVICE,
        elasticsearch.ELSER,
        googleaistudio.SERVICE,
        googlevertexai.SERVICE,
        groq.SERVICE,
        hugging_face.SERVICE,
        mistral.SERVICE,
        openai.SERVICE,
    ]


def services_of(
    entries: Iterable[EntryPoint], *, taken: frozenset[str] = frozenset()
) -> dict[str, Service]:
    """Load the services that `entries` name; a name in `taken`, or given twice, stays as it is."""
    services: dict[str, Service] = {}
    for entry in entries:
        service = _load(entry)
        if service is None:
            continue
        if service.name in taken or service.name in services:
            _left_out(entry, f"the name [{service.name}] is taken")
            continue
        services[service.name] = service
    return services


def _load(entry: EntryPoint) -> Service | None:
    try:
        found = entry.load()
    except Exception as error:  # noqa: BLE001  (a foreign module may raise anything on import)
        _left_out(entry, f"{type(error).__name__}: {error}")
        return None
    if isinstance(found, Service):
        return found
    _left_out(entry, "it is no Service")
    return None


def _left_out(entry: EntryPoint, reason: str) -> None:
    get_logger(component="services").error(
        "service left out", entry_point=entry.name, value=entry.value, reason=reason
    )
