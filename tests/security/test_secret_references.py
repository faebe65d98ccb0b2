"""What a reference to a secret may reach."""

from __future__ import annotations

import os

import pytest

from inferry.errors import IllegalArgument
from inferry.security.secret_references import SecretReferences

RULE = (
    "[api_key] holds a reference that is not allowed: a secret that begins with [${] is a "
    "reference, either [${env:INFERRY_SECRET_<NAME>}] or [${file:<NAME>}] with a file below "
    "[secrets.path]"
)
ENVIRONMENT = {"INFERRY_SECRET_A": "value", "INFERRY_MASTER_KEY": "key", "HOME": "/root"}


@pytest.fixture
def folder(tmp_path):
    """Make a directory of secrets, and a file beside it."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "openai").write_text("sk-1\n")
    (tmp_path / "outside").write_text("outside")
    return folder


@pytest.fixture
def references(folder):
    return SecretReferences(ENVIRONMENT, path=folder, forbidden=(folder / "data",))


@pytest.mark.parametrize("value", ["", "sk-1", "$", "$x", "{env:X}", " ${env:X}", "a${env:X}"])
def test_what_does_not_begin_like_a_reference_stands_for_itself(references, value):
    assert references.resolve("api_key", value) == value


def test_a_variable_with_the_prefix_is_resolved(references):
    assert references.resolve("api_key", "${env:INFERRY_SECRET_A}") == "value"


@pytest.mark.parametrize(
    "value",
    [
        "${env:INFERRY_MASTER_KEY}",
        "${env:HOME}",
        "${env:INFERRY_SECRET_}",
        "${env:INFERRY_SECRET_A",
        "${env:INFERRY_SECRET_A}x",
        "${env:INFERRY_SECRET_A}${env:HOME}",
        "${env:inferry_secret_a}",
        "${ENV:INFERRY_SECRET_A}",
        "${INFERRY_SECRET_A}",
        "${}",
        "${",
        "${vault:x}",
        "${file:}",
        "${file:/etc/passwd}",
        "${file:a//b}",
        "${file:a\x00b}",
        "${file:a\n}",
        "${file:a b}",
        "${file:~/x}",
    ],
)
def test_any_other_reference_is_refused_with_the_rule(references, value):
    with pytest.raises(IllegalArgument) as refused:
        references.check("api_key", value)

    assert str(refused.value) == RULE


def test_a_variable_that_is_not_set_is_named(references):
    references.check("api_key", "${env:INFERRY_SECRET_B}")

    with pytest.raises(IllegalArgument, match=r"\[api_key\] refers .* \[INFERRY_SECRET_B\]"):
        references.resolve("api_key", "${env:INFERRY_SECRET_B}")


def test_a_file_below_the_directory_is_read_without_its_line_end(references, folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "json").write_text('{"a": 1}\r\n')

    assert references.resolve("api_key", "${file:openai}") == "sk-1"
    assert references.resolve("api_key", "${file:deep/json}") == '{"a": 1}'


def test_without_a_directory_files_are_refused():
    with pytest.raises(IllegalArgument, match=r"\[secrets.path\] is not set"):
        SecretReferences({}).check("api_key", "${file:openai}")


@pytest.mark.parametrize("name", ["../outside", "deep/../../outside", "..", ".", "./openai"])
def test_a_file_name_cannot_climb(references, name):
    with pytest.raises(IllegalArgument, match=r"\[\.\] and \[\.\.\] are not allowed"):
        references.check("api_key", f"${{file:{name}}}")


def test_a_symbolic_link_cannot_lead_out(references, folder):
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "up").symlink_to(folder.parent)

    for name in ("link", "up/outside"):
        with pytest.raises(IllegalArgument, match=r"leads out of \[secrets.path\]"):
            references.resolve("api_key", f"${{file:{name}}}")


def test_a_symbolic_link_inside_is_followed_as_in_mounted_volumes(references, folder):
    (folder / "..2026").mkdir()
    (folder / "..2026" / "token").write_text("t")
    (folder / "..data").symlink_to("..2026")
    (folder / "token").symlink_to("..data/token")

    assert references.resolve("api_key", "${file:token}") == "t"


def test_the_data_directory_is_never_read(references, folder):
    (folder / "data").mkdir()
    (folder / "data" / "master.key").write_text("key")

    with pytest.raises(IllegalArgument, match=r"leads out of \[secrets.path\]"):
        references.resolve("api_key", "${file:data/master.key}")


def test_a_file_that_cannot_be_read_is_named_and_its_content_is_not(references, folder):
    (folder / "binary").write_bytes(b"\xff\xfe")
    (folder / "empty").write_text("\n")
    (folder / "loop").symlink_to("loop")
    (folder / "large").write_text("marker" * 20_000)
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()

    for name in ("missing", "binary", "empty", "loop", "large", "pipe", "folder"):
        with pytest.raises(IllegalArgument, match=rf"\[{name}\]") as refused:
            references.resolve("api_key", f"${{file:{name}}}")
        assert "marker" not in str(refused.value)
