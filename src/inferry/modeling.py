"""A local model between those who load it and those who run it.

`models/` makes a `TextModel` of a folder with the help of a `Runtime` of `engine/runtimes/`;
`engine/` queues, batches and runs it, in a worker process. Neither knows the other.
"""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec

from inferry.domain import InputType, TaskType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows: TypeAlias = NDArray[np.float32]
    """float32[texts, width], C-contiguous: one row per text, in the order of the batch."""

    Ids: TypeAlias = NDArray[np.int32]
    """int32[texts, tokens]: token ids, or 1 and 0 for what counts and what does not."""

Precision: TypeAlias = Literal["f32", "bf16", "int8"]
Truncation: TypeAlias = Literal["first", "second", "balanced"]
"""Which text of a pair that is too long is cut: the query, the document, or both alike."""

Answer: TypeAlias = "bytes | memoryview"
"""What one text gives, by the task of the model: `text_embedding` float32[width];
`sparse_embedding` a msgpack map of tokens to positive weights, the largest first; `rerank` one
float64; without a task of endpoints a msgpack map, the members of an answer of `_infer`. Numbers
are little-endian; weights and scores are the shortest that mean their float32."""

MODEL_TYPES: Mapping[TaskType, str] = MappingProxyType(
    {
        TaskType.TEXT_EMBEDDING: "text_embedding",
        TaskType.SPARSE_EMBEDDING: "text_expansion",
        TaskType.RERANK: "text_similarity",
    }
)
"""What models that do a task are called in their `inference_config`, for the tasks that local
models do."""


_BREAKS = re.compile(r"[\s\\/]")
_MAX_LISTED_ID = 64


def listed_id(model_id: str) -> str:
    """Give the id under which a model is listed that nobody uploaded, as `eland` makes ids.

    One that has that form already stays as it is.
    """
    return _BREAKS.sub("__", model_id).lower()[-_MAX_LISTED_ID:].removeprefix("__")


def may_be_listed(beginning: str, listed: str) -> bool:
    """Tell whether a model whose id begins so may be listed under an id."""
    is_cut = len(listed) >= _MAX_LISTED_ID - len("__")  # and nobody knows where it began
    return is_cut or listed.startswith(listed_id(beginning))


GRAPHS_DIRECTORY = "graphs"
"""Where, in the data directory, workers keep what they made of models."""

METADATA_FILE = "metadata.json"
"""What the model of a folder is for whose weights are a TorchScript module."""


CONVERSION = 3
"""Which version of the conversion of modules this is. Raise it with every change that makes better
graphs: what an earlier one made is made anew then. `tests/numeric/test_conversion.py` tells of such
changes."""


@dataclass(frozen=True, slots=True)
class ModuleFiles:
    """A TorchScript module and its vocabulary: the SHA-256 of each, by which its file is named."""

    module: str
    vocabulary: str

    @property
    def module_file(self) -> str:
        """Name the file of the module."""
        return f"{self.module}.pt"

    @property
    def vocabulary_file(self) -> str:
        """Name the file of the vocabulary."""
        return f"{self.vocabulary}.json"

    @property
    def checksums(self) -> dict[str, str]:
        """Give the SHA-256 of both files by name."""
        return {self.module_file: self.module, self.vocabulary_file: self.vocabulary}

    def prepared_in(self, cache_dir: Path) -> Path:
        """Give the folder of what this version makes of the module, there once it is whole."""
        return self._prepared_by(CONVERSION, cache_dir)

    def found_in(self, cache_dir: Path) -> Path | None:
        """Give what this version made of the module, else the last one that did, if one did."""
        versions = range(CONVERSION, 0, -1)
        folders = (self._prepared_by(version, cache_dir) for version in versions)
        return next((one for one in folders if one.is_dir()), None)

    def _prepared_by(self, version: int, cache_dir: Path) -> Path:
        name = f"module-{self.module[:32]}-{self.vocabulary[:16]}"
        return cache_dir / (name if version == 1 else f"{name}-{version}")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model folder on this machine. Nothing outside of it is read.

    name: as messages call it. within: where links of the folder may lead (a cache keeps the files
    of all revisions in one place), None for the folder alone.
    task_type: what it shall do, None for whatever its files say.
    dimensions: a Matryoshka width, None for the whole vector.
    prompts: what stands before texts, by the names of `prompts` in the model's own configuration
    (`query`, `document`, ...), which they replace; None leaves the model's own.
    truncation: of pairs, None leaves the model's own.
    checksums: SHA-256 that files must have, by their path in the folder.
    module: where the folder has a TorchScript module, None for other layouts.
    is_program: it can do what a program can, as TorchScript does, and not only hold numbers.
    """

    name: str
    folder: Path
    within: Path | None = None
    task_type: TaskType | None = None
    dimensions: int | None = None
    prompts: Mapping[str, str] | None = None
    truncation: Truncation | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    module: ModuleFiles | None = None
    is_program: bool = False


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Bytes of a download that are here, and those of all files that are known to be needed.

    ahead: other downloads that go before it; then nothing of it is known yet.
    """

    done: int
    total: int
    ahead: int = 0

    def __str__(self) -> str:
        if self.ahead:
            return f"waiting for {self.ahead} other downloads"
        return f"{self.done // 1_000_000} of {-(-self.total // 1_000_000)} MB"


