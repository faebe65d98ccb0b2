"""The ladder of shapes that batches are padded to, and which of them have run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, get_ident

from inferry.modeling import ShapeLadder

ROW_STEPS = (*range(1, 13), 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)

_UNIT = 16
"""The numbers of a register. A token costs up to a tenth more in texts that are no multiple of it
long, so that shortly before a multiple nothing is gained by padding to less."""
_BETWEEN = ((32, (2, 4, 6, 8, 10, 12)), (64, (4, 8)), (128, (4,)))
"""By how much a step may be above a multiple, for steps below each of these."""
_FINENESS = 64


def length_steps(max_tokens: int) -> list[int]:
    """Give lengths whose distances grow with them: 2 to 4 up to 32 tokens, 16 from 128 on.

    Above 2,048 they are at distances of up to a `_FINENESS`th.
    """
    return [*filter(_is_step, range(4, max_tokens)), max_tokens]


def _is_step(length: int) -> bool:
    coarsest = 1 << (length // _FINENESS).bit_length() >> 1
    above = length % max(_UNIT, coarsest)
    between = next((few for end, few in _BETWEEN if length < end), ())
    return above == 0 or above in between


def shapes_to_warm(ladder: ShapeLadder) -> list[tuple[int, int]]:
    """List the shapes of single texts and of small batches, large ones first.

    What the runtime keeps for each shape is bounded, so that the shapes of queries come last.
    """
    shapes = [(rows, length) for rows in ladder.rows for length in ladder.lengths]
    small = [one for one in shapes if ladder.is_wide(*one) and ladder.tokens(*one) <= ladder.budget]
    return sorted(small, key=lambda shape: ladder.tokens(*shape), reverse=True)


class Warming:
    """Which shapes each thread has run."""

    def __init__(self, ladder: ShapeLadder) -> None:
        self._ladder = ladder
        self._left: dict[int, Iterator[tuple[int, int]]] = {}

    def run(self, run: Callable[[int, int], object], stop: Event) -> None:
        """Have `run` run what has not run yet, until `stop` is set."""
        thread = get_ident()
        if thread not in self._left:
            self._left[thread] = iter(shapes_to_warm(self._ladder))
        while not stop.is_set() and (shape := next(self._left[thread], None)) is not None:
            run(*shape)
