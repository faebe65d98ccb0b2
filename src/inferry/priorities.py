"""Threads that leave the processor to others."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

LOW = 10
"""On the scale of `nice`: about a tenth of a core is left where others want all of it.

With nothing left, whoever waits for what such a thread holds would wait for those others.
"""


def give_way() -> None:
    """Let the kernel stop this thread, and those that it starts, for any other; for good.

    Where it does not, they compete as others do.
    """
    if sys.platform == "linux":  # elsewhere a priority is that of the whole process
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, LOW)
