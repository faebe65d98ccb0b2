"""A graph compiled twice: for batches that take all cores, and for many that take one core each.

Threads that share a batch wait for each other after every operation, the longer the more other
processes hold them up; batches side by side do not. Each has packed weights of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inferry.modeling import Network, RuntimeOptions


@dataclass(frozen=True, slots=True)
class Networks:
    """Both; the same one where an allocation has one thread."""

    narrow: Network
    wide: Network

    def of(self, *, is_wide: bool) -> Network:
        """Give the one for a batch."""
        return self.wide if is_wide else self.narrow


def compile_networks(
    compiled: Callable[[RuntimeOptions], Network], options: RuntimeOptions
) -> Networks:
    """Compile for one thread, and for those of an allocation."""
    narrow = compiled(options.narrow)
    return Networks(narrow, compiled(options) if options.threads > 1 else narrow)
