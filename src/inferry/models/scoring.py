"""What makes a score of a pair of texts: a classifier of one label, or of no and yes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from inferry.models.folder import ModelFolder
from inferry.models.layout import Layout

_DEFAULT_LABELS = {"0": "LABEL_0", "1": "LABEL_1"}


@dataclass(frozen=True, slots=True)
class ScoreHead:
    """One logit, or with two labels the second less the first."""

    labels: int

    @property
    def width(self) -> int:
        """A score is one number."""
        return 1

    @property
    def needs_first_only(self) -> bool:
        """Classifiers read the first token."""
        return True

    @property
    def includes_prompt(self) -> bool:
        """Nothing is pooled."""
        return True


class _Classifier(msgspec.Struct):
    id2label: dict[str, str] = msgspec.field(default_factory=lambda: dict(_DEFAULT_LABELS))


def read_score_head(folder: ModelFolder, layout: Layout) -> ScoreHead:
    """Read what the classifier gives. Raises `UnusableModel` for more than two labels."""
    if layout.rest:
        raise folder.unusable(
            "modules.json",
            f"has the module [{layout.rest[0].kind}] behind a classifier, which cannot be run",
        )
    path = layout.encoder.file("config.json")
    labels = len(folder.read_json(path, _Classifier).id2label)
    if labels not in (1, 2):
        raise folder.unusable(
            path, f"has [{labels}] labels: a model that reranks has one, or no and yes"
        )
    return ScoreHead(labels)
