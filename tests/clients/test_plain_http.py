"""By plain HTTP, what the Python clients have no method for: streams, and empty path segments."""

import json

import pytest

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def plain(site):
    """Give the server with an embedding, a completion and a chat endpoint."""
    site.put("text_embedding", "plain-embed", "embeddings")
    site.put("completion", "plain-write", "chat/completions")
    site.put("chat_completion", "plain-chat", "chat/completions")
    return site.server


@pytest.mark.parametrize(
    "path",
    [
        "/_inference",
        "/_inference/",
        "/_inference//",
        "/_inference/_all",
        "/_inference//_all",
        "/_inference/text_embedding/_all",
        "/_inference//plain-embed",
        "/_inference/text_embedding//plain-embed",
    ],
)
def test_a_get_may_leave_segments_empty(plain, path):
    reply = plain.call("GET", path)

    assert reply.status == 200
    assert "plain-embed" in {one["inference_id"] for one in reply.json["endpoints"]}


@pytest.mark.parametrize(
    ("path", "body", "first"),
    [
        (
            "/_inference/completion/plain-write/_stream",
            {"input": "hello"},
            {"completion": [{"delta": "You"}]},
        ),
        (
            "/_inference/chat_completion/plain-chat/_stream",
            {"messages": [{"role": "user", "content": "hello"}]},
            {
                "id": "chatcmpl-1",
                "choices": [{"delta": {"content": "", "role": "assistant"}, "index": 0}],
                "model": "model-1",
                "object": "chat.completion.chunk",
            },
        ),
    ],
)
def test_a_stream_is_read_by_plain_http(plain, path, body, first):
    reply = plain.call("POST", path, body, Accept="text/event-stream")

    events = reply.content.decode().split("\n\n")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert json.loads(events[0].removeprefix("event: message\ndata: ")) == first
    assert events[-2:] == ["event: message\ndata: [DONE]", ""]


def test_an_answer_of_the_dialect_carries_the_product_header(plain):
    reply = plain.call("GET", "/v1/models")

    assert reply.status == 200
    assert reply.headers["x-elastic-product"] == "Elasticsearch"
