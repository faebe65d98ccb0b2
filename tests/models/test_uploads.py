"""Uploaded models as sources, whole or not."""

from __future__ import annotations

import pytest

from inferry.errors import BadRequest, NotFound
from inferry.models.uploads import UploadFolders
from tests.models.torchscript.uploads import write_upload


def test_a_whole_upload_is_found_with_its_checksums(tmp_path):
    written = write_upload(tmp_path / "m", b"module")

    found = UploadFolders(tmp_path).find("m")

    assert found is not None
    assert found.module == written.module
    assert found.checksums == written.checksums


@pytest.mark.parametrize("model_id", ["other", "../m", "/m", "", ".", "M"])
def test_what_is_not_there_is_none(tmp_path, model_id):
    write_upload(tmp_path / "m", b"module")

    assert UploadFolders(tmp_path).find(model_id) is None


def test_a_model_without_definition_parts_or_vocabulary_says_what_is_missing(tmp_path):
    source = write_upload(tmp_path / "m", b"module")
    folders = UploadFolders(tmp_path)
    assert source.module is not None

    (tmp_path / "m" / source.module.vocabulary_file).unlink()
    with pytest.raises(NotFound, match=r"Could not find vocabulary document .*\[m\]"):
        folders.find("m")
    (tmp_path / "m" / source.module.module_file).unlink()
    with pytest.raises(NotFound, match=r"Could not find trained model definition \[m\]"):
        folders.find("m")
    (tmp_path / "m" / "parts").mkdir()
    (tmp_path / "m" / "parts" / "00000-aa").touch()
    with pytest.raises(BadRequest, match=r"Model definition truncated\. Unable to deserialize"):
        folders.find("m")
