"""A model that needs no runtime: a token per byte, and a row that tells which text it was."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inferry.domain import InputType, TaskType
from inferry.errors import IllegalArgument, UnusableModel
from inferry.modeling import Answer, Arithmetic, Encoded, ModelSource, RuntimeOptions, ShapeLadder

DIMENSIONS = 4
MAX_TOKENS = 64
LADDER = ShapeLadder(rows=(1, 2, 4, 8, 16, 32), lengths=(8, 16, 32, 64))


def row_of(text: str) -> list[float]:
    """Give the row of `text`: sums over its bytes, as far as they are read."""
    read = text.encode()[:MAX_TOKENS]
    return [
        float(sum(read)),
        float(len(read)),
        float(sum(place * byte for place, byte in enumerate(read))),
        1.0,
    ]


class FakeModel:
    """ran: the batches, as texts; wide: how many of them were.

    before_run: called by the thread that runs a batch. note: told whether a batch is wide, and the
    cores that it takes when it begins, and less than zero when it ends.
    """

    task_type: TaskType | None = TaskType.TEXT_EMBEDDING
    probe: tuple[str, str | None] = ("Is anybody there?", None)
    dimensions: int | None = DIMENSIONS
    max_tokens = MAX_TOKENS
    similarity: str | None = "cosine"
    arithmetic = Arithmetic("f32")
    cosine: float | None = None
    ladder = LADDER

    def __init__(
        self,
        before_run: Callable[[list[str]], None] = lambda _: None,
        note: Callable[[bool, int], None] = lambda *_: None,
    ) -> None:
        self.threads = 1
        self.ran: list[list[str]] = []
        self.wide = 0
        self.before_run = before_run
        self.note = note
        self.warming = threading.Event()
        self.warmings = 0

    def encode(
        self,
        texts: Sequence[str],
        input_type: InputType,
        query: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> list[Encoded]:
        if query is not None:
            raise IllegalArgument("this model takes no query")
        if "untokenizable" in texts:
            raise ValueError("a text that breaks the tokenizer")
        if self.probe[0] in texts:
            gc.collect()  # what nobody keeps is gone
        encoded = [text.encode() for text in texts]
        return [Encoded(list(one[:MAX_TOKENS]), len(one)) for one in encoded]

    def run(self, batch: Sequence[Encoded], *, is_wide: bool = False) -> list[Answer]:
        texts = [bytes(one.ids).decode() for one in batch]
        cores = self.threads if is_wide else 1
        self.note(is_wide, cores)
        self.before_run(texts)
        self.ran.append(texts)
        self.wide += is_wide
        rows: list[Answer] = [struct.pack("<4f", *row_of(text)) for text in texts]
        self.note(is_wide, -cores)
        return rows

    def warm(self, stop: threading.Event) -> None:
        self.warmings += 1
        self.warming.set()
        if self.warmings == 1:
            stop.wait(60)


def load(source: ModelSource, options: RuntimeOptions) -> FakeModel:
    """Load a model that does what texts and the files of its folder say.

    A folder with a file `broken` is refused; one with `deadly` kills whoever reads it, and with a
    pipe `slow` it is read once somebody has opened and closed that. The text
    `die` kills whoever runs it, once per file `lives` in the folder; a text `hold NAME` waits for
    somebody to write into the pipe of that name. With a file `journal` beside the folder, the cores
    that narrow and wide batches take and leave are written into it, and nothing else is done.
    """
    folder = source.folder
    if (folder / "broken").exists():
        raise UnusableModel(f"the model [{source.name}] is broken")
    if (folder / "deadly").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if (folder / "slow").exists():
        (folder / "slow").read_bytes()
    journal = folder.parent / "journal"
    if journal.exists():
        model = FakeModel(lambda _: _toil(), partial(_note, journal))
        model.threads = options.threads
        return model
    return FakeModel(lambda texts: _obey(texts, folder))


def prepare(source: ModelSource, options: RuntimeOptions) -> None:
    """Note in the folder that it was prepared; one with `broken` or `stubborn` is refused."""
    if (source.folder / "broken").exists() or (source.folder / "stubborn").exists():
        raise UnusableModel(f"the model [{source.name}] is broken")
    assert source.module is not None
    assert options.cache_dir is not None
    with (source.folder / "prepared").open("a") as journal:
        journal.write("once\n")
    source.module.prepared_in(options.cache_dir).mkdir()


def _toil() -> None:
    """Keep a core busy, without Python's lock."""
    hashlib.sha256(bytes(500_000))


def _note(journal: Path, is_wide: bool, cores: int) -> None:
    """Write down what a worker does, behind what all others have written."""
    with journal.open("a") as file:
        file.write(f"{'wide' if is_wide else 'narrow'} {cores}\n")


def _obey(texts: list[str], folder: Path) -> None:
    with (folder / "ran").open("a") as journal:
        journal.write(f"{len(texts)}\n")
    for text in texts:
        if text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "die once" and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "boom":
            raise ValueError("a text that breaks the model")
        if text == "eat":
            hoard = bytearray(os.urandom(1024)) * (256 * 1024)
            threading.Event().wait(len(hoard))
        if text.startswith("hold "):
            (folder / text.removeprefix("hold ")).read_bytes()
