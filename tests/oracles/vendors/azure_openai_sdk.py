"""The SDK of OpenAI as a client of Azure, https://github.com/openai/openai-python."""

from __future__ import annotations

from typing import Any

from openai import AsyncAzureOpenAI

from inferry.domain import TaskType
from tests.oracles.oracle import Oracle
from tests.oracles.vendors import openai_sdk
from tests.services.cases import Case


async def ask(case: Case, origin: str) -> Any:
    """Ask Azure's way."""
    settings, secrets = case.request.endpoint.service_settings, case.request.endpoint.secrets
    base = "/gateway" if "url" in settings else ""
    client = AsyncAzureOpenAI(
        azure_endpoint=origin + base,
        azure_deployment=str(settings["deployment_id"]),
        api_version=str(settings["api_version"]),
        api_key=secrets.get("api_key"),
        azure_ad_token=secrets.get("entra_id"),
        max_retries=0,
    )
    async with client:
        return await openai_sdk.say(client, case.request, model=settings["deployment_id"])


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.request.stream:  # the first chunk, about the prompt, is none of OpenAI's
        answer = [chunk for chunk in answer if chunk.id]
    return openai_sdk.read(answer, case)


ORACLES = (
    Oracle(
        "azureopenai",
        "openai",
        (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
        ask,
        read,
    ),
)
