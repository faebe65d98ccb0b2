"""Uploaded models as an API process shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from inferry.core.trained_models import model_not_found
from inferry.records import Change, Put, TrainedModelRecord

_ALL = ("", "*", "_all")


class TrainedModelCatalogue:
    """The uploaded models as they are now."""

    def __init__(self) -> None:
        self._models: dict[str, TrainedModelRecord] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over the uploaded models among `changes`."""
        for change in changes:
            if isinstance(change, Put):
                if isinstance(change.record, TrainedModelRecord):
                    self._models[change.record.model_id] = change.record
            elif change.kind == "trained_model":
                self._models.pop(change.key, None)

    def find(self, model_id: str) -> TrainedModelRecord | None:
        """Give a model."""
        return self._models.get(model_id)

    def select(
        self, expression: str, *, allow_no_match: bool = True, tags: Collection[str] = ()
    ) -> Sequence[TrainedModelRecord]:
        """Give the models that an expression means, by id.

        expression: ids and patterns with `*` between commas, `_all` or nothing for all. tags: that
        they must all have. Raises `NotFound` for an id that nobody has, and without
        `allow_no_match` for a pattern that fits none.
        """
        wanted: set[str] = set()
        for part in ["*"] if expression in _ALL else expression.split(","):
            found = [one for one in self._models if _fits(one, part)]
            if not found and (not allow_no_match or "*" not in part):
                raise model_not_found(expression)
            wanted.update(found)
        models = [self._models[model_id] for model_id in sorted(wanted)]
        return [one for one in models if set(tags) <= set(one.config.get("tags", ()))]


def _fits(model_id: str, pattern: str) -> bool:
    """Tell whether `pattern`, in which only `*` is special, means `model_id`."""
    return fnmatchcase(model_id, pattern.replace("[", "[[]").replace("?", "[?]"))
