"""Endpoints for generated requests: one of every hosted task, and one that nobody answers."""

from __future__ import annotations

from tests.server import Server

EMBEDDINGS, SPARSE, COMPLETION, CHAT, UNREACHABLE = (
    "fuzz-embeddings",
    ".elser-2-elasticsearch",
    "fuzz-completion",
    "fuzz-chat",
    "fuzz-unreachable",
)
ENDPOINTS = {EMBEDDINGS: "text_embedding", COMPLETION: "completion", CHAT: "chat_completion"}
_ROUTES = {
    "text_embedding": "/v1/embeddings",
    "completion": "/v1/chat/completions",
    "chat_completion": "/v1/chat/completions",
}


def create_endpoints(server: Server, provider_url: str, *, secret: str = "a key") -> None:
    """Create the endpoints whose provider answers."""
    for inference_id, task_type in ENDPOINTS.items():
        settings = {
            "api_key": secret,
            "model_id": "m",
            "url": provider_url + _ROUTES[task_type],
            "rate_limit": {"requests_per_minute": 10_000_000},
        }
        body = {"service": "openai", "service_settings": settings}
        made = server.call("PUT", f"/_inference/{task_type}/{inference_id}", body)
        assert made.status == 200, made.content
