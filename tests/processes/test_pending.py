"""What waits for providers has a bound in every API process."""

from __future__ import annotations

import pytest

from tests.server import openai_endpoint

pytestmark = pytest.mark.server

PATH = "/_inference/text_embedding/mine"
TEXT = {"input": "x" * 2000}


def test_a_request_above_the_bound_is_told_to_come_again(serve, provider, hold):
    server = serve(environment={"INFERRY_OUTBOUND__MAX_PENDING_BYTES": "3KB"})
    assert server.call("PUT", PATH, openai_endpoint(provider.url)).status == 200
    provider.then(hold)
    first = server.connect()
    first.send("POST", PATH, TEXT)
    hold.wait()

    refused = server.call("POST", PATH, TEXT)
    small = server.call("POST", PATH, {"input": "x"})
    hold.release()

    assert refused.status == 429
    assert refused.json["error"]["type"] == "es_rejected_execution_exception"
    assert refused.headers["retry-after"] == "1"
    assert small.status == 200
    assert first.receive().status == 200
    assert server.call("POST", PATH, TEXT).status == 200
