"""Which models are meant, and which folders need not be looked into for them."""

from __future__ import annotations

import pytest

from inferry.modeling import listed_id
from inferry.models.wanted import EVERYTHING, Wanted, folders_in


def test_a_model_is_meant_by_the_id_that_it_is_listed_under():
    wanted = Wanted(("org__tiny", "mini*"))

    assert [one for one in ("Org/Tiny", "org/tiny@v1", "MiniLM", "lm") if wanted.has(one)] == [
        *("Org/Tiny", "MiniLM")
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("mine", "Org/Tiny", "org/tiny@v1.0", "or g/ti ny", " org/tiny"),
        *("o" * 70 + "/tiny", "org/" + "t" * 70, "o" * 31 + "/" + "t" * 31 + "@refs/pr/7"),
    ],
)
def test_what_is_meant_is_looked_for_where_its_name_begins(name):
    listed = listed_id(name)

    for pattern in (listed, f"{listed[:3]}*", f"*{listed[3:]}"):
        wanted = Wanted((pattern,))
        assert wanted.has(name)
        assert all(wanted.may_have(one) for one in (name, *name.split("/")[:1], name[:-1]))


def test_what_begins_otherwise_is_not_looked_into():
    wanted = Wanted(("org__tiny", "mine"))

    assert [
        one for one in ("org", "mi", "other", "tiny", "org/tinyer") if wanted.may_have(one)
    ] == [*("org", "mi")]
    assert EVERYTHING.may_have("other")


def test_the_folders_of_a_directory_are_named_in_order(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")

    assert folders_in(tmp_path) == ["a", "b", "c", "link"]
    assert folders_in(tmp_path / "nowhere") == []
