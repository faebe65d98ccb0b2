"""The files of uploaded models.

    INCOMING/RANDOM                 what a process has received and nobody has taken over yet
    UPLOADS/MODEL_ID/parts/00017-SHA256   a part of a definition that is not whole yet
    UPLOADS/MODEL_ID/SHA256.pt      the definition: a TorchScript module
    UPLOADS/MODEL_ID/SHA256.json    the vocabulary
    UPLOADS/MODEL_ID/metadata.json  the configuration

A file appears under its name when it is whole and on disk, so that a crash leaves what can be told
from its name, or what the next start sweeps away.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from inferry.commands import StagedFile
from inferry.config import Config
from inferry.domain import Json
from inferry.errors import AlreadyExists, InvalidRequest, StoreFailure
from inferry.modeling import GRAPHS_DIRECTORY, METADATA_FILE, cache_of_folder
from inferry.records import Announced, StoredFile

_PARTS = "parts"
_UNFINISHED = ".part"
_CHUNK_BYTES = 1024 * 1024


class Incoming:
    """Where processes put what they receive. It blocks: use it in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def stage(self, content: bytes | memoryview) -> StagedFile:
        """Write `content` to disk. Raises `StoreFailure`, and then nothing of it remains."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / secrets.token_hex(16)
        with _writing(path), path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return StagedFile(path.name, hashlib.sha256(content).hexdigest(), len(content))

    def discard(self, staged: StagedFile) -> None:
        """Remove what nobody took over."""
        self.path(staged).unlink(missing_ok=True)

    def path(self, staged: StagedFile) -> Path:
        """Give the place of a file."""
        return self._directory / Path(staged.name).name

    def sweep(self) -> None:
        """Remove what processes left that are gone."""
        shutil.rmtree(self._directory, ignore_errors=True)


class Uploads:
    """The folders of uploaded models, in the supervisor; see `protocols.ModelFiles`.

    graphs: where workers keep what they made of models, so that it goes with them: nothing that a
    module left there is read for another one of its id.
    """

    def __init__(self, directory: Path, incoming: Incoming, graphs: Path) -> None:
        self._directory = directory
        self._incoming = incoming
        self._graphs = graphs

    def folder(self, model_id: str) -> Path:
        """Give the folder of a model, which need not be there."""
        return self._directory / model_id

    def create(self, model_id: str, metadata: Mapping[str, Json]) -> None:
        """Make the folder of a model, empty but for its configuration."""
        folder = self.folder(model_id)
        with _explained(folder):
            shutil.rmtree(folder, ignore_errors=True)
            (folder / _PARTS).mkdir(mode=0o700, parents=True)
            unfinished = folder / f"{METADATA_FILE}{_UNFINISHED}"
            with _writing(unfinished), unfinished.open("xb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(metadata)))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(folder / METADATA_FILE)
            _sync_folder(folder)

    def remove(self, model_id: str) -> None:
        """Delete a model with everything that was received of it, and made of it."""
        folder = self.folder(model_id)
        shutil.rmtree(cache_of_folder(self._graphs, folder), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)

    def take_part(
        self,
        model_id: str,
        part: int,
        staged: StagedFile,
        announced: Announced,
        *,
        is_first: bool,
    ) -> StoredFile | None:
        """Take over a part; give the definition when it was the last one that was missing.

        is_first: no other is known of; what is there a crash left, and it is deleted. The same part
        once more changes nothing. Raises `AlreadyExists` for another part of this number,
        `InvalidRequest` for the last one where all together are not as long as announced, and
        `StoreFailure`; the parts are as they were before then.
        """
        parts = self.folder(model_id) / _PARTS
        if is_first:
            self._clear(model_id)
        present = _parts_in(parts)
        name = _name_of(part, staged.sha256)
        if part in present and present[part].name != name:
            raise AlreadyExists(
                f"Trained machine learning model chunked doc [{model_id}][{part}] already exists"
            )
        _check_length(present, part, staged, announced)
        path = present.setdefault(part, parts / name)
        with _explained(path):
            self._incoming.path(staged).replace(path)
            _sync_folder(parts)
        if len(present) < announced.total_parts:
            return None
        return self._join(model_id, [present[number] for number in sorted(present)])

    def drop_parts(self, model_id: str) -> None:
        """Delete the parts, which are one file by now."""
        shutil.rmtree(self.folder(model_id) / _PARTS, ignore_errors=True)

    def take_vocabulary(self, model_id: str, staged: StagedFile) -> StoredFile:
        """Take over the vocabulary."""
        folder = self.folder(model_id)
        with _explained(folder):
            self._incoming.path(staged).replace(folder / f"{staged.sha256}.json")
            _sync_folder(folder)
        return StoredFile(staged.sha256, staged.size_bytes)

    def _clear(self, model_id: str) -> None:
        """Delete parts and definition."""
        folder = self.folder(model_id)
        with _explained(folder):
            for left in (*folder.glob(f"{_PARTS}/*"), *folder.glob("*.pt")):
                left.unlink()

    def _join(self, model_id: str, parts: Iterable[Path]) -> StoredFile:
        folder = self.folder(model_id)
        unfinished = folder / f"definition{_UNFINISHED}"
        digest, size_bytes = hashlib.sha256(), 0
        with _writing(unfinished), unfinished.open("wb") as file:
            for part in parts:
                for chunk in _chunks_of(part):
                    digest.update(chunk)
                    size_bytes += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        whole = StoredFile(digest.hexdigest(), size_bytes)
        unfinished.replace(folder / f"{whole.sha256}.pt")
        _sync_folder(folder)
        return whole

    def sweep(self, known: Collection[str]) -> None:
        """Remove what a crash left behind: all that is of no model in `known`."""
        self._incoming.sweep()
        with suppress(FileNotFoundError):
            for folder in self._directory.iterdir():
                if folder.name not in known:
                    self.remove(folder.name)
                for unfinished in folder.glob(f"*{_UNFINISHED}"):
                    unfinished.unlink(missing_ok=True)


def incoming_of(config: Config) -> Incoming:
    """Give the place where the processes of this host put what they receive."""
    return Incoming(config.data_dir / "models" / "incoming")


def uploads_of(config: Config) -> Uploads:
    """Give the uploaded models of this host."""
    models, graphs = config.data_dir / "models", config.data_dir / GRAPHS_DIRECTORY
    return Uploads(models / "uploads", incoming_of(config), graphs)


def _name_of(part: int, sha256: str) -> str:
    return f"{part:05}-{sha256}"


def _check_length(
    present: Mapping[int, Path], part: int, staged: StagedFile, announced: Announced
) -> None:
    """Refuse the part that completes a definition of another length than was announced."""
    others = [path for number, path in present.items() if number != part]
    total = sum(one.stat().st_size for one in others) + staged.size_bytes
    if len(others) + 1 == announced.total_parts and total != announced.total_definition_length:
        raise InvalidRequest(
            f"[total_definition_length] is [{announced.total_definition_length}], but all"
            f" [{announced.total_parts}] model definition parts have [{total}] bytes together"
        )


def _parts_in(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    return {int(one.name.partition("-")[0]): one for one in folder.iterdir()}


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Remove the file that is being written when that fails. Raises `StoreFailure`."""
    try:
        with _explained(path):
            yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreFailure(f"cannot write [{path.name}] of an uploaded model: {reason}") from error


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
