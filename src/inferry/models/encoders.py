"""The transformer encoders that we build ourselves, as their `config.json` describes them.

Keys and defaults are those of the configuration classes of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import msgspec

from inferry.models.folder import ModelFolder

Family: TypeAlias = Literal["bert", "roberta", "distilbert", "mpnet"]
Activation: TypeAlias = Literal["gelu", "gelu_tanh", "relu", "silu"]

_FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "bert": "bert",
        "roberta": "roberta",
        "xlm-roberta": "roberta",
        "camembert": "roberta",
        "distilbert": "distilbert",
        "mpnet": "mpnet",
    }
)
_ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "gelu": "gelu",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "relu": "relu",
        "silu": "silu",
        "swish": "silu",
    }
)
_PADDING_ID = 1  # of RoBERTa and MPNet, where positions are counted from it on
_Natural = Annotated[int, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class Encoder:
    """The measures of an encoder.

    inner: width within the feed-forward part. positions: rows of the table of positions.
    padding_id: what does not count as a position, in the families where something does not.
    """

    family: Family
    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    activation: Activation
    epsilon: float
    positions: int
    token_types: int = 0
    padding_id: int | None = None

    @property
    def max_tokens(self) -> int:
        """Length of the longest text that has a position for each token."""
        # Where positions are counted, they begin behind that of the padding.
        return self.positions - (0 if self.padding_id is None else self.padding_id + 1)


class _Bert(msgspec.Struct):
    """Keys of BERT, and of RoBERTa and MPNet where they have them."""

    vocab_size: _Count
    model_type: str = ""
    hidden_size: _Count = 768
    num_hidden_layers: _Count = 12
    num_attention_heads: _Count = 12
    intermediate_size: _Count = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    max_position_embeddings: _Count = 512
    type_vocab_size: _Count = 2
    pad_token_id: _Natural | None = None
    position_embedding_type: str = "absolute"
    is_decoder: bool = False


class _DistilBert(msgspec.Struct):
    vocab_size: _Count
    max_position_embeddings: _Count = 512
    n_layers: _Count = 6
    n_heads: _Count = 12
    dim: _Count = 768
    hidden_dim: _Count = 3072
    activation: str = "gelu"


class _Named(msgspec.Struct):
    model_type: str = ""


def read_encoder(folder: ModelFolder, path: str) -> Encoder | None:
    """Read a `config.json`; None for a family that we do not build. Raises `UnusableModel`."""
    family = _FAMILIES.get(folder.read_json(path, _Named).model_type)
    if family is None:
        return None
    read = _read_distilbert if family == "distilbert" else _read_bert
    encoder = read(folder, path, family)
    if encoder is None:
        return None
    if encoder.width % encoder.heads:
        raise folder.unusable(
            path, f"has [{encoder.heads}] attention heads for a width of [{encoder.width}]"
        )
    if encoder.max_tokens < 1:
        raise folder.unusable(path, f"has [{encoder.positions}] positions, too few for a token")
    return encoder


def _read_bert(folder: ModelFolder, path: str, family: Family) -> Encoder | None:
    config = folder.read_json(path, _Bert)
    if config.position_embedding_type != "absolute" or config.is_decoder:
        return None
    padding_id = _PADDING_ID
    if family == "roberta" and config.pad_token_id is not None:
        padding_id = config.pad_token_id
    return Encoder(
        family=family,
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        inner=config.intermediate_size,
        activation=_activation(config.hidden_act, folder, path),
        epsilon=config.layer_norm_eps,
        positions=config.max_position_embeddings,
        token_types=0 if family == "mpnet" else config.type_vocab_size,
        padding_id=None if family == "bert" else padding_id,
    )


def _read_distilbert(folder: ModelFolder, path: str, family: Family) -> Encoder | None:
    config = folder.read_json(path, _DistilBert)
    return Encoder(
        family=family,
        vocabulary=config.vocab_size,
        width=config.dim,
        layers=config.n_layers,
        heads=config.n_heads,
        inner=config.hidden_dim,
        activation=_activation(config.activation, folder, path),
        epsilon=1e-12,  # fixed in the architecture
        positions=config.max_position_embeddings,
    )


def _activation(name: str, folder: ModelFolder, path: str) -> Activation:
    try:
        return _ACTIVATIONS[name]
    except KeyError:
        known = ", ".join(_ACTIVATIONS)
        raise folder.unusable(path, f"has the activation [{name}], known are [{known}]") from None