def cache_of_folder(directory: Path, folder: Path) -> Path:
    """Name the place below `directory` for what workers keep of the model of a folder."""
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    return directory / digest[:32]


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How a model is compiled: for `streams` batches at once, with `threads` threads each.

    gives_way: these threads compute only when no others of the server want to.

    cache_dir: where is kept what the next start need not find out again, None for nowhere.
    """

    threads: int = 1
    streams: int = 1
    precision: Precision | Literal["auto"] = "auto"
    cache_dir: Path | None = None
    gives_way: bool = False

    @property
    def narrow(self) -> RuntimeOptions:
        """The same cores, for batches of one thread each that give way to wide ones."""
        return replace(self, threads=1, streams=self.threads * self.streams, gives_way=True)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a graph is computed. has_exact_sums: its sums are kept at f32 all the same."""

    precision: Precision
    has_exact_sums: bool = False

    def __str__(self) -> str:
        return f"{self.precision} with sums at f32" if self.has_exact_sums else self.precision


@dataclass(frozen=True, slots=True)
class Protection:
    """How far a worker is held to its own model. missing: what is not, and why; empty if all is."""

    missing: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether a model that is a program may run."""
        return not self.missing

    def __str__(self) -> str:
        return f"not whole: {self.missing}" if self.missing else "whole"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tokenized text, or a pair of texts.

    ids: with special tokens, at most `max_tokens`. tokens: what the whole text had, so that the
    text was cut when it is more than `len(ids)`; of a text that is far longer than the model takes
    only the beginning is counted. skipped: leading tokens that are not pooled.
    types: the token type of each id of a pair, none for a single text. is_looked_up: no network
    runs, each token has a weight in a table.
    """

    ids: Sequence[int]
    tokens: int
    skipped: int = 0
    types: Sequence[int] = ()
    is_looked_up: bool = False

    @property
    def is_truncated(self) -> bool:
        """Whether the end of the text does not reach the model."""
        return self.tokens > len(self.ids)


@dataclass(frozen=True, slots=True)
class ShapeLadder:
    """The few tensor shapes that a model is run with; each new one costs time and memory.

    rows, lengths: ascending steps; a batch is padded to the next step of each, and is of no use
    above the last ones. budget: padded tokens from which on a larger batch gains nothing.
    wide_budget: up to which several texts gain nothing by being parted among cores. most_padding:
    to the longest of a batch; with more, two batches are faster.
    """

    rows: Sequence[int]
    lengths: Sequence[int]
    budget: int = 1024
    wide_budget: int = 128
    most_padding: int = 32

    def pad(self, rows: int, longest: int) -> tuple[int, int]:
        """Give the shape in which `rows` texts run, the longest of which has `longest` tokens."""
        return _step(self.rows, rows), _step(self.lengths, longest)

    def tokens(self, rows: int, longest: int) -> int:
        """Give what such a batch costs: its padded tokens."""
        padded_rows, length = self.pad(rows, longest)
        return padded_rows * length

    def is_wide(self, rows: int, longest: int) -> bool:
        """Tell whether such a batch may run on all cores of an allocation at once."""
        return rows == 1 or self.tokens(rows, longest) <= self.wide_budget


