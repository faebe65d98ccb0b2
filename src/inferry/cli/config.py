"""`inferry config`: what the server would run with."""

from __future__ import annotations

from typing import Annotated

import typer

from inferry.cli.options import ConfigFile, DataDir, Json, load
from inferry.cli.output import print_json, print_table


def build_group() -> typer.Typer:
    """Build the command group."""
    group = typer.Typer(help="Configuration.", no_args_is_help=True)
    group.callback()(_explain)
    group.command("show")(show_config)
    return group


def _explain() -> None:
    """Look at the configuration."""


def show_config(
    origin: Annotated[
        bool, typer.Option("--origin", help="Also tell where each value comes from.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show every key and its value, secrets masked."""
    given = {"config": config, "server.data_dir": data_dir}
    loaded = load({key: value for key, value in given.items() if value is not None})
    settings = list(loaded.settings())
    if as_json:
        print_json([_row(one.key, one.value, one.origin, origin) for one in settings])
        return
    columns = ("key", "value", "origin") if origin else ("key", "value")
    rows = [(one.key, one.value, one.origin)[: len(columns)] for one in settings]
    print_table(columns, rows)


def _row(key: str, value: str, origin: str, with_origin: bool) -> dict[str, str]:
    row = {"key": key, "value": value}
    return row | {"origin": origin} if with_origin else row
