"""A graph compiled twice: for batches that take all cores, and for many that take one core each.

Threads that share a batch wait for each other after every operation, the longer the more other
processes hold them up; batches side by side do not. Each has packed weights of its own, and runs
while the other one is stopped in the middle of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inferry.modeling import Network, RuntimeOptions


@dataclass(frozen=True, slots=True)
class Networks:
    """Both."""

    narrow: Network
    wide: Network

    def of(self, *, is_wide: bool) -> Network:
        """Give the one for a batch."""
        return self.wide if is_wide else self.narrow


def compile_networks(
    compiled: Callable[[RuntimeOptions], Network], options: RuntimeOptions
) -> Networks:
    """Compile for one thread, and for those of an allocation, unless all is to give way."""
    narrow = compiled(options.narrow)
    return Networks(narrow, narrow if options.gives_way else compiled(options))
