"""The transformer encoders that we build ourselves, as their `config.json` describes them.

Keys and defaults are those of the configuration classes of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import msgspec

from inferry.models.folder import ModelFolder

Family: TypeAlias = Literal["bert", "roberta", "distilbert", "mpnet", "deberta"]
Activation: TypeAlias = Literal["gelu", "gelu_tanh", "relu", "silu"]

_FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "bert": "bert",
        "roberta": "roberta",
        "xlm-roberta": "roberta",
        "camembert": "roberta",
        "distilbert": "distilbert",
        "mpnet": "mpnet",
        "deberta-v2": "deberta",
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
class Distances:
    """How DeBERTa's attention sees the distance of two tokens, each kind of it added to the scores.

    buckets: distances that are told apart to either side; far ones share by logarithm where
    farthest is not 0, the first distance that shares the last bucket. content_to_position: by the
    one that looks; position_to_content: by the one that is seen. is_normalized: their embeddings.
    """

    buckets: int
    farthest: int
    content_to_position: bool
    position_to_content: bool
    is_normalized: bool


@dataclass(frozen=True, slots=True)
class Encoder:
    """The measures of an encoder.

    inner: width within the feed-forward part. positions: rows of the table of positions.
    padding_id: what does not count as a position, in the families where something does not.
    distances: of DeBERTa, which need not have positions beside them: has_positions.
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
    distances: Distances | None = None
    has_positions: bool = True

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


class _DebertaV2(msgspec.Struct):
    """pos_att_type: a list, or its members with a bar between them."""

    vocab_size: _Count
    hidden_size: _Count = 1536
    num_hidden_layers: _Count = 24
    num_attention_heads: _Count = 24
    intermediate_size: _Count = 6144
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-7
    max_position_embeddings: _Count = 512
    type_vocab_size: _Natural = 0
    relative_attention: bool = False
    max_relative_positions: int = -1
    position_buckets: int = -1
    pos_att_type: str | list[str] | None = None
    position_biased_input: bool = True
    share_att_key: bool = False
    norm_rel_ebd: str = "none"
    embedding_size: _Count | None = None
    conv_kernel_size: int = 0


class _Named(msgspec.Struct):
    model_type: str = ""


def read_encoder(folder: ModelFolder, path: str) -> Encoder | None:
    """Read a `config.json`; None for a family that we do not build. Raises `UnusableModel`."""
    family = _FAMILIES.get(folder.read_json(path, _Named).model_type)
    if family is None:
        return None
    encoder = _READERS[family](folder, path, family)
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


def _read_deberta(folder: ModelFolder, path: str, family: Family) -> Encoder | None:
    """Read DeBERTa v2 or v3; None for its rarer forms."""
    config = folder.read_json(path, _DebertaV2)
    kinds = config.pos_att_type or []
    kinds = kinds.lower().split("|") if isinstance(kinds, str) else kinds
    is_usual = (
        config.relative_attention
        and config.share_att_key
        and set(kinds) <= {"c2p", "p2c"}
        and config.embedding_size in (None, config.hidden_size)
        and config.conv_kernel_size == 0
        and config.norm_rel_ebd in ("none", "layer_norm")
    )
    if not is_usual:
        return None
    positions = config.max_position_embeddings
    farthest = config.max_relative_positions if config.max_relative_positions > 0 else positions
    return Encoder(
        family=family,
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        inner=config.intermediate_size,
        activation=_activation(config.hidden_act, folder, path),
        epsilon=config.layer_norm_eps,
        positions=positions,
        token_types=config.type_vocab_size,
        distances=Distances(
            buckets=config.position_buckets if config.position_buckets > 0 else farthest,
            farthest=farthest if config.position_buckets > 0 else 0,
            content_to_position="c2p" in kinds,
            position_to_content="p2c" in kinds,
            is_normalized=config.norm_rel_ebd == "layer_norm",
        ),
        has_positions=config.position_biased_input,
    )


_READERS: Mapping[Family, Callable[[ModelFolder, str, Family], Encoder | None]] = MappingProxyType(
    {
        "bert": _read_bert,
        "roberta": _read_bert,
        "mpnet": _read_bert,
        "distilbert": _read_distilbert,
        "deberta": _read_deberta,
    }
)


def _activation(name: str, folder: ModelFolder, path: str) -> Activation:
    try:
        return _ACTIVATIONS[name]
    except KeyError:
        known = ", ".join(_ACTIVATIONS)
        raise folder.unusable(path, f"has the activation [{name}], known are [{known}]") from None
