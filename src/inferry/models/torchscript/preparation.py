"""Makes of a TorchScript module what is loaded: a graph that needs no PyTorch, if it is equal.

    CACHE/module-.../verdict.json    how the module is run
    CACHE/module-.../graph.xml, .bin the converted graph

The folder appears when it is whole; what an earlier version made is deleted then. This runs in a
worker of its own, which ends then: it takes PyTorch, and the weights several times.
"""

from __future__ import annotations

import os
import shutil
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from inferry.errors import InferenceError, UnusableModel
from inferry.modeling import ModelSource, ModuleFiles, Network, Runtime, RuntimeOptions
from inferry.models.folder import ModelFolder
from inferry.models.probes import PROBES
from inferry.models.text_model import pad
from inferry.models.torchscript.archive import check_archive
from inferry.models.torchscript.encoding import Encoder
from inferry.models.torchscript.metadata import read_purpose
from inferry.models.torchscript.vocabulary import build_tokenizer, read_vocabulary
from inferry.telemetry import get_logger

if TYPE_CHECKING:
    from inferry.modeling import Rows

GRAPH_FILE, VERDICT_FILE = "graph.xml", "verdict.json"
_NO_ROW = "index out of range"  # as PyTorch says it of tables
_CLOSE = 1e-4  # of f32, for numbers up to 1; for larger ones in proportion


class Verdict(msgspec.Struct, frozen=True):
    """How a module is run. reason: why not as a graph. difference: of the graph to the module.

    is_batchable: rows do not depend on padding and on the rest of their batch. shape: of what it
    gives for one text, without the batch; tokens: how many that text had. longest: tokens that it
    takes, where those are fewer than its configuration says. known: tokens of the vocabulary that
    it knows, the first ones, where those are not all.
    """

    runtime: Literal["openvino", "torchscript"]
    is_batchable: bool
    shape: tuple[int, ...]
    tokens: int
    longest: int | None = None
    known: int | None = None
    reason: str | None = None
    difference: float | None = None


def read_verdict(folder: Path) -> Verdict:
    """Read what `prepare_module` found out. Raises `UnusableModel` when it is not there."""
    try:
        return msgspec.json.decode((folder / VERDICT_FILE).read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError) as error:
        raise UnusableModel(f"[{folder}] cannot be read: {error}; it can be deleted") from error


@dataclass(frozen=True, slots=True)
class _Trial:
    """Texts to compare with, as token ids; each has one.

    padding_id: what fills them up. tokens: how many the vocabulary has.
    """

    texts: Sequence[Sequence[int]]
    padding_id: int
    tokens: int

    def cut(self, tokens: int) -> _Trial:
        """Give the beginnings of the texts."""
        return replace(self, texts=[text[:tokens] for text in self.texts])

    def run(self, network: Network) -> list[Rows]:
        """Run each text alone."""
        return [self._run(network, [text]) for text in self.texts]

    def known(self, network: Network) -> int | None:
        """Tell how many of the tokens a module has a row for, None for all of them."""

        def has_no_row(token: int) -> bool:
            try:
                self._run(network, [[token]])
            except RuntimeError as error:
                return _NO_ROW in str(error)
            return False

        if not has_no_row(self.tokens - 1):
            return None
        return bisect_left(range(self.tokens), 1, key=has_no_row)

    def is_batchable(self, network: Network, alone: Sequence[Rows]) -> bool:
        """Tell whether texts of different length give together what they give `alone`."""
        chosen = sorted(range(len(self.texts)), key=lambda one: len(self.texts[one]))[:3]
        if any(rows.ndim < 2 or rows.shape[0] != 1 for rows in alone):
            return False
        try:
            together = self._run(network, [self.texts[one] for one in chosen])
        except RuntimeError:
            return False
        if together.shape[0] != len(chosen):
            return False
        return all(
            _difference(_unpadded(row, alone[one][0]), alone[one][0]) <= _CLOSE
            for row, one in zip(together, chosen, strict=True)
        )

    def _run(self, network: Network, texts: Sequence[Sequence[int]]) -> Rows:
        shape = len(texts), max(map(len, texts))
        return network.run(*pad(texts, shape, self.padding_id), None)


