"""`inferry serve`: run the server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from inferry.cli.options import ConfigFile, DataDir, load


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    workers: Annotated[int | None, typer.Option(help="Number of API processes.")] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask for no credentials; on loopback only.")
    ] = False,
) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    given = {
        "config": config,
        "server.host": host,
        "server.port": port,
        "server.data_dir": data_dir,
        "server.workers": workers,
        "auth.enabled": "false" if no_auth else None,
    }
    loaded = load({key: str(value) for key, value in given.items() if value is not None})
    from inferry.supervisor import serve as run_server

    sys.exit(run_server(loaded, no_auth=no_auth))
