"""The description of every call."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from inferry.api.cluster import ClusterIdentity, cluster_routes
from inferry.api.docs_page import docs_routes
from inferry.api.elastic.routes import elastic_routes
from inferry.api.extensions import extension_routes
from inferry.api.health import health_routes
from inferry.api.openapi import describe, openapi_routes
from inferry.core.snapshot import Snapshot
from inferry.telemetry import Metrics


def every_route():
    snapshot = Snapshot()
    nothing = None
    return [
        *elastic_routes(snapshot, nothing, nothing, {}),  # type: ignore[arg-type]
        *extension_routes(snapshot, nothing),  # type: ignore[arg-type]
        *cluster_routes(ClusterIdentity("n", "u", "9.5.1")),
        *health_routes(Metrics(), lambda: None),
        *docs_routes(),
    ]


def test_every_call_is_described_once():
    document = describe(every_route(), version="1")

    shown = {
        (method.upper(), path) for path, calls in document["paths"].items() for method in calls
    }
    routes = {(route.method, route.path) for route in every_route() if route.summary}
    ids = [call["operationId"] for calls in document["paths"].values() for call in calls.values()]
    assert shown == routes
    assert max(Counter(ids).values()) == 1


def test_every_reference_leads_to_a_schema():
    document = describe(every_route(), version="1")

    named = set(re.findall(r"#/components/schemas/([^\"]+)", json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    assert "EndpointBody" in named


def test_parameters_in_the_path_are_required():
    document = describe(every_route(), version="1")

    call = document["paths"]["/_inference/{task_type}/{inference_id}"]["post"]
    in_path = [one["name"] for one in call["parameters"] if one["in"] == "path"]
    assert in_path == ["task_type", "inference_id"]
    assert "timeout" in [one["name"] for one in call["parameters"]]
    assert "cluster:monitor/xpack/inference/post" in call["description"]


async def test_the_document_is_written_once(make_request):
    [route] = openapi_routes(every_route(), version="1")

    first = await route.answer(make_request())
    second = await route.answer(make_request())

    assert first.body is second.body
    assert isinstance(first.body, bytes)
    assert json.loads(first.body)["openapi"].startswith("3.1")


def test_the_page_needs_no_other_server():
    folder = Path(docs_routes.__code__.co_filename).parent / "pages"

    for file in folder.iterdir():
        assert not re.search(r"https?://", file.read_text()), file.name
