"""The ladder of shapes that batches are padded to, and which of them have run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, get_ident

from inferry.modeling import ShapeLadder

ROW_STEPS = (*range(1, 13), 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)


def length_steps(max_tokens: int) -> list[int]:
    """Give lengths at distances that grow with them: 2 up to 64 tokens, 8 from 128 to 1,024."""
    steps = [min(4, max_tokens)]
    while steps[-1] < max_tokens:
        finest = max(2, steps[-1] // 16)
        step = 1 << (min(finest, max(8, steps[-1] // 64)).bit_length() - 1)
        steps.append(min(steps[-1] + step, max_tokens))
    return steps


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
