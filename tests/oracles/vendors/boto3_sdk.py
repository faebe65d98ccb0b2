"""The SDK of AWS, https://github.com/boto/boto3."""

from __future__ import annotations

import asyncio
import base64
import json
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from inferry.domain import Endpoint, InferenceRequest, InputType, Message, TaskType
from tests.oracles.oracle import Oracle, texts_of
from tests.services.cases import Case

INPUT_TYPES = {
    InputType.INGEST: "search_document",
    InputType.INTERNAL_INGEST: "search_document",
    InputType.SEARCH: "search_query",
    InputType.INTERNAL_SEARCH: "search_query",
    InputType.CLASSIFICATION: "classification",
    InputType.CLUSTERING: "clustering",
    InputType.UNSPECIFIED: "search_document",
}
REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}


@cache
def session() -> boto3.Session:
    """Give the session, which reads the descriptions of services once."""
    return boto3.Session(region_name="eu-central-1")


def client_of(endpoint: Endpoint, origin: str) -> Any:
    """Give a client that calls `origin` once, with the keys of the endpoint."""
    return session().client(
        "bedrock-runtime",
        endpoint_url=origin,
        region_name=str(endpoint.service_settings["region"]),
        aws_access_key_id=endpoint.secrets["access_key"],
        aws_secret_access_key=endpoint.secrets["secret_key"],
        config=Config(retries={"total_max_attempts": 1}),
    )


async def ask(case: Case, origin: str) -> Any:
    """Ask the way of AWS."""
    return await asyncio.to_thread(_ask, case, origin)


def _ask(case: Case, origin: str) -> Any:
    request = case.request
    client = client_of(request.endpoint, origin)
    try:
        if case.task_type is TaskType.TEXT_EMBEDDING:
            answer = client.invoke_model(
                modelId=request.endpoint.service_settings["model"],
                body=json.dumps(_embed_body(request)),
                contentType="application/json",
            )
            return json.load(answer["body"])
        if request.stream:
            return list(client.converse_stream(**_chat_arguments(request))["stream"])
        return client.converse(**_chat_arguments(request))
    finally:
        client.close()


def _embed_body(request: InferenceRequest) -> dict[str, Any]:
    endpoint = request.endpoint
    if endpoint.service_settings["provider"] == "amazontitan":
        (text,) = texts_of(request)
        asked: dict[str, Any] = {"inputText": text}
        if endpoint.dimensions_set_by_user:
            asked["dimensions"] = endpoint.service_settings["dimensions"]
        return asked
    asked = {"texts": texts_of(request), "input_type": INPUT_TYPES[InputType(request.input_type)]}
    truncate = request.task_settings.get("truncate")
    return asked | ({"truncate": truncate} if truncate else {})


def _chat_arguments(request: InferenceRequest) -> dict[str, Any]:
    task, settings = request.task_settings, request.endpoint.service_settings
    names = {"temperature": "temperature", "top_p": "topP"}
    config = {names[name]: task[name] for name in names if name in task}
    asked: dict[str, Any] = {
        "modelId": settings["model"],
        "inferenceConfig": {"maxTokens": task.get("max_new_tokens", 64), **config},
    }
    if "top_k" in task:
        name = "k" if settings["provider"] == "cohere" else "top_k"
        asked["additionalModelRequestFields"] = {name: int(str(task["top_k"]).partition(".")[0])}
    if request.chat is None:
        (text,) = texts_of(request)
        return {**asked, "messages": [{"role": "user", "content": [{"text": text}]}]}
    return _with_chat(asked, request)


