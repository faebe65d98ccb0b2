"""The SDK of Groq, https://github.com/groq/groq-python, which has the shape of OpenAI's."""

from __future__ import annotations

from typing import Any

from groq import AsyncGroq

from inferry.domain import TaskType
from tests.oracles.oracle import Oracle
from tests.oracles.vendors import openai_sdk
from tests.services.cases import Case


async def ask(case: Case, origin: str) -> Any:
    """Ask Groq's way."""
    endpoint = case.request.endpoint
    client = AsyncGroq(api_key=endpoint.secrets["api_key"], base_url=origin, max_retries=0)
    arguments = openai_sdk.chat_arguments(case.request, endpoint.service_settings["model_id"])
    arguments.pop("stream_options", None)  # which it has no word for
    async with client:
        answer = await client.chat.completions.create(**arguments)
        return [chunk async for chunk in answer] if case.request.stream else answer


ORACLES = (
    Oracle(
        "groq",
        "groq",
        (TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
        ask,
        openai_sdk.read,
    ),
)