def prepare_module(
    source: ModelSource, options: RuntimeOptions, *, torchscript: Runtime, openvino: Runtime
) -> None:
    """Convert a module, compare the graph with it, and keep what came out.

    Raises `UnusableModel`.
    """
    files = source.module
    assert files is not None
    assert options.cache_dir is not None
    folder = ModelFolder(source)
    folder.check_digests()
    module = folder.file(files.module_file)
    check_archive(module, lambda problem: folder.unusable(files.module_file, problem))
    network = torchscript.compile(module, options, "f32")
    trial, longest = _fitting(_trial(folder, files), network, folder)
    expected = trial.run(network)
    target = files.prepared_in(options.cache_dir)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        unfinished.mkdir(mode=0o700, parents=True)
        verdict = Verdict(
            "torchscript",
            is_batchable=trial.is_batchable(network, expected),
            shape=expected[0].shape[1:],
            tokens=len(trial.texts[0]),
            longest=longest,
            known=trial.known(network),
        )
        graph = _Graph(module, unfinished / GRAPH_FILE, openvino)
        verdict = graph.try_out(verdict, trial, expected)
        (unfinished / VERDICT_FILE).write_bytes(msgspec.json.encode(verdict))
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for former in options.cache_dir.glob("module-*"):  # of earlier versions, or of a crash
        if former != target:
            shutil.rmtree(former, ignore_errors=True)
    get_logger().info("module prepared", model_id=source.name, **msgspec.structs.asdict(verdict))


@dataclass(frozen=True, slots=True)
class _Graph:
    """What a module may become. path: where its graph is kept."""

    module: Path
    path: Path
    runtime: Runtime

    def try_out(self, verdict: Verdict, trial: _Trial, expected: Sequence[Rows]) -> Verdict:
        """Convert and compare; give the verdict for the graph, or the one with the reason why not.

        expected: of the texts of the trial, as the module has them.
        """
        from inferry.models.graphs.torchscript import convert_module, save_converted

        try:
            graph = convert_module(self.module)
            network = self.runtime.compile(graph, RuntimeOptions(), "f32")
            found = trial.run(network)
        except (InferenceError, RuntimeError) as error:
            return msgspec.structs.replace(verdict, reason=_reason(error))
        difference = max(map(_difference, found, expected))
        if not difference <= _CLOSE:  # not so for NaN either
            reason = f"the graph differs from the module by [{difference:.2g}]"
            return msgspec.structs.replace(verdict, reason=reason)
        if verdict.is_batchable and not trial.is_batchable(network, found):
            return msgspec.structs.replace(verdict, reason="the graph differs within a batch")
        save_converted(graph, self.path)
        return msgspec.structs.replace(verdict, runtime="openvino", difference=difference)


def _trial(folder: ModelFolder, files: ModuleFiles) -> _Trial:
    """Tokenize the probes, cut where the model does not cut."""
    purpose = read_purpose(folder)
    vocabulary = read_vocabulary(folder, files.vocabulary_file)
    rules = msgspec.structs.replace(purpose.settings.tokens, truncate="first", span=-1)
    settings = msgspec.structs.replace(purpose.settings, tokenization={purpose.kind: rules})
    encoder = Encoder(build_tokenizer(purpose.kind, vocabulary, rules), purpose.kind)
    texts = [encoder.encode(text, settings).ids for text in PROBES]
    return _Trial([one for one in texts if one], encoder.padding_id, len(vocabulary.vocabulary))


def _fitting(trial: _Trial, network: Network, folder: ModelFolder) -> tuple[_Trial, int | None]:
    """Cut the texts to what the module takes, and tell how long that is if it is not all.

    A module may know fewer positions than its configuration says. What is made of it would not
    fail there, but give wrong numbers. Raises `UnusableModel` for one that takes no text.
    """

    def why_not(tokens: int) -> str | None:
        try:
            trial.cut(tokens).run(network)
        except RuntimeError as error:
            return _reason(error)
        return None

    most = max(map(len, trial.texts))
    if why_not(most) is None:
        return trial, None
    if problem := why_not(1):
        raise folder.unusable("", f"its module fails on a text: {problem}")
    longest = bisect_left(range(1, most), 1, key=lambda tokens: why_not(tokens) is not None)
    get_logger().warning("a module takes shorter texts than it says", tokens=longest)
    return trial.cut(longest), longest


def _unpadded(row: Rows, like: Rows) -> Rows:
    """Leave out what a longer neighbour added."""
    return row[: len(like)] if row.ndim > 1 else row


def _difference(found: Rows, expected: Rows) -> float:
    """Give the largest difference, of numbers above 1 in proportion to the largest."""
    import numpy as np

    if found.shape != expected.shape:
        return float("inf")
    largest = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    return float(np.max(np.abs(found - expected), initial=0.0)) / largest


def _reason(error: BaseException) -> str:
    """Give the last line, in which the libraries say what it is."""
    return str(error).strip().rpartition("\n")[2][:300]
