"""What is seen of a process that crashes."""

from __future__ import annotations

import subprocess
import sys

import pytest

MARKER = "marker-secret-77ab01"
PROGRAM = """
import faulthandler, resource, sys, threading
from inferry.crashes import leave_no_values
from inferry.errors import InternalError
leave_no_values()
faulthandler.enable()
secret = sys.argv[1]

class Finalized:
    def __del__(self):
        raise ValueError(secret)

def crash(secret):
    {crash}

crash(secret)
"""


def run(crash: str) -> subprocess.CompletedProcess[str]:
    """Run a program that crashes with a secret in its hands."""
    program = PROGRAM.replace("{crash}", crash)
    return subprocess.run(
        [sys.executable, "-c", program, MARKER], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "crash",
    [
        "raise ValueError(secret)",
        "raise RuntimeError('outer') from ValueError(secret)",
        "{}[secret]",
        "thread = threading.Thread(target=crash_in_thread, args=(secret,)); thread.start()",
        "Finalized()",
        "faulthandler._sigsegv()",
        "faulthandler._fatal_error_c_thread()",
        "faulthandler.dump_traceback()",
    ],
)
def test_frames_are_told_and_no_value_is(crash):
    thread = "def crash_in_thread(secret):\n        raise ValueError(secret)\n    "
    ended = run((thread if "crash_in_thread" in crash else "") + crash)

    assert MARKER not in ended.stdout + ended.stderr
    assert "crash" in ended.stderr


def test_the_message_of_an_error_of_ours_is_told():
    assert "this may be read" in run("raise InternalError('this may be read')").stderr


def test_no_dump_is_written_whoever_would_take_it():
    shown = run(
        "print(resource.getrlimit(resource.RLIMIT_CORE), "
        "__import__('ctypes').CDLL(None).prctl(3, 0, 0, 0, 0))"
    )

    expected = "0" if sys.platform == "linux" else "-1"
    assert shown.stdout.split(") ") == ["(0, 0", f"{expected}\n"]
