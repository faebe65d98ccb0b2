"""Endpoints for generated requests: one of every hosted task, and one that nobody answers."""

from __future__ import annotations

from tests.marks import MARK
from tests.server import Server

EMBEDDINGS, COMPLETION, CHAT = "fuzz-embeddings", "fuzz-completion", "fuzz-chat"
UNREACHABLE = "fuzz-unreachable"
LOCAL = ".elser-2-elasticsearch"
ENDPOINTS = {EMBEDDINGS: "text_embedding", COMPLETION: "completion", CHAT: "chat_completion"}
LOOPBACK_ONLY = {"INFERRY_OUTBOUND__ALLOW_HOSTS": "127.0.0.1"}
"""The setting that keeps an endpoint which somebody makes up from calling out."""
_ROUTES = {
    "text_embedding": "/v1/embeddings",
    "completion": "/v1/chat/completions",
    "chat_completion": "/v1/chat/completions",
}


def create_endpoints(server: Server, provider_url: str, *, secret: str = f"a key, {MARK}") -> None:
    """Create the endpoints whose provider answers; something uses them, so that they stay."""
    for inference_id, task_type in ENDPOINTS.items():
        create_endpoint(server, inference_id, task_type, provider_url, secret=secret)
    made = server.call("PUT", "/_inferry/references/fuzz", {"inference_ids": list(ENDPOINTS)})
    assert made.status == 200, made.content


def create_endpoint(
    server: Server, inference_id: str, task_type: str, provider_url: str, *, secret: str
) -> None:
    """Create one endpoint."""
    settings = {
        "api_key": secret,
        "model_id": "m",
        "url": provider_url + _ROUTES[task_type],
        "rate_limit": {"requests_per_minute": 10_000_000},
    }
    body = {"service": "openai", "service_settings": settings}
    made = server.call("PUT", f"/_inference/{task_type}/{inference_id}", body)
    assert made.status == 200, made.content
