"""What a TorchScript module is for, and how its texts are tokenized: its `inference_config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec

from inferry.domain import InputType, TaskType
from inferry.errors import BadRequest, UnusableModel
from inferry.inference_configs import complete_inference_config, only_entry
from inferry.modeling import METADATA_FILE, MODEL_TYPES, ModelSource
from inferry.models.folder import ModelFolder
from inferry.models.torchscript.vocabulary import Tokenization

_TASKS: Mapping[str, TaskType] = MappingProxyType(
    {name: task_type for task_type, name in MODEL_TYPES.items()}
)
_PREFIXES: Mapping[InputType, str] = MappingProxyType(
    {
        InputType.SEARCH: "search",
        InputType.INTERNAL_SEARCH: "search",
        InputType.INGEST: "ingest",
        InputType.INTERNAL_INGEST: "ingest",
    }
)


class TaskSettings(msgspec.Struct, frozen=True):
    """The settings of a task, of any task; see `inferry.inference_configs`."""

    tokenization: dict[str, Tokenization]
    results_field: str
    expansion_type: str = "elser"
    span_score_combination_function: str = "max"
    num_top_classes: int = 0
    classification_labels: list[str] = []
    labels: list[str] = []
    hypothesis_template: str = "{}"
    multi_label: bool = False
    question: str | None = None
    text: str | None = None
    max_answer_length: int = 15

    @property
    def tokens(self) -> Tokenization:
        """The one tokenization."""
        return next(iter(self.tokenization.values()))


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a module is for.

    task: the name of its inference config; task_type: what endpoints it runs, None for none.
    kind: of its tokenizer. prefixes: what stands before a text, by what it is for.
    """

    task: str
    settings: TaskSettings
    prefixes: Mapping[InputType, str]

    @property
    def task_type(self) -> TaskType | None:
        """What endpoints it can run."""
        return _TASKS.get(self.task)

    @property
    def kind(self) -> str:
        """Its tokenizer."""
        return next(iter(self.settings.tokenization))

    def given(self, config: Mapping[str, Any]) -> Purpose:
        """Give it with the settings of a request. Raises `BadRequest` for those of another task."""
        task, settings = read_settings(config)
        if task != self.task or next(iter(settings.tokenization)) != self.kind:
            raise BadRequest(
                f"Trained model is configured for task [{self.task}] but called with task [{task}]"
            )
        longest = self.settings.tokens.max_sequence_length
        return replace(self, settings=settings).cut(longest)

    def cut(self, longest: int | None) -> Purpose:
        """Give it for a module that takes only texts of `longest` tokens, None for no limit."""
        rules = self.settings.tokens
        if longest is None or longest >= rules.max_sequence_length:
            return self
        shorter = msgspec.structs.replace(rules, max_sequence_length=longest)
        settings = msgspec.structs.replace(self.settings, tokenization={self.kind: shorter})
        return replace(self, settings=settings)


class _Metadata(msgspec.Struct):
    inference_config: dict[str, Any]
    prefix_strings: dict[str, str | None] | None = None


def read_purpose(folder: ModelFolder) -> Purpose:
    """Read `metadata.json`. Raises `UnusableModel`."""
    metadata = folder.read_json(METADATA_FILE, _Metadata)
    given = {
        name: {key: value for key, value in config.items() if key != "vocabulary"}
        for name, config in metadata.inference_config.items()
    }
    try:
        task, settings = read_settings(complete_inference_config(given))
    except (BadRequest, KeyError) as error:
        raise folder.unusable(METADATA_FILE, f"cannot be used: {error}") from error
    strings = metadata.prefix_strings or {}
    prefixes = {one: strings.get(_PREFIXES.get(one, "")) or "" for one in InputType}
    return Purpose(task, settings, prefixes)


def read_settings(config: Mapping[str, Any]) -> tuple[str, TaskSettings]:
    """Read a complete inference config. Raises `BadRequest` for a value of another kind."""
    task, settings = only_entry(config, "inference_config")
    try:
        return task, msgspec.convert(settings, TaskSettings)
    except msgspec.ValidationError as error:
        raise BadRequest(f"[{task}]: {error}") from error


def check_task_of(purpose: Purpose, source: ModelSource) -> None:
    """Compare what a module is for with what is asked. Raises `UnusableModel`."""
    asked = source.task_type
    if asked is None or asked is purpose.task_type:
        return
    if purpose.task_type is None:
        raise UnusableModel(
            f"Deployed model [{source.name}] has type [{purpose.task}] which does not map to any"
            " supported task types"
        )
    raise UnusableModel(
        f"Deployed model [{source.name}] with type [{purpose.task}] does not match the requested"
        f" task type [{asked}]"
    )
