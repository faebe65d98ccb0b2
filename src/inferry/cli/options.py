"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferry.cli.connection import Connection, find_api_key
from inferry.cli.exits import CommandFailure, Exit

if TYPE_CHECKING:
    from inferry.config import Loaded

DEFAULT_URL = "http://127.0.0.1:9210"
Url = Annotated[
    str, typer.Option("--url", envvar="INFERRY_URL", help="Address of the server.", metavar="URL")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="INFERRY_API_KEY",
        help="Encoded API key; default: the local key in the data directory.",
        metavar="KEY",
    ),
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="Data directory of the server.", metavar="DIR")
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", help="Configuration file.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def connect(url: str, api_key: str | None, data_dir: str | None) -> Connection:
    """Find the credentials for `url` and give a connection; nothing is sent yet."""
    if api_key is None:
        flags = {"server.data_dir": data_dir} if data_dir else {}
        api_key = find_api_key(url, load(flags).config.data_dir)
    return Connection(url.rstrip("/"), api_key)


def load(flags: dict[str, str]) -> Loaded:
    """Read the configuration of this machine; one that cannot be used is a usage error."""
    from inferry.config import InvalidConfig, load_config

    try:
        return load_config(flags, environment=os.environ, working_directory=Path.cwd())
    except InvalidConfig as error:
        raise CommandFailure(str(error), Exit.USAGE) from error


def read_json(argument: str) -> Any:
    """Read a JSON argument: literal, `@file`, or `-` for standard input."""
    try:
        if argument == "-":
            return json.load(typer.get_text_stream("stdin"))
        if argument.startswith("@"):
            return json.loads(Path(argument[1:]).read_text())
        return json.loads(argument)
    except OSError as error:
        raise CommandFailure(
            f"cannot read [{argument[1:]}]: {error.strerror}", Exit.USAGE
        ) from error
    except ValueError as error:
        raise CommandFailure(f"[{argument}] is not JSON: {error}", Exit.USAGE) from error
