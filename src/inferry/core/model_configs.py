"""Ids and configurations of models in `_ml/trained_models`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from inferry.domain import Json
from inferry.errors import BadRequest, IllegalArgument, InvalidRequest
from inferry.inference_configs import complete_inference_config
from inferry.records import TrainedModelRecord

_ID = re.compile(r"[a-z0-9](?:[a-z0-9_\-.]*[a-z0-9])?")
_MAX_ID = 64
_DEFAULT_INPUT: Mapping[str, Json] = {"field_names": ["text_field"]}
_TREES = ("definition", "compressed_definition")


def model_named(models: Mapping[str, TrainedModelRecord], name: str) -> TrainedModelRecord | None:
    """Give the model that has an id or another name."""
    found = models.get(name)
    return found or next((one for one in models.values() if name in one.aliases), None)


def check_model_id(model_id: str) -> None:
    """Refuse an id that no uploaded model may have. Raises `InvalidRequest`."""
    if problems := id_problems("model_id", model_id):
        raise InvalidRequest.of(problems)


def id_problems(name: str, given: str) -> list[str]:
    """Find what is wrong with an id that a caller has chosen. name: of the field it is in."""
    invalid = (
        f"Invalid {name}; '{given[: 2 * _MAX_ID]}' can contain lowercase alphanumeric (a-z and"
        " 0-9), hyphens or underscores; must"
    )
    if not _ID.fullmatch(given):
        return [f"{invalid} start and end with alphanumeric"]
    if len(given) > _MAX_ID:
        return [f"{invalid} not be longer than [{_MAX_ID}] characters"]
    return []


def config_of(body: Mapping[str, Json]) -> dict[str, Json]:
    """Give what is stored of the body of a PUT. Raises `BadRequest` and its kinds."""
    kind = body.get("model_type")
    if kind == "pytorch" and (trees := [name for name in _TREES if body.get(name) is not None]):
        raise BadRequest(
            f"[{trees[0]}] is not taken for [model_type] [pytorch]: its parts are put to"
            " [definition/0] and so on below the model"
        )
    if kind not in ("pytorch", None) or any(name in body for name in _TREES):
        raise BadRequest(
            f"models of type [{kind or 'tree_ensemble'}] cannot be run; [model_type] must be"
            " [pytorch]"
        )
    if kind is None:
        raise IllegalArgument("[model_type] must be [pytorch], and is missing")
    given = body.get("inference_config")
    if not isinstance(given, Mapping):
        raise InvalidRequest.of(["[inference_config] must be set"])
    config: dict[str, Json] = {
        name: body[name]
        for name in ("model_type", "description", "tags", "metadata", "platform_architecture")
        if body.get(name) is not None
    }
    config["input"] = body.get("input") or dict(_DEFAULT_INPUT)
    config["inference_config"] = complete_inference_config(given)
    if (prefixes := body.get("prefix_strings")) is not None:
        config["prefix_strings"] = prefixes
    return config