def _with_chat(asked: dict[str, Any], request: InferenceRequest) -> dict[str, Any]:
    chat = request.chat
    assert chat is not None
    own = {
        "maxTokens": chat.max_completion_tokens,
        "temperature": chat.temperature,
        "topP": chat.top_p,
        "stopSequences": chat.stop,
    }
    asked["inferenceConfig"] |= {name: own[name] for name in own if own[name] is not None}
    asked |= {"modelId": chat.model} if chat.model else {}
    asked["messages"] = _turns([one for one in chat.messages if one.role != "system"])
    system = [{"text": one.content} for one in chat.messages if one.role == "system"]
    asked |= {"system": system} if system else {}
    if chat.tools:
        specs = []
        for tool in chat.tools:
            function = tool.function
            schema = {"json": function.parameters}
            described = {"name": function.name, "description": function.description}
            specs.append({"toolSpec": {**described, "inputSchema": schema}})
        choice: dict[str, Any] = {"any": {}}
        if chat.tool_choice is not None and not isinstance(chat.tool_choice, str):
            choice = {"tool": {"name": chat.tool_choice.function.name}}
        asked["toolConfig"] = {"tools": specs, "toolChoice": choice}
    return asked


def _turns(messages: list[Message]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        content = message.content or []
        blocks = list(map(_block, [content] if isinstance(content, str) else content))
        if message.role == "tool":
            blocks = [{"toolResult": {"toolUseId": message.tool_call_id, "content": blocks}}]
        for call in message.tool_calls or ():
            assert call.function is not None
            given = json.loads(call.function.arguments or "{}")
            use = {"toolUseId": call.id, "name": call.function.name, "input": given}
            blocks.append({"toolUse": use})
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _block(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    if part.image_url is None:
        return {"text": part.text}
    image = base64.b64decode(part.image_url["url"].partition(",")[2])
    return {"image": {"format": "png", "source": {"bytes": image}}}


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.task_type is TaskType.TEXT_EMBEDDING:
        if "embedding" in answer:
            return {"vectors": [answer["embedding"]]}
        found = answer["embeddings"]
        return {"vectors": found if isinstance(found, list) else found["float"]}
    if case.request.stream:
        return _read_stream(answer)
    content = answer["output"]["message"]["content"]
    if case.task_type is TaskType.COMPLETION:
        return {"texts": [block["text"] for block in content], "usage": _usage(answer)}
    delta: dict[str, Any] = {"role": "assistant"}
    texts = [block["text"] for block in content if "text" in block]
    thoughts = [one["reasoningContent"] for one in content if "reasoningContent" in one]
    uses = [block["toolUse"] for block in content if "toolUse" in block]
    delta |= {"content": "".join(texts)} if texts else {}
    delta |= {"reasoning": thoughts[0]["reasoningText"]["text"]} if thoughts else {}
    delta |= {"tool_calls": [_call(use) for use in uses]} if uses else {}
    choice = {"delta": delta, "finish_reason": _reason(answer["stopReason"]), "index": 0}
    return {"choices": [choice], "usage": _usage(answer)}


def _call(use: dict[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(use["input"], separators=(",", ":"))
    function = {"name": use["name"], "arguments": arguments}
    return {"id": use["toolUseId"], "function": function, "type": "function"}


def _read_stream(events: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"text": "", "finish_reasons": []}
    calls: dict[int, dict[str, str]] = {}
    for event in events:
        (kind, said), *_ = event.items()
        if kind == "contentBlockStart":
            use = said["start"]["toolUse"]
            call = {"id": use["toolUseId"], "name": use["name"], "arguments": ""}
            calls[said["contentBlockIndex"]] = call
        elif kind == "contentBlockDelta":
            found["text"] += said["delta"].get("text", "")
            piece = said["delta"].get("toolUse", {}).get("input", "")
            if piece:
                calls[said["contentBlockIndex"]]["arguments"] += piece
        elif kind == "messageStop":
            found["finish_reasons"].append(_reason(said["stopReason"]))
        elif kind == "metadata":
            found["usage"] = _usage(said)
    return found | ({"tool_calls": list(calls.values())} if calls else {})


def _reason(word: str) -> str:
    return {**REASONS, "tool_use": "tool_calls"}[word]


def _usage(answer: dict[str, Any]) -> dict[str, int]:
    counted = answer["usage"]
    return {"input_tokens": counted["inputTokens"], "output_tokens": counted["outputTokens"]}


ORACLES = (
    Oracle(
        "amazonbedrock",
        "boto3",
        (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
        ask,
        read,
    ),
)
