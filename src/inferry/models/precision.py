"""The arithmetic of a model: the fastest that is wanted and stays close to float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from inferry.modeling import Arithmetic, Precision
from inferry.models.probes import least_cosine
from inferry.telemetry import get_logger

if TYPE_CHECKING:
    from inferry.modeling import Rows

_LEAST_COSINE = 0.999  # below this the default tries what is more exact


F32 = Arithmetic("f32")
INT8 = Arithmetic("int8")


def kinds_of(wanted: Precision | Literal["auto"], fastest: Precision) -> tuple[Arithmetic, ...]:
    """Give what is tried in turn; the last is taken, however far it is from f32."""
    if wanted != "auto":
        return (Arithmetic(wanted),)
    if fastest != "bf16":
        return (F32,)
    return Arithmetic("bf16"), Arithmetic("bf16", has_exact_sums=True), F32


class Measured(Protocol):
    """A model that can be told how close it is."""

    cosine: float | None


Model = TypeVar("Model", bound=Measured)


def choose(
    kinds: Sequence[Arithmetic],
    compiled: Callable[[Arithmetic], tuple[Model, Rows]],
    reference: Callable[[], Rows | None],
) -> tuple[Model, Rows]:
    """Compile one kind after the other until one is close enough; give the model and its rows.

    compiled: also runs the probes. reference: gives the rows that they have at f32, None where
    nobody knows them, which can be so of a single kind.
    """
    expected = None if kinds[0] == F32 else reference()
    for kind in kinds[:-1]:
        assert expected is not None
        model, rows = compiled(kind)
        model.cosine = least_cosine(rows, expected)
        if model.cosine >= _LEAST_COSINE:  # not so for NaN either
            return model, rows
        get_logger().info("arithmetic is too rough", arithmetic=str(kind), cosine=model.cosine)
        del model
    model, rows = compiled(kinds[-1])
    if expected is not None and kinds[-1] != F32:
        model.cosine = least_cosine(rows, expected)
    return model, rows
