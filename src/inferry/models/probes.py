"""Texts by which a reduced precision is held against f32, and the f32 rows kept for them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from inferry.models.folder import ModelFolder

if TYPE_CHECKING:
    from inferry.modeling import Rows

PROBES = (
    "a",
    "What is the capital of France?",
    "42 % of 1,024 = 430.08",
    "def area(radius: float) -> float: return math.pi * radius ** 2",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "La inteligencia artificial transforma la búsqueda de información en las empresas.",
    "В лесу родилась ёлочка, в лесу она росла.",  # noqa: RUF001  a text in another script
    "機械学習モデルは文章をベクトルに変換します。",
    "تحويل النصوص إلى متجهات يسهل البحث الدلالي.",
    "मशीन लर्निंग का उपयोग खोज को बेहतर बनाने के लिए किया जाता है।",
    "Breaking news 🚀🔥: stocks rally after the central bank holds rates steady 📈",
    "The patient was given 5 mg of the drug twice a day; after two weeks the symptoms had eased, "
    "and the follow-up showed no side effects.",
    "Returns are accepted within thirty days of delivery, provided that the goods are unused and "
    "in their original packaging. Refunds go to the means of payment that paid for the order, "
    "as a rule within five working days after the parcel has reached our warehouse. Shipping costs "
    "are refunded only where the goods were faulty or not what had been ordered.",
    " ".join(
        f"Section {number}: the committee discussed item {number * 7} of the agenda and agreed to "
        "come back to it once the figures of the last quarter have been confirmed."
        for number in range(1, 40)
    ),
)


ROWS_FILE = f"f32_rows_{hashlib.sha256(repr(PROBES).encode()).hexdigest()[:16]}.npy"
"""Beside a graph in 8-bit integers: the rows of the probes at f32, float32[probes, width]. Named by
the probes, so that those of others are not taken for them."""


def rows_beside(folder: ModelFolder, path: str, width: int) -> Rows | None:
    """Read the rows that a folder brings, cut to `width`; None where it has none.

    Raises `UnusableModel` for something else.
    """
    import numpy as np

    if not folder.has(path):
        return None
    try:  # mapped, so that a header that lies costs no memory
        rows = np.load(folder.file(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise folder.unusable(path, f"cannot be read: {error}") from error
    is_table = rows.ndim == 2 and rows.dtype == np.float32 and len(rows) == len(PROBES)
    if not is_table or rows.shape[1] < width:
        raise folder.unusable(path, f"is no float32 of [{len(PROBES)}] rows of [{width}]")
    return np.array(rows[:, :width])


def least_cosine(rows: Rows, reference: Rows) -> float:
    """Give the cosine of the two rows that differ most.

    Scores, which are rows of one number, are no vectors: that of all of them together.
    """
    import numpy as np

    if rows.shape[1] == 1:
        rows, reference = rows.T, reference.T
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    return float(np.min(np.sum(rows * reference, axis=1, dtype=np.float64) / lengths))


class KeptRows:
    """The f32 rows of the probes, in a file per state of a model folder."""

    def __init__(self, cache_dir: Path | None, fingerprint: str) -> None:
        name = hashlib.sha256(repr((fingerprint, PROBES)).encode()).hexdigest()
        self._file = cache_dir / f"{name}.npy" if cache_dir else None

    def get(self, width: int, compute: Callable[[], Rows]) -> Rows:
        """Read float32[probes, width], or compute and keep them.

        A folder that cannot be written costs the next start a computation, no more.
        """
        import numpy as np

        if self._file is None:
            return compute()
        with suppress(OSError, ValueError, EOFError):
            kept: Rows = np.load(self._file, allow_pickle=False)
            if kept.shape[1:] == (width,) and kept.dtype == np.float32:
                return kept
        rows = compute()
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            written = self._file.with_suffix(f".{os.getpid()}.npy")
            np.save(written, rows)
            written.replace(self._file)
        return rows
