"""The mark that secrets of the suites bear, looked for in all that a server says and leaves.

Every answer that a suite reads, and the log and all files of every server that it stops, go through
this search, whatever the test is about.
"""

from __future__ import annotations

import base64
from pathlib import Path

MARK = "marker0x7f3a9c5e"


def traces_of(marker: str) -> list[bytes]:
    """Give what shows where `marker` is: itself, or within base64, wherever it begins."""
    encoded = [base64.b64encode(bytes(before) + marker.encode()) for before in range(3)]
    return [marker.encode(), *(text[4:-4] for text in encoded)]


_TRACES = traces_of(MARK)


def check_clean(written: bytes, where: object) -> None:
    """Check that something has no trace of the mark."""
    assert not any(trace in written for trace in _TRACES), f"a secret shows in {where}"


def check_left(log: Path, data_dir: Path) -> None:
    """Check the log of a server, and every file of its data, the database and its WAL too."""
    for file in (log, *data_dir.rglob("*")):
        if file.is_file():
            check_clean(file.read_bytes(), file)
