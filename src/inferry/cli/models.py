"""`inferry models`: local models on this machine. No server is asked; a running one sees it all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.exits import CommandFailure, Exit
from inferry.cli.options import ConfigFile, DataDir, Json, load
from inferry.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from inferry.modeling import Progress
    from inferry.models.collection import Collection, Listed

ModelId = Annotated[str, typer.Argument(metavar="ID", help="Model id.")]


def build_group() -> typer.Typer:
    """Build the command group."""
    group = typer.Typer(help="Local models.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("pull")(pull_model)
    group.command("add")(add_model)
    group.command("quantize")(quantize_model)
    group.command("remove")(remove_model)
    return group


def list_models(data_dir: DataDir = None, config: ConfigFile = None, as_json: Json = False) -> None:
    """List the models that are known, and which of them are on this machine."""
    with _collection(data_dir, config) as collection:
        rows = collection.rows()
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    columns = ("id", "comes from", "size", "folder")
    print_table(columns, [(row.model_id, row.source, _size(row), _place(row)) for row in rows])


def pull_model(
    model_id: ModelId,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A package repository, a page of the hub, a folder, or a hub id.",
            metavar="URL|PATH|HUB_ID",
        ),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Download a model, or what is newer of it; from a folder, copy it."""
    with _collection(data_dir, config, adds=True) as collection, _progress(model_id) as report:
        source = collection.pull(
            model_id, _absolute(origin) if origin else None, report=report, stop=Event()
        )
    print(source.folder)
    say(f"{model_id} is on this machine")


def add_model(
    model_id: ModelId,
    folder: Annotated[
        Path, typer.Argument(metavar="PATH", help="Model folder, which stays where it is.")
    ],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Let an id stand for a folder of this machine."""
    with _collection(data_dir, config, adds=True) as collection:
        collection.add(model_id, folder.expanduser().resolve())
    say(f"added {model_id}")


def quantize_model(
    model_id: ModelId,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            help="UTF-8 file with 50 to 300 of the texts that the model will see, a line each. For "
            "a model that reranks query<TAB>document; without TABs queries are made of the "
            "beginnings of the lines.",
            metavar="FILE",
        ),
    ] = None,
    new_id: Annotated[
        str | None, typer.Option("--as", help="Id of the new model; default: ID-int8.")
    ] = None,
    task_type: Annotated[
        str | None,
        typer.Option("--task-type", help="What it shall do, where its files leave that open."),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a faster model in 8-bit integers of one, and tell how close it is (extra `quantize`)."""
    from inferry.domain import TaskType
    from inferry.extras import extra
    from inferry.modeling import MODEL_TYPES
    from inferry.models.samples import read_sample

    new_id = new_id or f"{model_id}-int8"
    if task_type not in (None, *MODEL_TYPES):
        kinds = ", ".join(f"[{one}]" for one in MODEL_TYPES)
        raise CommandFailure(f"--task-type is one of {kinds}, not [{task_type}]", Exit.USAGE)
    with _collection(data_dir, config, adds=True) as collection:
        sample = read_sample(texts)
        with extra("local", f"the model [{model_id}] cannot be quantized"):
            from inferry.engine.runtimes.openvino import OpenVino
            from inferry.models.graphs.quantized import Nncf
            from inferry.models.quantization import Recipe
        recipe = Recipe(Nncf(model_id), OpenVino(), TaskType(task_type) if task_type else None)
        source, closeness = collection.quantize(model_id, new_id, sample, recipe)
    print(source.folder)
    say(f"{new_id} is on this machine; {closeness}")


def remove_model(model_id: ModelId, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Forget a model that was added, and delete what was downloaded or copied."""
    with _collection(data_dir, config) as collection:
        collection.remove(model_id)
    say(f"removed {model_id}")


@contextmanager
def _collection(
    data_dir: str | None, config: str | None, *, adds: bool = False
) -> Iterator[Collection]:
    """Open the models of this machine; what fails within ends the command with its reason.

    adds: make the data directory if it is not there yet, and log to stderr what the work tells.
    """
    from inferry.bootstrap import prepare_data_dir
    from inferry.errors import (
        IllegalArgument,
        InferenceError,
        NotFound,
        UpstreamUnreachable,
        cause_of,
    )
    from inferry.models.collection import open_collection
    from inferry.telemetry import configure_logging

    given = {"config": config, "server.data_dir": data_dir}
    loaded = load({key: value for key, value in given.items() if value is not None})
    exits = {
        NotFound: Exit.NOT_FOUND,
        IllegalArgument: Exit.USAGE,
        UpstreamUnreachable: Exit.UNREACHABLE,
    }
    try:
        if adds:
            prepare_data_dir(loaded.config.data_dir)
            configure_logging(loaded.config.telemetry)
        yield open_collection(loaded.config, os.environ)
    except InferenceError as error:
        cause = cause_of(error)
        is_said = cause is None or str(cause) in str(error)
        message = str(error) if is_said else f"{error}: {cause}"
        raise CommandFailure(message, exits.get(type(error), Exit.FAILURE)) from error


@contextmanager
def _progress(model_id: str) -> Iterator[Callable[[Progress], None]]:
    """Give what is told how far a download is; on a terminal it draws a bar."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(model_id, total=None)
        yield lambda progress: bars.update(bar, completed=progress.done, total=progress.total)


def _absolute(origin: str) -> str:
    """Write a path from the working directory or from home as a whole one.

    What is a folder here is one, though it may look like a hub id.
    """
    is_path = origin.startswith((".", "/", "~")) or Path(origin).is_dir()
    return str(Path(origin).expanduser().resolve()) if is_path else origin


def _as_json(row: Listed) -> dict[str, object]:
    return {
        "model_id": row.model_id,
        "source": row.source,
        "folder": str(row.folder) if row.folder else None,
        "size_bytes": row.size_bytes,
        "problem": row.problem,
    }


def _size(row: Listed) -> str:
    return "" if row.size_bytes is None else f"{-(-row.size_bytes // 1_000_000)} MB"


def _place(row: Listed) -> str:
    place = str(row.folder) if row.folder else ""
    return ": ".join(filter(None, (place, row.problem))) or "not on this machine"
