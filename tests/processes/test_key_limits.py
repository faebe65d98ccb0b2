"""Keys with limits: counted for the host, in every dialect, also across a restart."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server import Server, openai_endpoint

pytestmark = pytest.mark.server

EMBEDDINGS = "/v1/embeddings"


def make_key(server: Server, **limits: Any) -> tuple[str, dict[str, str]]:
    """Make a key with limits; give its id and the header that sends it."""
    made = server.call(
        "POST",
        "/_security/api_key",
        {"name": "k", "metadata": {"team": "search", "inferry_limits": limits}},
    )
    assert made.status == 200, made.content
    return made.json["id"], {"Authorization": f"ApiKey {made.json['encoded']}"}


@pytest.fixture
def chat(provider) -> dict[str, Any]:
    settings = {"api_key": "x", "model_id": "m", "url": f"{provider.url}/v1/chat/completions"}
    return {"service": "openai", "service_settings": settings}


def test_requests_are_counted_across_processes_and_dialects(serve, provider, chat):
    server = serve("--workers", "2", auth=True)
    one, other = server.connections(each=1)
    server.call("PUT", "/_inference/text_embedding/e", openai_endpoint(provider.url))
    server.call("PUT", "/_inference/chat_completion/c", chat)
    key_id, key = make_key(server, requests_per_minute=5)
    message = {"messages": [{"role": "user", "content": "hello"}]}

    met = [
        one.call("POST", "/_inference/e", {"input": "x"}, **key),
        other.call("POST", "/_inference/text_embedding/e", {"input": "x"}, **key),
        one.call("POST", EMBEDDINGS, {"model": "e", "input": "x"}, **key),
        other.call("POST", "/v1/chat/completions", {"model": "c", **message}, **key),
        one.call("POST", "/_inference/chat_completion/c/_stream", message, **key),
    ]
    refused = [
        other.call("POST", "/_inference/e", {"input": "x"}, **key),
        one.call("POST", EMBEDDINGS, {"model": "e", "input": "x"}, **key),
        other.call("POST", "/_inference/chat_completion/c/_stream", message, **key),
    ]

    assert [reply.status for reply in met] == [200] * 5, [reply.content for reply in met]
    assert [reply.status for reply in refused] == [429] * 3
    assert all(0 < int(reply.headers["retry-after"]) <= 60 for reply in refused)
    reason = refused[0].json["error"]["reason"]
    who = f"API key id [{key_id}] of user [elastic]"
    assert reason.startswith(f"{who} has used its [5] requests per minute, try again in [")
    assert refused[1].json["error"]["code"] == "rate_limit_exceeded"
    assert one.call("GET", "/_inference/e", **key).status == 200  # runs are limited, not reads
    assert one.call("POST", "/_inference/e", {"input": "x"}).status == 200  # nor other callers
    usage = other.call("GET", "/_inferry/api_keys/_usage").json["api_keys"]
    assert [(row["id"], row["requests"], row["refused"]) for row in usage] == [(key_id, 5, 3)]
    assert usage[0]["tokens"] > 0


def test_the_endpoints_of_a_key_are_the_only_ones_that_it_runs(serve, provider):
    server = serve(auth=True)
    for inference_id in ("docs-a", "mail"):
        path = f"/_inference/text_embedding/{inference_id}"
        server.call("PUT", path, openai_endpoint(provider.url))
    key_id, key = make_key(server, endpoints=["docs-*"])

    def run(inference_id: str) -> Any:
        return server.call("POST", f"/_inference/{inference_id}", {"input": "x"}, **key)

    assert run("docs-a").status == 200
    refused = run("mail")
    assert refused.status == 403
    assert refused.json["error"]["reason"] == (
        f"API key id [{key_id}] of user [elastic] may run the inference endpoints [docs-*] only"
    )
    body = {"model": "mail", "input": "x"}
    assert server.call("POST", EMBEDDINGS, body, **key).status == 403
    assert server.call("GET", "/_inference/mail", **key).status == 200


def test_a_budget_of_tokens_outlives_the_server(serve, provider):
    server = serve(auth=True)
    server.call("PUT", "/_inference/text_embedding/e", openai_endpoint(provider.url))
    key_id, key = make_key(server, tokens_per_day=1)

    assert server.call("POST", "/_inference/e", {"input": "x"}, **key).status == 200
    refused = server.call("POST", "/_inference/e", {"input": "x"}, **key)
    assert refused.status == 429
    assert "[1] tokens per day" in refused.json["error"]["reason"]
    metrics = server.call("GET", "/metrics").content.decode()
    assert f'inferry_api_key_requests_total{{api_key_id="{key_id}",outcome="admitted"}} 1.0' in (
        metrics
    )
    assert f'inferry_api_key_tokens_total{{api_key_id="{key_id}"}}' in metrics
    assert server.stop() == 0

    server = serve(auth=True)
    assert server.call("POST", "/_inference/e", {"input": "x"}, **key).status == 429
    usage = server.call("GET", "/_inferry/api_keys/_usage").json["api_keys"]
    assert [(row["id"], row["requests"]) for row in usage] == [(key_id, 1)]


def test_a_stream_that_its_client_leaves_is_paid_for(serve, provider, chat):
    server = serve(auth=True)
    server.call("PUT", "/_inference/chat_completion/c", chat)
    _, key = make_key(server, tokens_per_day=10_000)
    message = {"messages": [{"role": "user", "content": "hello " * 100}]}

    connection = server.connect()
    connection.send("POST", "/_inference/chat_completion/c/_stream", message, **key)
    connection.http.getresponse().read1(10)
    connection.close()

    def is_counted() -> bool:
        usage = server.call("GET", "/_inferry/api_keys/_usage").json["api_keys"]
        return bool(usage and usage[0]["tokens"])

    server.wait_until(is_counted)


def test_limits_that_make_no_sense_are_refused_when_the_key_is_made(serve):
    server = serve(auth=True)

    refused = server.call(
        "POST",
        "/_security/api_key",
        {"name": "k", "metadata": {"inferry_limits": {"requests_per_hour": 1}}},
    )

    assert refused.status == 400
    assert "requests_per_minute" in refused.json["error"]["reason"]
