"""`inferry keys`: API keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from inferry.cli.options import DEFAULT_URL, ApiKey, DataDir, Json, Url, connect, read_json
from inferry.cli.output import print_json, print_table, say

PATH = "/_security/api_key"


def build_group() -> typer.Typer:
    """Build the command group."""
    group = typer.Typer(help="API keys.", no_args_is_help=True)
    group.command("create")(create_key)
    group.command("list")(list_keys)
    group.command("revoke")(revoke_keys)
    group.command("rotate-master")(rotate_master)
    return group


def create_key(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    expires: Annotated[
        str | None, typer.Option(help="Time until it expires, for example 30d.")
    ] = None,
    privilege: Annotated[
        list[str] | None,
        typer.Option(help="Limit it to a cluster privilege, for example monitor_inference."),
    ] = None,
    role_descriptors: Annotated[
        str | None,
        typer.Option(help="Limit it by role descriptors: JSON, @FILE, or -.", metavar="JSON"),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="Limit its runs to endpoints: an id, or a pattern such as docs-*."),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Limit its runs per minute.", min=1)
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Limit its tokens per minute.", min=1)
    ] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(help="Limit its tokens per day (UTC).", min=1)
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create an API key and print it, once."""
    body: dict[str, Any] = {"name": name}
    limits = {
        "endpoints": endpoint,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "tokens_per_day": tokens_per_day,
    }
    given = {limit: value for limit, value in limits.items() if value}
    if given:
        body["metadata"] = {"inferry_limits": given}
    if expires:
        body["expiration"] = expires
    if role_descriptors:
        body["role_descriptors"] = read_json(role_descriptors)
    elif privilege:
        body["role_descriptors"] = {name: {"cluster": privilege}}
    answer = connect(url, api_key, data_dir).call("POST", PATH, body=body)
    if as_json:
        print_json(answer)
        return
    print(answer["encoded"])
    say(
        f"created key {answer['id']}; send it as `Authorization: ApiKey ...`, it is not shown again"
    )


def list_keys(
    everything: Annotated[
        bool, typer.Option("--all", help="Also expired and revoked keys.")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List API keys, without their secrets."""
    query = {} if everything else {"active_only": "true"}
    answer = connect(url, api_key, data_dir).call("GET", PATH, query=query)
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            key["id"],
            key["name"],
            key["username"],
            _day(key["creation"]),
            _day(key.get("expiration")),
        )
        + (("revoked" if key.get("invalidated") else "",) if everything else ())
        for key in answer["api_keys"]
    ]
    head = ("id", "name", "owner", "created", "expires")
    print_table(head + (("state",) if everything else ()), rows)


def revoke_keys(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the keys.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Revoke API keys, at once and for good."""
    answer = connect(url, api_key, data_dir).call("DELETE", PATH, body={"ids": ids})
    if as_json:
        print_json(answer)
        return
    for key_id in answer["invalidated_api_keys"]:
        say(f"revoked {key_id}")


def rotate_master(
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Replace the master key that seals the secrets of endpoints, while the server serves."""
    answer = connect(url, api_key, data_dir).call("POST", "/_inferry/master_key/_rotate")
    if as_json:
        print_json(answer)
        return
    say(f"sealed the secrets of {answer['resealed']} endpoints with the new key")
    if answer["unreadable"]:
        say(f"no key opens those of: {', '.join(answer['unreadable'])}")


def _day(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(" ", "minutes")[:16]
