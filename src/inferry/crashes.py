"""What a process of ours leaves behind when it crashes: frames of the code, and no value.

Secrets and inputs are in its memory, so no core dump is written and nobody of the same user may
read that memory or attach a debugger; and messages of foreign errors may quote what they choked on.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import threading
from types import TracebackType

from inferry.telemetry import format_error

_PR_SET_DUMPABLE = 4


def leave_no_values() -> None:
    """Forbid dumps of this process, and leave values out of what it says when it crashes.

    Call it first of all. Raises `OSError` when the system refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # The limit alone does not stop a dump that goes to a program (core(5), "Piping").
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) was refused")
    sys.excepthook = _tell
    threading.excepthook = _tell_of_thread
    sys.unraisablehook = _tell_of_finalizer


def _tell(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    sys.stderr.write(f"process {os.getpid()} crashed\n{format_error((kind, error, frames))}\n")


def _tell_of_thread(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not isinstance(crash.exc_value, SystemExit):
        _tell(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _tell_of_finalizer(crash: sys.UnraisableHookArgs) -> None:
    if crash.exc_value is not None:
        _tell(crash.exc_type, crash.exc_value, crash.exc_traceback)
