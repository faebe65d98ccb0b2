"""The three models of Elastic's repository in small: their packages, and the models in Python.

Weights are random and words few; inputs and outputs of the modules, tokenization, prefixes and
files are in the form of the real ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import transformers

from tests.models.repositories import package_files
from tests.numeric.modules import mean_and_normalize, random_model, trace
from tests.numeric.test_modules import BERT, DEBERTA, FAMILIES, XLM

_LENGTH = 64


def elser_rows(found: Any) -> torch.Tensor:
    """Give the weights of all tokens of a vocabulary, a row per text."""
    return torch.log1p(torch.relu(found[0].amax(dim=1)))


class Elser:
    """`.elser_model_2`: weights of tokens."""

    def __init__(self) -> None:
        words = BERT["vocabulary"]
        self._model = random_model(
            transformers.BertForMaskedLM, transformers.BertConfig, len(words)
        )

    def files(self, name: str = "elser_model_2") -> dict[str, bytes]:
        """Give the package."""
        module = trace(self._model, inputs=4, pick=elser_rows)
        rules = {"do_lower_case": True, "max_sequence_length": _LENGTH, "truncate": "first"}
        return package_files(name, module, vocabulary=BERT, tokenization=rules)

    def weights(self, text: str) -> dict[str, float]:
        """Give what the model says of a text of known words."""
        words = BERT["vocabulary"]
        ids = _ids(words, "[CLS]", *text.split(), "[SEP]")
        with torch.inference_mode():
            (row,) = elser_rows(self._model(input_ids=ids, return_dict=False)).numpy()
        return {words[n].replace(".", "__"): float(row[n]) for n in row.nonzero()[0]}


class E5:
    """`.multilingual-e5-small`: vectors, after a prefix."""

    def __init__(self) -> None:
        model_class, config_class, _, _, more = FAMILIES["xlm_roberta"]
        self._model = random_model(model_class, config_class, len(XLM["vocabulary"]), **more)

    def files(self, name: str = "multilingual-e5-small") -> dict[str, bytes]:
        """Give the package."""
        return package_files(
            name,
            trace(self._model, inputs=2, pick=mean_and_normalize),
            task="text_embedding",
            kind="xlm_roberta",
            vocabulary=XLM,
            tokenization={"max_sequence_length": _LENGTH},
            prefix_strings={"search": "who ", "ingest": "this "},
        )

    def vector(self, text: str) -> list[float]:
        """Give what the model says of a text of known words, its prefix included."""
        ids = _ids(XLM["vocabulary"], "<s>", *(f"▁{word}" for word in text.split()), "</s>")
        with torch.inference_mode():
            found = self._model(input_ids=ids, return_dict=False)
        return [float(one) for one in mean_and_normalize(found)[0]]


class Rerank:
    """`.rerank-v1`: scores of pairs."""

    def __init__(self) -> None:
        more = FAMILIES["deberta_v2"][4]
        self._model = random_model(
            transformers.DebertaV2ForSequenceClassification,
            transformers.DebertaV2Config,
            len(DEBERTA["vocabulary"]),
            num_labels=1,
            **more,
        )

    def files(self, name: str = "rerank-v1") -> dict[str, bytes]:
        """Give the package."""
        return package_files(
            name,
            trace(self._model, inputs=3),
            task="text_similarity",
            kind="deberta_v2",
            vocabulary=DEBERTA,
            tokenization={"max_sequence_length": _LENGTH, "truncate": "balanced"},
        )

    def score(self, query: str, document: str) -> float:
        """Give what the model says of a pair of texts of known words."""
        pieces = [[f"▁{word}" for word in text.split()] for text in (query, document)]
        ids = _ids(DEBERTA["vocabulary"], "[CLS]", *pieces[0], "[SEP]", *pieces[1], "[SEP]")
        with torch.inference_mode():
            found = float(self._model(input_ids=ids, return_dict=False)[0][0, 0])
        assert math.isfinite(found)
        return found


def _ids(vocabulary: Sequence[str], *tokens: str) -> torch.Tensor:
    return torch.tensor([[vocabulary.index(token) for token in tokens]])
