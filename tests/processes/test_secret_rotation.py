"""A provider's key is replaced without a request that fails in between."""

from __future__ import annotations

import pytest

from tests.providers import Connection, Received, answer, send_json
from tests.server import openai_endpoint

pytestmark = pytest.mark.server


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_after_its_proof_gives_way_to_the_former_one(serve, provider, status):
    server = serve()
    known = {"first", "second"}

    async def only_known(connection: Connection, received: Received) -> None:
        if received.headers["authorization"].removeprefix("Bearer ") in known:
            await answer(connection, received)
        else:
            error = {"error": {"message": "Incorrect API key provided: second"}}
            await send_json(connection, error, status=status)

    provider.always(only_known)
    path = "/_inference/text_embedding/a"
    assert server.call("PUT", path, openai_endpoint(provider.url, api_key="first")).status == 200
    newer = {"service_settings": {"api_key": "second"}}
    assert server.call("PUT", f"{path}/_update", newer).status == 200

    known.remove("second")
    assert server.call("POST", path, {"input": "x"}).status == 200

    known.remove("first")
    refused = server.call("POST", path, {"input": "x"})
    assert refused.status == status
    assert b"second" not in refused.content
    wrong = {"service_settings": {"api_key": "third"}}
    assert server.call("PUT", f"{path}/_update", wrong).status == status
