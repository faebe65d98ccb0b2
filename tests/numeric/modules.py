"""TorchScript modules as `eland` makes them: traced, frozen and saved, on random weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
import transformers

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 140,
}


class _Traced(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """A model with its inputs in the order of the wire. pick: what is given of its output."""

    def __init__(self, model: Any, names: tuple[str, ...], pick: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self._names = names
        self._pick = pick


class _Two(_Traced):
    def forward(self, ids, mask):
        given = dict(zip(self._names, (ids, mask), strict=True))
        return self._pick(self.model(**given, return_dict=False))


class _Three(_Traced):
    def forward(self, ids, mask, types):
        given = dict(zip(self._names, (ids, mask, types), strict=True))
        return self._pick(self.model(**given, return_dict=False))


class _Four(_Traced):
    def forward(self, ids, mask, types, positions):
        given = dict(zip(self._names, (ids, mask, types, positions), strict=True))
        return self._pick(self.model(**given, return_dict=False))


_NAMES = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_BY_INPUTS = {2: _Two, 3: _Three, 4: _Four}


def random_model(model_class: Any, config_class: Any, vocabulary: int, **settings: Any) -> Any:
    """Make a model with weights that are large enough for attention to matter."""
    torch.manual_seed(5)
    config = config_class(vocab_size=vocabulary, attn_implementation="eager", **SMALL, **settings)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
            elif "norm" not in name.lower():
                weight.normal_(std=0.1)
    return model


def trace(
    model: Any, *, inputs: int, pick: Callable[[Any], Any] = lambda found: found, length: int = 12
) -> bytes:
    """Give a module with that many inputs, as `torch.jit.save` writes it."""
    wrapped = _BY_INPUTS[inputs](model, _NAMES[:inputs], pick).eval()
    ids = torch.randint(5, 20, (1, length))
    given = (ids, torch.ones_like(ids), torch.zeros_like(ids), torch.arange(length)[None])
    return saved(torch.jit.freeze(torch.jit.trace(wrapped, given[:inputs], strict=False)))


def saved(module: torch.jit.ScriptModule) -> bytes:
    """Give a module's archive."""
    written = io.BytesIO()
    torch.jit.save(module, written)
    return written.getvalue()


def mean_and_normalize(found: Any) -> torch.Tensor:
    """Pool as sentence-transformers does, for a module without padding."""
    return torch.nn.functional.normalize(found[0].mean(dim=1), dim=-1)


Bert, BertConfig = transformers.BertModel, transformers.BertConfig
