"""The command tree."""

from __future__ import annotations

from typing import Annotated

import typer

from inferry import __version__
from inferry.cli import config, endpoints, infer, keys, models, serve, users


def build_application() -> typer.Typer:
    """Put the commands together. Help is plain text: rich would double the time of `--help`."""
    application = typer.Typer(
        rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True
    )
    application.callback()(_root)
    application.command("serve")(serve.serve)
    application.command("infer")(infer.infer)
    application.add_typer(endpoints.build_group(), name="endpoints")
    application.add_typer(models.build_group(), name="models")
    application.add_typer(keys.build_group(), name="keys")
    application.add_typer(users.build_group(), name="users")
    application.add_typer(config.build_group(), name="config")
    return application


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"inferry {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Serve the Elasticsearch Inference API, for hosted and local models."""
