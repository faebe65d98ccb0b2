"""Folders below `models.path`: ids that are paths."""

from __future__ import annotations

import pytest

from inferry.errors import IllegalArgument
from inferry.modeling import ModelSource
from tests.models.libraries import source_of


def test_a_path_resolves_below_the_directory_of_models(open_with, tmp_path, repository_folder):
    library = open_with(path=str(tmp_path))
    expected = ModelSource("repository", repository_folder, within=tmp_path)

    assert source_of(library, "repository") == expected
    assert source_of(library, "./repository").folder == repository_folder
    assert source_of(library, str(repository_folder)).folder == repository_folder


@pytest.mark.parametrize(
    "model_id", ["/etc", "../..", "./../../etc", "{top}/../repository", "link"]
)
def test_a_path_that_leads_elsewhere_is_refused(open_with, tmp_path, repository_folder, model_id):
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(repository_folder)

    with pytest.raises(IllegalArgument, match=r"leads out of \[models.path\]"):
        open_with(path=str(top)).find(model_id.format(top=top))


def test_a_path_to_nothing_is_refused(open_with, tmp_path):
    with pytest.raises(IllegalArgument, match=r"no folder \[./gone\] below \[models.path\]"):
        open_with(path=str(tmp_path)).find("./gone")


@pytest.mark.parametrize("model_id", ["/etc", "./mine"])
def test_without_a_directory_of_models_there_are_no_paths(open_with, model_id):
    with pytest.raises(
        IllegalArgument, match=r"\[models.path\], below which paths resolve, is not"
    ):
        open_with().find(model_id)
