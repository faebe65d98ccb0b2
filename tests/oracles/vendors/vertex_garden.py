"""The SDKs of the vendors whose models Vertex AI hosts, and Google's own for its ranking API."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from anthropic import AsyncAnthropicVertex
from google.cloud.discoveryengine_v1 import RankRequest, RankServiceClient
from google.cloud.discoveryengine_v1.services.rank_service.transports import (
    RankServiceRestTransport,
)
from google.oauth2.credentials import Credentials
from mistralai.gcp.client import MistralGCP
from openai import AsyncOpenAI

from inferry.domain import Chat, InferenceRequest, Message, TaskType
from tests.oracles.oracle import Oracle, texts_of
from tests.oracles.vendors import anthropic_sdk, mistral_sdk, openai_sdk
from tests.services.cases import Case

TOKEN = "token-1"
CHATS = (TaskType.COMPLETION, TaskType.CHAT_COMPLETION)


async def ask_anthropic(case: Case, origin: str) -> Any:
    """Ask Anthropic's way, of the project, region and model that the URL names."""
    url = str(case.request.endpoint.service_settings["url"])
    found = re.search("/projects/([^/]+)/locations/([^/]+)/.*/models/([^:]+):", url)
    assert found is not None
    client = AsyncAnthropicVertex(
        project_id=found[1],
        region=found[2],
        access_token=TOKEN,
        base_url=f"{origin}/v1",
        max_retries=0,
    )
    settings = {"max_tokens": 1024, **case.request.task_settings}
    async with client:
        request = replace(case.request, task_settings=settings)
        return await anthropic_sdk.say(client, request, model=found[3])


async def ask_openai(case: Case, origin: str) -> Any:
    """Ask OpenAI's way, at the path of the URL."""
    request = _with_chat(case.request)
    settings = request.endpoint.service_settings
    path = urlsplit(str(settings["url"])).path.removesuffix("/chat/completions")
    async with AsyncOpenAI(base_url=origin + path, api_key=TOKEN, max_retries=0) as client:
        return await openai_sdk.say(client, request, model=settings["model_id"])


def _with_chat(request: InferenceRequest) -> InferenceRequest:
    """Make a chat of a completion, as long as the task settings allow."""
    if request.chat is not None:
        return request
    limit: Any = request.task_settings.get("max_tokens")
    messages = [Message("user", text) for text in texts_of(request)]
    return replace(request, chat=Chat(messages, max_completion_tokens=limit), task_settings={})


async def ask_mistral(case: Case, origin: str) -> Any:
    """Ask Mistral's way, of the project and region that the URL names."""
    settings = case.request.endpoint.service_settings
    found = re.search("/projects/([^/]+)/locations/([^/]+)/", str(settings["url"]))
    assert found is not None
    client = MistralGCP(project_id=found[1], region=found[2], access_token=TOKEN, server_url=origin)
    async with client:
        return await mistral_sdk.say(client, case.request, model=str(settings["model_id"]))


async def ask_ranking(case: Case, origin: str) -> Any:
    """Ask the ranking API."""
    return await asyncio.to_thread(_rank, case, origin)


def _rank(case: Case, origin: str) -> Any:
    request, settings = case.request, case.request.endpoint.service_settings
    transport = RankServiceRestTransport(
        host=urlsplit(origin).netloc, url_scheme="http", credentials=Credentials(TOKEN)
    )
    config = f"projects/{settings['project_id']}/locations/global/rankingConfigs"
    asked = RankRequest(
        ranking_config=f"{config}/default_ranking_config",
        model=settings.get("model_id"),
        query=request.query,
        records=[
            {"id": str(index), "content": text} for index, text in enumerate(texts_of(request))
        ],
        top_n=request.top_n,
        ignore_record_details_in_response=request.return_documents is False,
    )
    with RankServiceClient(transport=transport) as client:
        return client.rank(asked)


def read_ranking(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    documents = [
        {"index": int(one.id), "relevance_score": round(one.score, 6)}
        | ({"text": one.content} if one.content else {})
        for one in answer.records
    ]
    return {"documents": documents}


def provided_by(*providers: str) -> Any:
    """Give what tells the cases of `providers`."""
    return lambda case: case.request.endpoint.service_settings.get("provider") in providers


ORACLES = (
    Oracle(
        "googlevertexai",
        "anthropic",
        CHATS,
        ask_anthropic,
        anthropic_sdk.read,
        token=TOKEN,
        covers=provided_by("anthropic"),
    ),
    Oracle(
        "googlevertexai",
        "openai",
        CHATS,
        ask_openai,
        openai_sdk.read,
        token=TOKEN,
        covers=provided_by("meta"),
    ),
    Oracle(
        "googlevertexai",
        "mistralai",
        (TaskType.CHAT_COMPLETION,),
        ask_mistral,
        mistral_sdk.read,
        token=TOKEN,
        covers=provided_by("mistral"),
    ),
    Oracle(
        "googlevertexai",
        "google-cloud-discoveryengine",
        (TaskType.RERANK,),
        ask_ranking,
        read_ranking,
        token=TOKEN,
    ),
)
