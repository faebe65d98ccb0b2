"""Uploaded models as model sources; `inferry.store.blobs` says what is in their folders."""

from __future__ import annotations

import re
from pathlib import Path

from inferry.errors import BadRequest, NotFound
from inferry.modeling import METADATA_FILE, ModelSource, ModuleFiles

_ID = re.compile(r"[a-z0-9](?:[a-z0-9_\-.]{0,62}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class UploadFolders:
    """The folders of uploaded models."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, model_id: str) -> ModelSource | None:
        """Give an uploaded model, None where there is none of this id.

        Raises `NotFound` and `BadRequest` for one that has not come in whole.
        """
        folder = self._directory / model_id
        if not _ID.fullmatch(model_id) or not (folder / METADATA_FILE).is_file():
            return None
        module, vocabulary = (_digest_in(folder, suffix) for suffix in (".pt", ".json"))
        if module is None and any((folder / "parts").glob("*")):
            raise BadRequest(
                "Model definition truncated. Unable to deserialize trained model definition"
                f" [{model_id}]"
            )
        if module is None:
            raise NotFound(f"Could not find trained model definition [{model_id}]")
        if vocabulary is None:
            raise NotFound(f"Could not find vocabulary document for trained model [{model_id}]")
        return _source(model_id, folder, ModuleFiles(module, vocabulary))


def package_source(model_id: str, folder: Path) -> ModelSource | None:
    """Give the model of a package that was downloaded, None where its files are not there."""
    module, vocabulary = (_digest_in(folder, suffix) for suffix in (".pt", ".json"))
    if module is None or vocabulary is None:
        return None
    return _source(model_id, folder, ModuleFiles(module, vocabulary))


def _source(model_id: str, folder: Path, files: ModuleFiles) -> ModelSource:
    return ModelSource(model_id, folder, checksums=files.checksums, module=files, is_program=True)


def _digest_in(folder: Path, suffix: str) -> str | None:
    """Give the digest that names the file of a kind."""
    found = (one.stem for one in folder.glob(f"*{suffix}") if _DIGEST.fullmatch(one.stem))
    return next(found, None)
