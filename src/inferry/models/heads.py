"""What makes a dense vector of token states: the modules of sentence-transformers, as values.

Old and new keys of the pooling are both read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import msgspec

from inferry.models.folder import ModelFolder
from inferry.models.layout import Module
from inferry.models.weights import Tensor, Weights

PoolingMode: TypeAlias = Literal[
    "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"
]
DenseActivation: TypeAlias = Literal["identity", "tanh", "gelu", "relu", "sigmoid"]

# In the order in which several of them are put together.
_OLD_MODES: Mapping[str, PoolingMode] = MappingProxyType(
    {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
)
_ACTIVATIONS: Mapping[str, DenseActivation] = MappingProxyType(
    {"Identity": "identity", "Tanh": "tanh", "GELU": "gelu", "ReLU": "relu", "Sigmoid": "sigmoid"}
)
_SENTENCE = "sentence_embedding"
_Count = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class Pooling:
    """Token states to one vector per text. Results of several modes stand side by side.

    include_prompt: whether the tokens of the prompt count.
    """

    modes: tuple[PoolingMode, ...] = ("mean",)
    include_prompt: bool = True


@dataclass(frozen=True, slots=True)
class Dense:
    """activation(x · weightᵀ + bias). weight: [out, in]."""

    weight: Tensor
    bias: Tensor | None
    activation: DenseActivation


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Zero mean and unit variance, then scale and shift."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Normalize:
    """Unit length."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The first `width` numbers of a Matryoshka vector."""

    width: int


Step: TypeAlias = Pooling | Dense | LayerNorm | Normalize | Cut


@dataclass(frozen=True, slots=True)
class Head:
    """The steps from token states to a vector of `width`."""

    steps: tuple[Step, ...]
    width: int

    @property
    def needs_first_only(self) -> bool:
        """Whether the state of the first token is all that is pooled."""
        return self.includes_prompt and all(
            step.modes == ("cls",) for step in self.steps if isinstance(step, Pooling)
        )

    @property
    def includes_prompt(self) -> bool:
        """Whether the tokens of the prompt are pooled."""
        return all(step.include_prompt for step in self.steps if isinstance(step, Pooling))


class _Pooling(msgspec.Struct):
    """`word_embedding_dimension` and the `pooling_mode_...` flags are the old form."""

    pooling_mode: str | list[str] | None = None
    include_prompt: bool = True
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False


class _Dense(msgspec.Struct):
    in_features: _Count
    out_features: _Count
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    module_input_name: str = _SENTENCE
    module_output_name: str | None = None
    use_residual: bool = False


def read_head(
    folder: ModelFolder, modules: Sequence[Module], width: int, *, cut: int | None
) -> Head:
    """Read the modules behind the encoder, whose states have `width`.

    cut: a Matryoshka width, None for the whole. Raises `UnusableModel`.
    """
    steps: list[Step] = []
    for module in modules:
        step, width = _read_step(folder, module, width)
        if step is not None:
            steps.append(step)
    if sum(isinstance(step, Pooling) for step in steps) != 1 or not isinstance(steps[0], Pooling):
        raise folder.unusable("modules.json", "has no pooling right after the encoder")
    if cut is not None and cut != width:
        if not 1 <= cut < width:
            raise folder.unusable("", f"it has [{width}] dimensions, asked for are [{cut}]")
        is_unit = isinstance(steps[-1], Normalize)
        steps += [Cut(cut), Normalize()] if is_unit else [Cut(cut)]
        width = cut
    return Head(tuple(steps), width)


def _read_step(folder: ModelFolder, module: Module, width: int) -> tuple[Step | None, int]:
    match module.kind:
        case "Pooling":
            pooling = _read_pooling(folder, module)
            return pooling, width * len(pooling.modes)
        case "Dense":
            dense = _read_dense(folder, module, width)
            return dense, dense.weight.numbers.shape[0]
        case "LayerNorm":
            weights = Weights(folder, module.file("model.safetensors"))
            return LayerNorm(
                weights.get("norm.weight", width), weights.get("norm.bias", width)
            ), width
        case "Normalize":
            return Normalize(), width
        case "Dropout":
            return None, width
        case kind:
            raise folder.unusable("modules.json", f"has the module [{kind}], which cannot be run")


def _read_pooling(folder: ModelFolder, module: Module) -> Pooling:
    path = module.file("config.json")
    config = folder.read_json(path, _Pooling) if module.path else _Pooling()
    named = config.pooling_mode
    if named is None:
        modes = [mode for key, mode in _OLD_MODES.items() if getattr(config, key)] or ["mean"]
        return Pooling(tuple(modes), config.include_prompt)
    names = [named] if isinstance(named, str) else named
    unknown = [name for name in names if name not in _OLD_MODES.values()]
    if unknown or not names:
        known = ", ".join(_OLD_MODES.values())
        raise folder.unusable(path, f"has the pooling {names}, known are [{known}]")
    return Pooling(tuple(names), config.include_prompt)  # type: ignore[arg-type]


def _read_dense(folder: ModelFolder, module: Module, width: int) -> Dense:
    path = module.file("config.json")
    config = folder.read_json(path, _Dense)
    activation = _ACTIVATIONS.get(config.activation_function.rsplit(".", 1)[-1])
    if activation is None:
        known = ", ".join(_ACTIVATIONS)
        raise folder.unusable(
            path, f"has the activation [{config.activation_function}], known are [{known}]"
        )
    output = config.module_output_name or config.module_input_name
    if config.use_residual or config.module_input_name != _SENTENCE or output != _SENTENCE:
        raise folder.unusable(path, f"works on [{config.module_input_name}] or adds its input")
    if config.in_features != width:
        raise folder.unusable(
            path, f"takes [{config.in_features}] numbers, what comes before gives [{width}]"
        )
    weights = Weights(folder, module.file("model.safetensors"))
    bias = weights.get("linear.bias", config.out_features) if config.bias else None
    weight = weights.get("linear.weight", config.out_features, config.in_features)
    return Dense(weight, bias, activation)
