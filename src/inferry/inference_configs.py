"""What an uploaded model is for and how its texts are tokenized: defaults and rules. Pure.

The form has been checked when this is called: known names, right kinds of values. Source of names,
defaults and rules: Elasticsearch API specification, `ml.put_trained_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from inferry.domain import Json
from inferry.errors import BadRequest, IllegalArgument, UnreadableBody

TOKENIZATIONS = ("bert", "mpnet", "roberta", "xlm_roberta", "deberta_v2")
"""Blocks below `tokenization` of models that can be run."""

RESULTS_FIELD = "predicted_value"
_OTHER_MEMBERS = (
    *("is_truncated", "warning", "top_classes", "prediction_probability", "entities"),
    *("start_offset", "end_offset"),
)
_TRUNCATIONS = ("first", "second", "none", "balanced")
_NLI_LABELS = ("entailment", "neutral", "contradiction")
_NER_LABELS = (*("O", "B_MISC", "I_MISC", "B_PER", "I_PER", "B_ORG", "I_ORG", "B_LOC", "I_LOC"),)
_WITHOUT_LOWER_CASE = ("roberta", "xlm_roberta", "deberta_v2")
_JAPANESE = "bert_ja"

DEFAULTS: Mapping[str, Mapping[str, Json]] = MappingProxyType(
    {
        "text_embedding": {},
        "text_expansion": {"expansion_type": "elser"},
        "text_similarity": {"span_score_combination_function": "max"},
        "fill_mask": {"num_top_classes": 5},
        "ner": {"classification_labels": list(_NER_LABELS)},
        "text_classification": {
            "num_top_classes": -1,
            "classification_labels": ["negative", "positive"],
        },
        "zero_shot_classification": {
            "multi_label": False,
            "hypothesis_template": "This example is {}.",
        },
        "question_answering": {"num_top_classes": 0, "max_answer_length": 15},
        "pass_through": {},
    }
)
"""By inference config: what is stored where the caller says nothing."""

MASK_TOKENS: Mapping[str, str] = MappingProxyType(
    {
        "bert": "[MASK]",
        "deberta_v2": "[MASK]",
        "mpnet": "<mask>",
        "roberta": "<mask>",
        "xlm_roberta": "<mask>",
    }
)
"""By tokenization: what stands for the word to find."""


def complete_inference_config(given: Mapping[str, Json]) -> dict[str, Json]:
    """Give the inference config of a new model with its defaults.

    Raises `BadRequest`, `IllegalArgument`.
    """
    name, config = only_entry(given, "inference_config")
    if "vocabulary" in config:
        raise BadRequest("illegal setting [vocabulary] on inference model creation")
    tokenization = complete_tokenization(config.get("tokenization"))
    complete: dict[str, Json] = {**DEFAULTS[name], **_given(config)}
    complete["tokenization"] = tokenization
    complete.setdefault("results_field", RESULTS_FIELD)
    check_values(name, complete)
    return {name: complete}


def update_inference_config(
    stored: Mapping[str, Json], update: Mapping[str, Json]
) -> dict[str, Json]:
    """Lay what a request says over the inference config of its model; both have one entry.

    Raises `BadRequest` where the request is for another task or another tokenizer.
    """
    name, config = only_entry(stored, "inference_config")
    asked, changes = only_entry(update, "inference_config")
    if asked != name:
        raise BadRequest(
            f"Trained model is configured for task [{name}] but called with task [{asked}]"
        )
    complete = {**config, **_given(changes)}
    former, labels = config.get("classification_labels"), complete.get("classification_labels")
    if isinstance(former, list) and isinstance(labels, list) and len(labels) != len(former):
        raise BadRequest(
            f"The number of [classification_labels] the model is defined with [{len(former)}] does"
            f" not match the number in the update [{len(labels)}]"
        )
    complete["tokenization"] = _update_tokenization(config["tokenization"], changes)
    check_values(name, complete)
    return {name: complete}


def _update_tokenization(stored: Json, changes: Mapping[str, Json]) -> dict[str, Json]:
    """Lay the two fields over a tokenization that a request may change."""
    block, fields = only_entry(stored, "tokenization")
    given = changes.get("tokenization")
    if given is None:
        return {block: dict(fields)}
    asked, updated = only_entry(given, "tokenization")
    if asked != block:
        raise BadRequest(f"tokenization is configured as [{block}] but the update is for [{asked}]")
    if unknown := sorted(updated.keys() - {"truncate", "span"}):
        raise BadRequest(f"[{unknown[0]}] of [tokenization] cannot be updated by a request")
    complete = {**fields, **_given(updated)}
    if "span" not in updated and complete["truncate"] != "none":
        complete["span"] = -1
    check_tokenization(block, complete)
    return {block: complete}


def complete_tokenization(given: Json) -> dict[str, Json]:
    """Give a tokenization with its defaults. Raises `IllegalArgument`."""
    block, fields = ("bert", {}) if given is None else only_entry(given, "tokenization")
    if block not in TOKENIZATIONS:
        raise IllegalArgument(_why_not(block))
    defaults: dict[str, Json] = {
        "do_lower_case": False,
        "with_special_tokens": True,
        "max_sequence_length": 512,
        "truncate": "first",
        "span": -1,
    }
    if block == "roberta":
        defaults["add_prefix_space"] = False
    complete = {**defaults, **_given(fields)}
    check_tokenization(block, complete)
    return {block: complete}


def _why_not(block: str) -> str:
    """Say why texts cannot be tokenized so, and how they can."""
    known = f"[tokenization] must be one of [{', '.join(TOKENIZATIONS)}], got [{block[:64]}]"
    if block != _JAPANESE:
        return known
    return (
        f"{known}: that takes a dictionary of Japanese words, which is not part of this server. A"
        " model whose vocabulary is of SentencePiece ([xlm_roberta], [deberta_v2]) reads Japanese"
        " without one"
    )


def only_entry(given: Json | Mapping[str, Json], name: str) -> tuple[str, Mapping[str, Json]]:
    """Give the name and the value of an object that has one entry. Raises `UnreadableBody`."""
    if not isinstance(given, Mapping) or len(given) != 1:
        found = sorted(given) if isinstance(given, Mapping) else []
        raise UnreadableBody(f"[{name}] must have exactly one entry, got [{', '.join(found)}]")
    ((key, value),) = given.items()
    return key, value if isinstance(value, Mapping) else {}


def check_tokenization(block: str, fields: Mapping[str, Json]) -> None:
    """Refuse what does not go together. Raises `IllegalArgument`."""
    truncate, span = fields["truncate"], fields["span"]
    longest = fields["max_sequence_length"]
    assert isinstance(span, int)
    assert isinstance(longest, int)
    if truncate not in _TRUNCATIONS:
        raise IllegalArgument(
            f"[truncate] must be one of [{', '.join(_TRUNCATIONS)}], got [{truncate}]"
        )
    if longest < 1:
        raise IllegalArgument("[max_sequence_length] must be positive")
    if span < -1:
        raise IllegalArgument(
            f"[span] must be greater than or equal to 0, or -1 for no windows, got [{span}]"
        )
    if span >= 0 and truncate != "none":
        raise IllegalArgument(f"[span] must not be provided when [truncate] is [{truncate}]")
    if span > longest:
        raise IllegalArgument(
            f"[span] with value [{span}] must not be greater than [max_sequence_length] with value"
            f" [{longest}]"
        )
    if fields["do_lower_case"] and block in _WITHOUT_LOWER_CASE:
        raise IllegalArgument(f"unable to set [do_lower_case] to [true] for [{block}] tokenization")


def check_values(name: str, config: Mapping[str, Json]) -> None:
    """Refuse values of an inference config that it cannot have. Raises `IllegalArgument`."""
    check = _CHECKS.get(name)
    if check is not None:
        check(config)
    check_results_field(config["results_field"])


def check_results_field(name: Json) -> None:
    """Refuse a name of the result that is none, or another member's. Raises `IllegalArgument`."""
    if name == "":
        raise IllegalArgument("[results_field] must not be empty")
    if name in _OTHER_MEMBERS:
        raise IllegalArgument(f"[results_field] must not be [{name}], which has another meaning")


