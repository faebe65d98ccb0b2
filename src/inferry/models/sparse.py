"""What makes a weight per token of the vocabulary out of a text: SPLADE pooling, or a table.

Sources: sentence-transformers, `SpladePooling` and `SparseStaticEmbedding`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from inferry.models.folder import ModelFolder
from inferry.models.layout import Layout, Module
from inferry.models.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferry.modeling import Rows


@dataclass(frozen=True, slots=True)
class SpladeHead:
    """log(1 + relu(logit)), over the tokens of a text.

    strategy: the largest of them, or their sum. logarithms: how often log(1 + x) is taken.
    width: of the vocabulary.
    """

    width: int
    strategy: Literal["max", "sum"] = "max"
    logarithms: int = 1

    @property
    def needs_first_only(self) -> bool:
        """Every token counts."""
        return False

    @property
    def includes_prompt(self) -> bool:
        """The tokens of a prompt count as all others."""
        return True


class _SpladePooling(msgspec.Struct):
    pooling_strategy: Literal["max", "sum"] = "max"
    activation_function: Literal["relu", "log1p_relu"] = "relu"


def read_splade_head(folder: ModelFolder, layout: Layout, vocabulary: int) -> SpladeHead:
    """Read the module behind the encoder. Raises `UnusableModel`."""
    config = _SpladePooling()
    for module in layout.rest:
        if module.kind != "SpladePooling":
            raise folder.unusable(
                "modules.json",
                f"has the module [{module.kind}] beside [SpladePooling], which cannot be run",
            )
        config = folder.read_json(module.file("config.json"), _SpladePooling)
    logarithms = 2 if config.activation_function == "log1p_relu" else 1
    return SpladeHead(vocabulary, config.pooling_strategy, logarithms)


class TokenTable:
    """A weight per token, for texts that no encoder sees."""

    def __init__(self, folder: ModelFolder, module: Module, vocabulary: int) -> None:
        """Read the table. Raises `UnusableModel`."""
        self._weights = Weights(folder, module.file("model.safetensors"))
        self._numbers = self._weights.get("weight", vocabulary).as_float32()

    def rows(self, texts: Sequence[Sequence[int]]) -> Rows:
        """Give float32[texts, vocabulary]: its weight for each token that a text has, else 0."""
        import numpy as np

        rows = np.zeros((len(texts), len(self._numbers)), np.float32)
        for row, ids in zip(rows, texts, strict=True):
            row[ids] = self._numbers[ids]
        return rows
