"""`inferry infer`: run an endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from inferry.cli.connection import Connection, path_of
from inferry.cli.endpoints import InferenceId
from inferry.cli.exits import CommandFailure, Exit
from inferry.cli.options import DEFAULT_URL, ApiKey, DataDir, Json, Url, connect, read_json
from inferry.cli.output import print_json, print_table

_SHOWN_NUMBERS = 4


def infer(
    inference_id: InferenceId,
    text: Annotated[
        list[str] | None, typer.Option("--input", help="A text; may be repeated.", metavar="TEXT")
    ] = None,
    query: Annotated[str | None, typer.Option(help="The query of a rerank.")] = None,
    input_type: Annotated[
        str | None, typer.Option(help="What embeddings are for, for example search.")
    ] = None,
    body: Annotated[
        str | None, typer.Option(help="The whole body as JSON, @FILE, or -.", metavar="JSON")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print text as it is made.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Run an endpoint on texts."""
    connection = connect(url, api_key, data_dir)
    if body is not None:
        request = read_json(body)
    elif text:
        request = _build_body(_task_type(connection, inference_id), text, query, input_type)
    else:
        raise CommandFailure("give --input or --body", Exit.USAGE)
    if stream:
        path = path_of("_inference", inference_id, "_stream")
        _print_stream(connection.events(path, body=request), as_json=as_json)
        return
    answer = connection.call("POST", path_of("_inference", inference_id), body=request)
    if as_json:
        print_json(answer)
    else:
        _print_answer(answer)


def _task_type(connection: Connection, inference_id: str) -> str:
    answer = connection.call("GET", path_of("_inference", inference_id))
    return str(answer["endpoints"][0]["task_type"])


def _build_body(
    task_type: str, texts: list[str], query: str | None, input_type: str | None
) -> dict[str, Any]:
    if task_type == "chat_completion":
        return {"messages": [{"role": "user", "content": text} for text in texts]}
    body: dict[str, Any] = {"input": texts if task_type == "rerank" or len(texts) > 1 else texts[0]}
    if query is not None:
        body["query"] = query
    if input_type is not None:
        body["input_type"] = input_type
    return body


def _print_stream(events: Iterable[Any], *, as_json: bool) -> None:
    for event in events:
        if as_json:
            print(json.dumps(event, ensure_ascii=False), flush=True)
        else:
            print(_delta(event), end="", flush=True)
    if not as_json:
        print()


def _delta(event: dict[str, Any]) -> str:
    parts = [part.get("delta") or "" for part in event.get("completion", ())]
    choices = event.get("choices") or event.get("chat_completion", {}).get("choices") or ()
    return "".join(parts + [choice.get("delta", {}).get("content") or "" for choice in choices])


def _print_answer(answer: dict[str, Any]) -> None:
    match answer:
        case {"completion": results}:
            for result in results:
                print(result["result"])
        case {"choices": choices}:
            for choice in choices:
                print(choice["message"].get("content") or "")
        case {"rerank": results}:
            rows = [(one["index"], one["relevance_score"], one.get("text")) for one in results]
            print_table(("index", "relevance score", "text"), rows)
        case {"sparse_embedding": results}:
            rows = [(n, len(one["embedding"]), *_heaviest(one)) for n, one in enumerate(results)]
            print_table(("input", "tokens", "heaviest"), rows)
        case _:
            rows = [(n, len(vector), _head(vector)) for n, vector in enumerate(_vectors(answer))]
            print_table(("input", "dimensions", "embedding"), rows)


def _vectors(answer: dict[str, Any]) -> list[list[float]]:
    results = next((value for value in answer.values() if isinstance(value, list)), [])
    return [result["embedding"] for result in results]


def _head(vector: list[float]) -> str:
    numbers = ", ".join(f"{number:g}" for number in vector[:_SHOWN_NUMBERS])
    return f"[{numbers}, ...]" if len(vector) > _SHOWN_NUMBERS else f"[{numbers}]"


def _heaviest(result: dict[str, Any]) -> tuple[str]:
    ranked = sorted(result["embedding"].items(), key=lambda pair: -pair[1])[:_SHOWN_NUMBERS]
    return (", ".join(f"{token} {weight:g}" for token, weight in ranked),)
