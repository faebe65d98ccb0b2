"""How close the answers of one arithmetic are to those of another, for the person who decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from inferry.modeling import Rows


@dataclass(frozen=True, slots=True)
class VectorCloseness:
    """Cosines of the vectors of the same texts. probes: the least on the probe texts."""

    texts: int
    least: float
    mean: float
    probes: float

    def __str__(self) -> str:
        return (
            f"cosine to f32: least {self.least:.4f}, mean {self.mean:.4f} on {self.texts} texts"
            f" that it was not made from; least {self.probes:.4f} on the probe texts"
        )


@dataclass(frozen=True, slots=True)
class ScoreCloseness:
    """Scores of the same pairs.

    difference: the largest. spread: from the least score at f32 to the largest. rank_correlation:
    Spearman's. probes: the cosine of the scores of the probe texts.
    """

    texts: int
    difference: float
    spread: float
    rank_correlation: float
    probes: float

    def __str__(self) -> str:
        return (
            f"scores beside f32: largest difference {self.difference:.4f} in a range of"
            f" {self.spread:.4f}, rank correlation {self.rank_correlation:.4f} on {self.texts}"
            f" pairs that it was not made from; cosine {self.probes:.4f} on the probe texts"
        )


Closeness: TypeAlias = VectorCloseness | ScoreCloseness


def closeness_of(rows: Rows, reference: Rows, probes: float) -> Closeness:
    """Compare rows with those at f32, float32[texts, width]; rows of one number are scores."""
    import numpy as np

    if rows.shape[1] == 1:
        scores, expected = rows[:, 0], reference[:, 0]
        return ScoreCloseness(
            len(rows),
            float(np.abs(scores - expected).max()),
            float(np.ptp(expected)),
            float(np.corrcoef(_ranks(scores), _ranks(expected))[0, 1]),
            probes,
        )
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    cosines = np.sum(rows * reference, axis=1, dtype=np.float64) / lengths
    return VectorCloseness(len(rows), float(cosines.min()), float(cosines.mean()), probes)


def _ranks(scores: Rows) -> NDArray[np.intp]:
    return scores.argsort().argsort()
