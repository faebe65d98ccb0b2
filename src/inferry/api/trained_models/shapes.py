"""Bodies of `_ml/trained_models` as upstream's parsers describe them, for the words of refusals.

Source: Elasticsearch API specification, `ml.put_trained_model` and its companions.
"""

from __future__ import annotations

from typing import Final

from inferry.api.elastic.body_shapes import Expected, Kind, ListOf, Shape

_TEXTS: Final = ListOf(Kind.STRING)
_TOKENIZATION: Final[dict[str, Expected]] = {
    "do_lower_case": Kind.BOOLEAN,
    "with_special_tokens": Kind.BOOLEAN,
    "max_sequence_length": Kind.INTEGER,
    "truncate": Kind.STRING,
    "span": Kind.INTEGER,
}


_BLOCKS: Final[dict[str, Expected]] = {
    **{
        name: Shape(f"{name}_tokenization", _TOKENIZATION)
        for name in ("bert", "bert_ja", "mpnet", "xlm_roberta", "deberta_v2")
    },
    "roberta": Shape("roberta_tokenization", {**_TOKENIZATION, "add_prefix_space": Kind.BOOLEAN}),
}


def _config(name: str, fields: dict[str, Expected]) -> Shape:
    return Shape(
        name,
        {
            "tokenization": Shape("tokenization", _BLOCKS),
            "results_field": Kind.STRING,
            "vocabulary": Kind.OBJECT,
            **fields,
        },
    )


_CONFIGS: Final[dict[str, dict[str, Expected]]] = {
    "text_embedding": {"embedding_size": Kind.INTEGER},
    "text_expansion": {"expansion_type": Kind.STRING},
    "text_similarity": {"text": Kind.STRING, "span_score_combination_function": Kind.STRING},
    "fill_mask": {"num_top_classes": Kind.INTEGER, "mask_token": Kind.STRING},
    "ner": {"classification_labels": _TEXTS},
    "text_classification": {"classification_labels": _TEXTS, "num_top_classes": Kind.INTEGER},
    "zero_shot_classification": {
        "classification_labels": _TEXTS,
        "labels": _TEXTS,
        "hypothesis_template": Kind.STRING,
        "multi_label": Kind.BOOLEAN,
    },
    "question_answering": {
        "question": Kind.STRING,
        "max_answer_length": Kind.INTEGER,
        "num_top_classes": Kind.INTEGER,
    },
    "pass_through": {},
}

INFERENCE_CONFIG: Final = Shape(
    "inference_config", {name: _config(name, fields) for name, fields in _CONFIGS.items()}
)

TRAINED_MODEL: Final = Shape(
    "trained_model_config",
    {
        "description": Kind.STRING,
        "model_type": Kind.STRING,
        "model_size_bytes": Kind.INTEGER,
        "platform_architecture": Kind.STRING,
        "tags": _TEXTS,
        "metadata": Kind.OBJECT,
        "input": Shape("trained_model_config_input", {"field_names": _TEXTS}, ("field_names",)),
        "prefix_strings": Shape(
            "trained_model_config_prefix_strings", {"ingest": Kind.STRING, "search": Kind.STRING}
        ),
        "inference_config": INFERENCE_CONFIG,
        "definition": Kind.OBJECT,
        "compressed_definition": Kind.STRING,
    },
)

DEFINITION_PART: Final = Shape(
    "put_trained_model_definition_part_action",
    {
        "definition": Kind.STRING,
        "total_definition_length": Kind.INTEGER,
        "total_parts": Kind.INTEGER,
    },
    ("definition", "total_definition_length", "total_parts"),
)

VOCABULARY: Final = Shape(
    "put_trained_model_vocabulary",
    {"vocabulary": _TEXTS, "merges": _TEXTS, "scores": ListOf(Kind.NUMBER)},
    ("vocabulary",),
)
