"""Threads that compute only when no others want to."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def give_way() -> None:
    """Let the kernel stop this thread, and those that it starts, for any other; for good.

    Where it does not, they compete as others do.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
