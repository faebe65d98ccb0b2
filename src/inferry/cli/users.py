"""`inferry users`: users and their passwords."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from inferry.cli.connection import path_of
from inferry.cli.exits import CommandFailure, Exit
from inferry.cli.options import DEFAULT_URL, ApiKey, DataDir, Json, Url, connect
from inferry.cli.output import print_json, print_table, say

Name = Annotated[str, typer.Argument(metavar="NAME", help="User name.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


def build_group() -> typer.Typer:
    """Build the command group."""
    group = typer.Typer(help="Users.", no_args_is_help=True)
    group.command("list")(list_users)
    group.command("put")(put_user)
    group.command("delete")(delete_user)
    group.command("password")(change_password)
    return group


def list_users(
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the users."""
    answer = connect(url, api_key, data_dir).call("GET", "/_security/user")
    if as_json:
        print_json(answer)
        return
    rows = [
        (name, ", ".join(user["roles"]), "enabled" if user["enabled"] else "disabled")
        for name, user in answer.items()
    ]
    print_table(("name", "roles", "state"), rows)


def put_user(
    name: Name,
    role: Annotated[list[str] | None, typer.Option(help="A role; may be repeated.")] = None,
    keep_password: Annotated[
        bool, typer.Option("--keep-password", help="Change the roles of a user only.")
    ] = False,
    password_stdin: FromStdin = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create a user, or change one."""
    body: dict[str, Any] = {"roles": role or []}
    if not keep_password:
        body["password"] = _ask_password(from_stdin=password_stdin)
    answer = connect(url, api_key, data_dir).call(
        "PUT", path_of("_security", "user", name), body=body
    )
    if as_json:
        print_json(answer)
        return
    say(f"{'created' if answer['created'] else 'changed'} {name}")


def delete_user(
    name: Name,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Delete a user."""
    try:
        answer = connect(url, api_key, data_dir).call("DELETE", path_of("_security", "user", name))
    except CommandFailure as failure:
        if failure.exit_code is Exit.NOT_FOUND:
            raise CommandFailure(f"there is no user [{name}]", Exit.NOT_FOUND) from failure
        raise
    if as_json:
        print_json(answer)
        return
    say(f"deleted {name}")


def change_password(
    name: Name,
    password_stdin: FromStdin = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Change a password."""
    password = _ask_password(from_stdin=password_stdin)
    path = path_of("_security", "user", name, "_password")
    answer = connect(url, api_key, data_dir).call("PUT", path, body={"password": password})
    if as_json:
        print_json(answer)
        return
    say(f"changed the password of {name}")


def _ask_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        raise CommandFailure("no terminal to ask on; use --password-stdin", Exit.USAGE)
    import getpass

    password = getpass.getpass("Password: ", stream=sys.stderr)
    if password != getpass.getpass("Again: ", stream=sys.stderr):
        raise CommandFailure("the two passwords differ", Exit.USAGE)
    return password