def _check_embedding(config: Mapping[str, Json]) -> None:
    size = config.get("embedding_size")
    if isinstance(size, int) and size < 1:
        raise IllegalArgument(
            f"[embedding_size] must be a number greater than 0; configured size [{size}]"
        )


def _check_expansion(config: Mapping[str, Json]) -> None:
    _check_choice(config, "expansion_type", ("elser", "splade"))


def _check_similarity(config: Mapping[str, Json]) -> None:
    _check_choice(config, "span_score_combination_function", ("max", "mean"))


def _check_mask(config: Mapping[str, Json]) -> None:
    tokenization = config["tokenization"]
    block, _ = only_entry(tokenization, "tokenization")
    given = config.get("mask_token")
    if given is not None and given != MASK_TOKENS[block]:
        raise IllegalArgument(
            f"IllegalArgument: mask token [{given}] does not match the tokenizer's mask token"
            f" [{MASK_TOKENS[block]}]"
        )


def _check_classes(config: Mapping[str, Json]) -> None:
    given = config["classification_labels"]
    labels = given if isinstance(given, list) else []
    if len(labels) < 2:
        raise IllegalArgument(
            "Text classification requires at least 2 [classification_labels]."
            f" Invalid labels [{', '.join(map(str, labels))}]"
        )
    if config["num_top_classes"] == 0:
        raise IllegalArgument(
            "Text classification requires at least 1 [num_top_classes]; provided [0]"
        )


def _check_zero_shot(config: Mapping[str, Json]) -> None:
    labels = config.get("classification_labels")
    found = [str(label).lower() for label in labels] if isinstance(labels, list) else []
    if sorted(found) != sorted(_NLI_LABELS):
        raise IllegalArgument(
            "[zero_shot_classification] requires [entailment, neutral, contradiction] in"
            " [classification_labels], in the order of the model's outputs"
        )
    if config.get("labels") == []:
        raise IllegalArgument("[labels] must not be empty")
    template = config["hypothesis_template"]
    if not isinstance(template, str) or "{}" not in template:
        raise IllegalArgument(
            f"[hypothesis_template] with value [{template}] must have the placeholder [{{}}]"
        )


def _check_answering(config: Mapping[str, Json]) -> None:
    longest = config["max_answer_length"]
    if not isinstance(longest, int) or longest < 1:
        raise IllegalArgument(f"[max_answer_length] must be greater than 0, got [{longest}]")


def _check_choice(config: Mapping[str, Json], name: str, choices: tuple[str, ...]) -> None:
    if config[name] not in choices:
        raise IllegalArgument(
            f"[{name}] must be one of [{', '.join(choices)}], got [{config[name]}]"
        )


def _given(fields: Mapping[str, Json]) -> dict[str, Json]:
    """Leave out what is null: it counts as not given."""
    return {name: value for name, value in fields.items() if value is not None}


_CHECKS: Mapping[str, Callable[[Mapping[str, Json]], None]] = MappingProxyType(
    {
        "text_embedding": _check_embedding,
        "text_expansion": _check_expansion,
        "text_similarity": _check_similarity,
        "fill_mask": _check_mask,
        "text_classification": _check_classes,
        "zero_shot_classification": _check_zero_shot,
        "question_answering": _check_answering,
    }
)
