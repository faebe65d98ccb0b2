"""The frame of a program that downloads a model, in a process of its own.

It reads an order as a line of JSON and writes `Progress` lines, then `Done` or `Failed`. It ends
when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from inferry.errors import InferenceError, error_to_wire
from inferry.modeling import Progress
from inferry.models.downloads import Done, Failed, Message

T = TypeVar("T")


def carry_out(
    order_type: type[T], download: Callable[[T, Callable[[Progress], None]], Path]
) -> None:
    """Carry out the order on standard input with `download`, which gives the folder."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=order_type)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _write(Done(str(download(order, _write))))
    except InferenceError as error:
        _write(Failed(error_to_wire(error)))


def _write(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_parent() -> None:
    while os.read(0, 1):  # not the buffered stream: it is locked while somebody reads
        continue
    os._exit(1)
