"""`inferry endpoints`: list, read, create and delete inference endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from inferry.cli.connection import path_of
from inferry.cli.options import DEFAULT_URL, ApiKey, DataDir, Json, Url, connect, read_json
from inferry.cli.output import print_json, print_table, say

InferenceId = Annotated[str, typer.Argument(metavar="ID", help="Inference id.")]


def build_group() -> typer.Typer:
    """Build the command group."""
    group = typer.Typer(help="Inference endpoints.", no_args_is_help=True)
    group.command("list")(list_endpoints)
    group.command("get")(get_endpoint)
    group.command("put")(put_endpoint)
    group.command("delete")(delete_endpoint)
    return group


def list_endpoints(
    task: Annotated[str | None, typer.Option(help="Only endpoints of this task type.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the endpoints."""
    path = path_of("_inference", task, "_all") if task else path_of("_inference", "_all")
    answer = connect(url, api_key, data_dir).call("GET", path)
    if as_json:
        print_json(answer)
        return
    rows = [
        (one["inference_id"], one["task_type"], one["service"], _model(one))
        for one in answer["endpoints"]
    ]
    print_table(("id", "task type", "service", "model"), rows)


def get_endpoint(
    inference_id: InferenceId,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show one endpoint."""
    answer = connect(url, api_key, data_dir).call("GET", path_of("_inference", inference_id))
    _print_endpoint(answer if as_json else answer["endpoints"][0], as_json=as_json)


def put_endpoint(
    inference_id: InferenceId,
    task_type: Annotated[str, typer.Argument(metavar="TASK", help="For example text_embedding.")],
    body: Annotated[
        str, typer.Option(help="Settings as JSON, @FILE, or - for standard input.", metavar="JSON")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and probe, but store nothing.")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create an endpoint."""
    settings = read_json(body)
    answer = connect(url, api_key, data_dir).call(
        "PUT",
        path_of("_inference", task_type, inference_id),
        body=settings,
        query={"dry_run": "true"} if dry_run else None,
    )
    _print_endpoint(answer, as_json=as_json or dry_run)
    if not dry_run:
        say(f"created {inference_id}")


def delete_endpoint(
    inference_id: InferenceId,
    force: Annotated[bool, typer.Option("--force", help="Delete although it is in use.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what uses the endpoint.")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Delete an endpoint."""
    query = {"force": "true"} if force else {}
    query |= {"dry_run": "true"} if dry_run else {}
    answer = connect(url, api_key, data_dir).call(
        "DELETE", path_of("_inference", inference_id), query=query
    )
    if as_json or dry_run:
        print_json(answer)
    if not dry_run:
        say(f"deleted {inference_id}")


def _model(endpoint: dict[str, Any]) -> str:
    settings = endpoint.get("service_settings", {})
    return str(settings.get("model_id") or settings.get("model") or "")


def _print_endpoint(endpoint: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
    else:
        print_table(("setting", "value"), _flatten(endpoint))


def _flatten(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
