"""`GET /`: who we are, in the form that clients and tools look at before anything else."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route


class VersionInfo(msgspec.Struct, frozen=True):
    """What we claim to be compatible with."""

    number: str
    build_flavor: str = "default"
    build_type: str = "tar"
    build_hash: str = "0" * 40
    build_date: str = "2026-08-01T00:00:00.000Z"
    build_snapshot: bool = False
    lucene_version: str = "10.3.0"
    minimum_wire_compatibility_version: str = "8.19.0"
    minimum_index_compatibility_version: str = "8.0.0"


class ClusterInfo(msgspec.Struct, frozen=True):
    """The answer. Old clients compare the tagline."""

    name: str
    cluster_name: str
    cluster_uuid: str
    version: VersionInfo
    tagline: str = "You Know, for Search"


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """What distinguishes this server. version: the Elasticsearch version that is announced."""

    node_name: str
    cluster_uuid: str
    version: str
    cluster_name: str = "inference"


def cluster_routes(identity: ClusterIdentity) -> list[Route]:
    """Give the routes of `/`."""
    shown = msgspec.json.encode(
        ClusterInfo(
            identity.node_name,
            identity.cluster_name,
            identity.cluster_uuid,
            VersionInfo(identity.version),
        )
    )

    async def show(request: Request) -> Answer:
        return Answer(shown)

    # Upstream asks for `monitor`; every authenticated caller may know, since clients ask first.
    summary = "Show name and version"
    return [Route("GET", "/", show, None, render_error, summary, answer_type=ClusterInfo)]