class Network(Protocol):
    """A compiled graph. It blocks; it may be called from several threads at once."""

    def run(self, ids: Ids, mask: Ids, marks: Ids | None) -> Rows:
        """Give a row per text.

        marks: what else the graph asks of each token: whether it counts in the head, where not all
        do, or its type in a pair.
        """


class Runtime(Protocol):
    """What compiles graphs and runs them on a device."""

    def fastest(self) -> Precision:
        """Give the fastest arithmetic of this device that keeps the meaning of vectors."""

    def compile(self, graph: Any, options: RuntimeOptions, precision: Precision) -> Network:
        """Compile a graph of this runtime. Raises `UnusableModel`."""


class TextModel(Protocol):
    """A loaded model. It blocks; all of it may be called from several threads at once."""

    @property
    def task_type(self) -> TaskType | None:
        """What endpoints it runs, None of a model that only `_infer` knows."""

    @property
    def probe(self) -> tuple[str, str | None]:
        """A text that it can run at any time, and what that is paired with, if with anything."""

    @property
    def dimensions(self) -> int | None:
        """Width of a dense vector, None of a model that gives none."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that reach the model, special tokens included."""

    @property
    def similarity(self) -> str | None:
        """What the model says its vectors are compared with, in words of the wire, if it does."""

    @property
    def arithmetic(self) -> Arithmetic:
        """How its graph is computed."""

    @property
    def cosine(self) -> float | None:
        """Least cosine of a reduced precision to f32 on the probe texts, None at f32."""

    @property
    def ladder(self) -> ShapeLadder:
        """The shapes it runs in, by which a batch's cost is counted."""

    def encode(
        self,
        texts: Sequence[str],
        input_type: InputType,
        query: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> list[Encoded]:
        """Put the prompt of `input_type` before each text, tokenize, and cut at `max_tokens`.

        query: what each text is paired with; a model that reranks needs one. config: the inference
        config of this request, whole; None for the model's own. Raises `BadRequest` for texts and
        settings that it cannot take.
        """

    def run(self, batch: Sequence[Encoded], *, is_wide: bool = False) -> Sequence[Answer]:
        """Pad, run and finish the texts of `batch`, at least one; one answer for each.

        is_wide: on all threads of an allocation, not on one. The answers do not depend on what else
        is in the batch, but for rounding.
        """

    def warm(self, stop: Event) -> None:
        """Run wide shapes of single texts and small batches once, until done or `stop` is set.

        What is made for a shape belongs to the thread that ran it, so each one that runs wide
        batches calls it. The engine does so while nothing else waits, and stops it when something
        comes; called again it goes on where it stopped, and returns at once when all is done.
        """


class LoadModel(Protocol):
    """Makes a model of a folder."""

    def __call__(self, source: ModelSource, options: RuntimeOptions) -> TextModel:
        """Read, compile and verify. Raises `UnusableModel`, which says what is wrong and where."""


PrepareModel: TypeAlias = Callable[[ModelSource, RuntimeOptions], None]
"""Makes of a TorchScript module what a `LoadModel` reads, once, and keeps it in `cache_dir`. That
takes PyTorch, and the memory of several models. Raises `UnusableModel`."""


class ModelLibrary(Protocol):
    """Turns the model ids of the wire into folders; in the supervisor, which downloads."""

    def find(self, model_id: str) -> ModelSource | None:
        """Give what is on this machine, without network; None where it has to be fetched first.

        Raises `NotFound` with the command that provides a built-in model, and `IllegalArgument`
        for an id under which there can be nothing.
        """

    def check_task(self, source: ModelSource) -> TaskType | None:
        """Give what the files of a folder say that it does, for `source.task_type` if it can.

        None of a module for a task that no endpoint runs. Raises `UnusableModel` where it cannot
        do that, or its configuration cannot be read.
        """

    def task_promised(self, model_id: str) -> TaskType | None:
        """Tell what a model that is not here does, as far as its id says it. Raises as `find`."""

    def fetch(self, model_id: str, report: Callable[[Progress], None], stop: Event) -> ModelSource:
        """Download what `find` does not have; blocks until it is whole and checked, or `stop`.

        report: told how far it is. Raises as `find`, `UnusableModel`, and
        `UpstreamUnreachable` without a way to the hub.
        """


def _step(steps: Sequence[int], wanted: int) -> int:
    place = bisect_left(steps, wanted)
    return steps[place] if place < len(steps) else wanted
