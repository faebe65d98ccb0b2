"""Other names of uploaded and built-in models (`_ml/trained_models/{id}/model_aliases`)."""

from __future__ import annotations

from functools import partial
from typing import Final

from inferry.api.elastic.endpoints import ACKNOWLEDGED, Acknowledged, actor_of
from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.parameters import parse_flag
from inferry.commands import DeleteModelAlias, PutModelAlias
from inferry.protocols import Writer

_PATH: Final = "/_ml/trained_models/{model_id}/model_aliases/{model_alias}"
_WRITE: Final = "cluster:admin/xpack/ml/inference/"


def alias_routes(writer: Writer) -> list[Route]:
    """Give the routes of other names."""

    async def put(request: Request) -> Answer:
        command = PutModelAlias(
            request.path_values["model_id"],
            request.path_values["model_alias"],
            reassign=parse_flag(request.query, "reassign"),
            actor=actor_of(request),
        )
        await writer.submit(command)
        return Answer(ACKNOWLEDGED)

    async def delete(request: Request) -> Answer:
        command = DeleteModelAlias(
            request.path_values["model_id"],
            request.path_values["model_alias"],
            actor=actor_of(request),
        )
        await writer.submit(command)
        return Answer(ACKNOWLEDGED)

    route = partial(Route, path=_PATH, render_error=render_error, answer_type=Acknowledged)
    return [
        route(
            method="PUT",
            handler=put,
            action=f"{_WRITE}put",
            summary="Give a model another name",
            parameters=frozenset({"reassign"}),
        ),
        route(
            method="DELETE",
            handler=delete,
            action=f"{_WRITE}delete",
            summary="Take another name from a model",
        ),
    ]
