"""The SDK of Google, https://github.com/googleapis/python-genai."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from inferry.domain import (
    Chat,
    InferenceRequest,
    InputType,
    Message,
    Settings,
    TaskType,
    Tool,
    ToolCall,
    ToolChoice,
)
from tests.oracles.oracle import Oracle, texts_of
from tests.services.cases import Case

TOKEN = "token-1"
REASONS = {"STOP": "stop", "MAX_TOKENS": "length"}
TASK_TYPES = {
    InputType.INGEST: "RETRIEVAL_DOCUMENT",
    InputType.INTERNAL_INGEST: "RETRIEVAL_DOCUMENT",
    InputType.SEARCH: "RETRIEVAL_QUERY",
    InputType.INTERNAL_SEARCH: "RETRIEVAL_QUERY",
    InputType.CLASSIFICATION: "CLASSIFICATION",
    InputType.CLUSTERING: "CLUSTERING",
}


async def ask_ai_studio(case: Case, origin: str) -> Any:
    """Ask the way of the Gemini API."""
    request = case.request
    endpoint = request.endpoint
    async with _options(origin) as options:
        client = genai.Client(api_key=endpoint.secrets["api_key"], http_options=options).aio
        model = str(endpoint.service_settings["model_id"])
        if case.task_type is TaskType.TEXT_EMBEDDING:
            return await _embed(client, model, request)
        (text,) = texts_of(request)
        config = types.GenerateContentConfig(candidate_count=1)
        return await _generate(client, model, text, config, stream=request.stream)


@asynccontextmanager
async def _options(origin: str) -> AsyncIterator[types.HttpOptions]:
    """Have the SDK call `origin`, with httpx: it derives from a class of aiohttp, which warns."""
    async with httpx.AsyncClient() as client:
        yield types.HttpOptions(base_url=origin, api_version="v1", httpx_async_client=client)


async def ask_vertex(case: Case, origin: str) -> Any:
    """Ask the way of Vertex AI."""
    request = case.request
    settings = request.endpoint.service_settings
    async with _options(origin) as options:
        client = genai.Client(
            vertexai=True,
            project=str(settings["project_id"]),
            location=str(settings.get("location", "global")),
            credentials=Credentials(TOKEN),
            http_options=options,
        ).aio
        if case.task_type is TaskType.TEXT_EMBEDDING:
            return await _embed(client, str(settings["model_id"]), request)
        chat = request.chat or Chat([Message("user", text) for text in texts_of(request)])
        return await _generate(
            client,
            chat.model or str(settings["model_id"]),
            _contents(chat),
            _config(chat, request.task_settings),
            stream=request.stream,
        )


def _contents(chat: Chat) -> list[types.Content]:
    """Say the turns; what one role says in a row is one turn."""
    names = {call.id: call.function for one in chat.messages for call in one.tool_calls or []}
    turns: list[tuple[str, list[types.Part]]] = []
    for message in chat.messages:
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        parts = turns[-1][1]
        if message.role == "tool":
            function = names[message.tool_call_id]
            assert function is not None
            parts.append(_response(str(message.tool_call_id), function.name, _text(message)))
            continue
        parts += [types.Part(text=_text(message))] if message.content else []
        parts += [_call(call, message) for call in message.tool_calls or []]
    return [types.Content(role=role, parts=parts) for role, parts in turns]


def _response(call_id: str, name: str | None, text: str) -> types.Part:
    try:
        response = json.loads(text)
    except ValueError:
        response = {"output": text}
    function = types.FunctionResponse(id=call_id, name=name, response=response)
    return types.Part(function_response=function)


def _call(call: ToolCall, message: Message) -> types.Part:
    function = call.function
    assert function is not None
    signed = [one for one in message.reasoning_details or [] if one.get("id") == call.id]
    return types.Part(
        function_call=types.FunctionCall(
            id=call.id, name=function.name, args=json.loads(function.arguments or "{}")
        ),
        thought_signature=base64.b64decode(signed[0]["signature"]) if signed else None,
    )


def _text(message: Message) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    return "".join(part.text or "" for part in content or [])


def _config(chat: Chat, task_settings: Settings) -> types.GenerateContentConfig:
    task: Any = task_settings
    system = [_text(one) for one in chat.messages if one.role == "system"]
    choice = chat.tool_choice
    return types.GenerateContentConfig(
        stop_sequences=chat.stop,
        temperature=chat.temperature,
        top_p=chat.top_p,
        max_output_tokens=chat.max_completion_tokens or task.get("max_tokens"),
        thinking_config=_thinking(chat, task),
        system_instruction=[types.Part(text=text) for text in system] or None,
        tools=[types.Tool(function_declarations=[_declared(one) for one in chat.tools])]
        if chat.tools
        else None,
        tool_config=_tool_config(choice.function.name) if isinstance(choice, ToolChoice) else None,
    )


def _thinking(chat: Chat, task: Any) -> types.ThinkingConfig | None:
    if chat.reasoning is None:
        budget = task.get("thinking_config", {}).get("thinking_budget")
        return None if budget is None else types.ThinkingConfig(thinking_budget=budget)
    return types.ThinkingConfig(
        thinking_level=types.ThinkingLevel(str(chat.reasoning.effort).upper()),
        include_thoughts=not chat.reasoning.exclude,
    )


def _declared(tool: Tool) -> types.FunctionDeclaration:
    function = tool.function
    return types.FunctionDeclaration(
        name=function.name,
        description=function.description,
        parameters=types.Schema.model_validate(function.parameters)
        if function.parameters
        else None,
    )


def _tool_config(name: str) -> types.ToolConfig:
    config = types.FunctionCallingConfig(
        mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=[name]
    )
    return types.ToolConfig(function_calling_config=config)


async def _embed(client: Any, model: str, request: InferenceRequest) -> Any:
    endpoint = request.endpoint
    config = types.EmbedContentConfig(task_type=TASK_TYPES.get(InputType(request.input_type)))
    if request.task_settings.get("auto_truncate") is not None:
        config.auto_truncate = bool(request.task_settings["auto_truncate"])
    if endpoint.dimensions_set_by_user:
        config.output_dimensionality = int(str(endpoint.service_settings["dimensions"]))
    return await client.models.embed_content(model=model, contents=texts_of(request), config=config)


async def _generate(client: Any, model: str, contents: Any, config: Any, *, stream: bool) -> Any:
    asked = {"model": model, "contents": contents, "config": config}
    if not stream:
        return await client.models.generate_content(**asked)
    return [chunk async for chunk in await client.models.generate_content_stream(**asked)]


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.task_type is TaskType.TEXT_EMBEDDING:
        return {"vectors": [one.values for one in answer.embeddings]}
    chunks = answer if case.request.stream else [answer]
    text = "".join(_texts(chunks))
    usage = _usage(chunks[-1].usage_metadata)
    if case.task_type is TaskType.COMPLETION and not case.request.stream:
        return {"texts": [text], "usage": usage}
    calls = [
        {
            "id": part.function_call.id or part.function_call.name,
            "name": part.function_call.name,
            "arguments": json.dumps(part.function_call.args, separators=(",", ":")),
        }
        for chunk in chunks
        for part in chunk.candidates[0].content.parts or []
        if part.function_call
    ]
    reason = REASONS[chunks[-1].candidates[0].finish_reason.value]
    reason = "tool_calls" if calls else reason
    if case.request.stream:
        found = {"text": text, "finish_reasons": [reason], "usage": usage}
        return {**found, **({"tool_calls": calls} if calls else {})}
    return _read_chat(answer, text, reason, usage)


def _read_chat(answer: Any, text: str, reason: str, usage: Any) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant", **({"content": text} if text else {})}
    thoughts, calls, details = "", [], []
    for part in answer.candidates[0].content.parts:
        detail: dict[str, Any] = {"type": "reasoning.text", "format": "google-vertex-ai-v1"}
        if part.thought:
            thoughts += part.text
            details.append({**detail, "index": 0, "text": part.text})
        if part.function_call:
            call = part.function_call
            arguments = json.dumps(call.args, separators=(",", ":"))
            function = {"arguments": arguments, "name": call.name}
            calls.append({"id": call.id, "function": function, "type": "function"})
            signature = base64.b64encode(part.thought_signature).decode()
            details.append({**detail, "id": call.id, "signature": signature})
    delta |= {"reasoning": thoughts} if thoughts else {}
    delta |= {"tool_calls": calls} if calls else {}
    delta |= {"reasoning_details": details} if details else {}
    choice = {"delta": delta, "finish_reason": reason, "index": 0}
    ids = {"id": answer.response_id, "model": answer.model_version}
    return {**ids, "choices": [choice], "usage": usage}


def _texts(chunks: Iterable[Any]) -> Iterable[str]:
    for chunk in chunks:
        for part in chunk.candidates[0].content.parts or []:
            if part.text and not part.thought:
                yield part.text


def _usage(counted: Any) -> dict[str, Any]:
    thoughts = counted.thoughts_token_count
    usage = {
        "input_tokens": counted.prompt_token_count,
        "output_tokens": (counted.candidates_token_count or 0) + (thoughts or 0),
    }
    return usage | ({} if thoughts is None else {"reasoning_tokens": thoughts})


ORACLES = (
    Oracle(
        "googleaistudio",
        "google-genai",
        (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION),
        ask_ai_studio,
        read,
    ),
    Oracle(
        "googlevertexai",
        "google-genai",
        (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
        ask_vertex,
        read,
        token=TOKEN,
        covers=lambda case: "provider" not in case.request.endpoint.service_settings,
    ),
)
