"""What the tasks that only `_infer` knows make of the numbers of a module. Pure.

Each gives the members of its part of the answer but `is_truncated`. Source of their shapes:
Elasticsearch API specification, `ml.infer_trained_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote_plus

from inferry.errors import BadRequest, Conflict, InternalError
from inferry.models.torchscript.encoding import EncodedText
from inferry.vectors import shortest

if TYPE_CHECKING:
    from inferry.modeling import Rows

Found: TypeAlias = "Sequence[Rows]"
"""What the module gives for each piece of a text: without padding, and without the batch."""

_PREFIXES = ("##", "Ġ", "▁")  # of tokens within, or at the beginning of, a word
_IMPOSSIBLE = -10_000.0


@dataclass(frozen=True, slots=True)
class Task:
    """How a task answers. finish: gives the members of the answer; None of the tasks of endpoints.

    tokens: by id. mask_id: of the token that stands for a word to find.
    """

    finish: Callable[[EncodedText, Found, Task], dict[str, Any]] | None
    tokens: Sequence[str] = ()
    mask_id: int | None = None


def fill_mask(text: EncodedText, found: Found, task: Task) -> dict[str, Any]:
    """Find the words that may stand where the mask is."""
    settings = _settings(text)
    ids = list(text.pieces[0].ids)
    if task.mask_id is None or task.mask_id not in ids:
        raise BadRequest("no mask token could be found in the input, or it was cut off")
    if ids.count(task.mask_id) > 1:
        raise BadRequest(f"only one {text.mask} token should exist in the input")
    odds = _softmax(_tensor(found[0], 2, "fill_mask")[ids.index(task.mask_id)])
    wanted = len(odds) if settings.num_top_classes == -1 else max(1, settings.num_top_classes)
    best = nlargest(wanted, zip(odds.tolist(), range(len(task.tokens)), strict=False))
    words = [(_word(task.tokens[number]), _number(chance)) for chance, number in best]
    word, chance = words[0]
    answer: dict[str, Any] = {
        settings.results_field: word,
        "prediction_probability": chance,
        f"{settings.results_field}_sequence": text.text.replace(text.mask, word),
    }
    if settings.num_top_classes:
        answer["top_classes"] = [_top_class(*one) for one in words]
    return answer


def classify_text(text: EncodedText, found: Found, task: Task) -> dict[str, Any]:
    """Give the class of a text, and the probability of each."""
    settings = _settings(text)
    odds = _softmax(_tensor(found[0], 1, "text classification"))
    labels = settings.classification_labels
    if len(odds) != len(labels):
        raise Conflict(
            f"Expected exactly [{len(labels)}] values in text classification result; got"
            f" [{len(odds)}]"
        )
    return _classes(text, list(zip(labels, odds.tolist(), strict=True)), settings.num_top_classes)


def classify_zero_shot(text: EncodedText, found: Found, task: Task) -> dict[str, Any]:
    """Give which label a text entails most. found: a row of three for each label."""
    import numpy as np

    settings = _settings(text)
    names = [label.lower() for label in settings.classification_labels]
    entails, contradicts = names.index("entailment"), names.index("contradiction")
    rows = np.stack([_tensor(one, 1, "zero shot classification") for one in found])
    if rows.shape[1] != len(names):
        raise Conflict(
            f"Expected exactly [{len(names)}] values in inner zero shot classification result; got"
            f" [{rows.shape[1]}]"
        )
    if settings.multi_label:
        pairs = rows[:, [entails, contradicts]]
        odds = [float(_softmax(pair)[0]) for pair in pairs]
    else:
        odds = _softmax(rows[:, entails]).tolist()
    return _classes(text, list(zip(settings.labels, odds, strict=True)), -1)


def recognize_entities(text: EncodedText, found: Found, task: Task) -> dict[str, Any]:
    """Find names of persons, places and the like, and write them into the text."""
    settings = _settings(text)
    piece = text.pieces[0]
    odds = _softmax(_tensor(found[0], 2, "ner"))[piece.first : piece.first + len(piece.spans)]
    labels = settings.classification_labels
    if odds.shape[1] != len(labels):
        raise Conflict(
            f"The number of classification labels [{len(labels)}] does not match the output"
            f" [{odds.shape[1]}]"
        )
    words = []
    for _, places in groupby(range(len(piece.spans)), key=lambda place: piece.words[place]):
        own = list(places)
        mean = odds[own].mean(axis=0)
        best = int(mean.argmax())
        span = piece.spans[own[0]][0], piece.spans[own[-1]][1]
        words.append(_Word(*_split_label(labels[best]), float(mean[best]), *span))
    entities = [_entity(text, group) for group in _groups(words)]
    return {
        settings.results_field: _annotated(text.text, entities),
        "entities": [
            {**one, **_positions(text.text, one["start_pos"], one["end_pos"])} for one in entities
        ],
    }


def answer_question(text: EncodedText, found: Found, task: Task) -> dict[str, Any]:
    """Find where in a text the answer to the question stands."""
    settings = _settings(text)
    wanted = max(1, settings.num_top_classes)
    spans: list[tuple[float, int, int]] = []
    for piece, numbers in zip(text.pieces, found, strict=True):
        starts, ends = _tensor(numbers, 3, "question answering")[:, 0]
        start_odds, end_odds = (
            _odds_of_answers(one, piece.first, len(piece.ids)) for one in (starts, ends)
        )
        last = piece.first + len(piece.spans)
        for start in range(piece.first, last):
            for end in range(start, min(start + settings.max_answer_length, last)):
                begin, finish = (
                    piece.spans[start - piece.first][0],
                    piece.spans[end - piece.first][1],
                )
                spans.append((float(start_odds[start] * end_odds[end]), begin, finish))
    best = nlargest(wanted, spans, key=lambda one: one[0]) or [(0.0, 0, 0)]
    answers = [
        {
            "answer": text.text[begin:end],
            "score": _number(score),
            "start_offset": _utf16(text.text, begin),
            "end_offset": _utf16(text.text, end),
        }
        for score, begin, end in best
    ]
    top = answers[0]
    answer: dict[str, Any] = {
        settings.results_field: top["answer"],
        "start_offset": top["start_offset"],
        "end_offset": top["end_offset"],
        "prediction_probability": top["score"],
    }
    if settings.num_top_classes:
        answer["top_classes"] = answers
    return answer


def pass_through(text: EncodedText, found: Found, task: Task) -> dict[str, Any]:
    """Give the numbers as they are: rows of a tensor, one row of a vector."""
    numbers = found[0] if found[0].ndim > 1 else found[0][None]
    flat = iter(shortest(numbers.reshape(-1)))

    def nested(shape: Sequence[int]) -> list[Any]:
        if len(shape) == 1:
            return [next(flat) for _ in range(shape[0])]
        return [nested(shape[1:]) for _ in range(shape[0])]

    return {_settings(text).results_field: nested(numbers.shape)}


TASKS: Mapping[str, Callable[[EncodedText, Found, Task], dict[str, Any]]] = MappingProxyType(
    {
        "fill_mask": fill_mask,
        "ner": recognize_entities,
        "text_classification": classify_text,
        "zero_shot_classification": classify_zero_shot,
        "question_answering": answer_question,
        "pass_through": pass_through,
    }
)
"""By inference config, those that no endpoint runs."""


# --- entities ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Word:
    """A word with its likeliest label. mark: `B`, `I` or `O`; start, end: its characters."""

    mark: str
    name: str
    chance: float
    start: int
    end: int


def _split_label(label: str) -> tuple[str, str]:
    """Read `B_PER` or `B-PER`; a label without a mark begins an entity of its own."""
    mark, name = label[:1], label[2:]
    if label == "O" or not label:
        return "O", ""
    if mark in ("B", "I") and label[1:2] in ("_", "-") and name:
        return mark, name
    return "B", label


def _groups(words: Sequence[_Word]) -> list[list[_Word]]:
    """Put words together that are one entity: what begins it, and what is inside of it."""
    groups: list[list[_Word]] = []
    before: _Word | None = None
    for word in words:
        if word.mark != "O":
            continues = word.mark == "I" and before is not None and before.name == word.name
            if continues and before is not None and before.mark != "O":
                groups[-1].append(word)
            else:
                groups.append([word])
        before = word
    return groups


def _entity(text: EncodedText, words: Sequence[_Word]) -> dict[str, Any]:
    start, end = words[0].start, words[-1].end
    return {
        "entity": text.text[start:end],
        "class_name": words[0].name,
        "class_probability": _number(sum(word.chance for word in words) / len(words)),
        "start_pos": start,
        "end_pos": end,
    }


def _annotated(text: str, entities: Sequence[Mapping[str, Any]]) -> str:
    """Write `[Jim](PER&Jim)` where an entity stands."""
    parts, at = [], 0
    for one in entities:
        parts.append(text[at : one["start_pos"]])
        parts.append(f"[{one['entity']}]({one['class_name']}&{quote_plus(one['entity'])})")
        at = one["end_pos"]
    return "".join([*parts, text[at:]])


# --- numbers and places ------------------------------------------------------------------------


def _odds_of_answers(logits: Rows, first: int, tokens: int) -> Rows:
    """Give how likely each token begins or ends the answer: none of the question does."""
    import numpy as np

    kept = np.full_like(logits, _IMPOSSIBLE)
    kept[0] = logits[0]  # which stands for no answer
    kept[first : tokens - 1] = logits[first : tokens - 1]
    odds = _softmax(kept)
    odds[0] = 0.0
    return odds


def _softmax(logits: Rows) -> Rows:
    """Give probabilities over the last axis."""
    import numpy as np

    weights = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    odds: Rows = weights / weights.sum(axis=-1, keepdims=True)
    return odds


def _classes(text: EncodedText, odds: list[tuple[str, float]], most: int) -> dict[str, Any]:
    best = sorted(odds, key=lambda one: -one[1])
    shown = best if most < 0 else best[:most]
    return {
        _settings(text).results_field: best[0][0],
        "top_classes": [_top_class(name, _number(chance)) for name, chance in shown],
        "prediction_probability": _number(best[0][1]),
    }


def _top_class(name: str, chance: float) -> dict[str, Any]:
    return {"class_name": name, "class_probability": chance, "class_score": chance}


def _tensor(numbers: Rows, rank: int, name: str) -> Rows:
    """Take away axes of one. Raises `InternalError` for a tensor of another rank."""
    found = numbers
    while found.ndim > rank and found.shape[0] == 1:
        found = found[0]
    if found.ndim != rank:
        raise InternalError(f"{name} result has the shape {list(numbers.shape)}, which it cannot")
    return found


def _number(value: float) -> float:
    return float(value)


def _word(token: str) -> str:
    """Give a token without what marks its place in a word."""
    for prefix in _PREFIXES:
        if token.startswith(prefix):
            return token.removeprefix(prefix)
    return token


def _positions(text: str, start: int, end: int) -> dict[str, int]:
    return {"start_pos": _utf16(text, start), "end_pos": _utf16(text, end)}


def _utf16(text: str, place: int) -> int:
    """Count UTF-16 code units up to a character, as the wire counts."""
    return place + sum(one > "\uffff" for one in text[:place])


def _settings(text: EncodedText) -> Any:
    assert text.settings is not None
    return text.settings
