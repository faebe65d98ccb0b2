"""The file of model ids that commands added."""

from __future__ import annotations

import pytest

from inferry.errors import StoreFailure
from inferry.models.aliases import AliasFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "models/aliases.json"


def test_without_a_file_there_are_none(path):
    assert AliasFile(path).read() == {}


def test_another_process_sees_what_was_put(path):
    AliasFile(path).put("mine", "/srv/models/mine")
    AliasFile(path).put("yours", "a/b")
    AliasFile(path).put("mine", "a/c@v2")

    assert AliasFile(path).read() == {"mine": "a/c@v2", "yours": "a/b"}


def test_what_is_removed_is_gone_and_the_rest_stays(path):
    AliasFile(path).put("mine", "a/b")
    AliasFile(path).put("yours", "a/c")

    assert AliasFile(path).remove("mine")
    assert not AliasFile(path).remove("mine")
    assert AliasFile(path).read() == {"yours": "a/c"}


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": 1}', b"\xff"])
def test_a_damaged_file_is_named_and_never_written_over(path, content):
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(StoreFailure, match=r"cannot read \[.*aliases.json\]"):
        AliasFile(path).read()
    with pytest.raises(StoreFailure, match="cannot read"):
        AliasFile(path).put("mine", "a/b")
    assert path.read_bytes() == content


def test_a_directory_that_cannot_be_written_is_named(path):
    path.parent.write_text("a file stands where the directory should be")

    with pytest.raises(StoreFailure, match=r"cannot write \[.*aliases.json\]"):
        AliasFile(path).put("mine", "a/b")


def test_the_directory_is_its_owners_alone(path):
    AliasFile(path).put("mine", "a/b")

    assert path.parent.stat().st_mode & 0o777 == 0o700
