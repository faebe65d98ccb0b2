"""Folders of downloads, and the cache that huggingface_hub itself fills."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from inferry.models.hub_folders import (
    HubFolders,
    cache_of_snapshot,
    find_in_shared_cache,
    shared_cache,
)
from inferry.models.sources import HubId

TINY = HubId("org/tiny")
COMMIT, OTHER = "c0ffee" * 6 + "c0ff", "beef" * 10


@pytest.fixture
def folders(directory) -> HubFolders:
    return HubFolders(directory)


def test_a_folder_is_there_once_it_is_finished(folders):
    unfinished = folders.begin(TINY, COMMIT)
    (unfinished / "config.json").write_text("{}")

    before = folders.find(TINY), folders.find(HubId("org/tiny", COMMIT))
    folder = folders.finish(TINY, COMMIT)

    assert before == (None, None)
    assert (folder / "config.json").read_text() == "{}"
    assert folders.find(TINY) == folders.find(HubId("org/tiny", COMMIT)) == folder
    assert folders.find(HubId("org/tiny", "v1")) is None


def test_a_revision_may_have_a_name_like_a_path(folders):
    pull_request = HubId("org/tiny", "refs/pr/7")
    folders.begin(pull_request, COMMIT)

    folder = folders.finish(pull_request, COMMIT)

    assert folders.revisions() == {pull_request: folder}


def test_a_download_of_another_commit_that_nobody_ended_is_cleared_away(folders):
    abandoned = folders.begin(TINY, OTHER)
    done = folders.begin(TINY, COMMIT)

    assert not abandoned.exists()
    assert done.is_dir()


def test_every_revision_is_listed_once(folders):
    for hub_id, commit in ((TINY, COMMIT), (HubId("org/tiny", OTHER), OTHER)):
        folders.begin(hub_id, commit)
        folders.finish(hub_id, commit)
    folders.begin(HubId("org/other"), COMMIT)

    listed = folders.revisions()

    assert {str(hub_id): folder.name for hub_id, folder in listed.items()} == {
        "org/tiny": COMMIT,
        f"org/tiny@{OTHER}": OTHER,
    }


def test_what_is_removed_is_gone_with_all_revisions(folders):
    folders.begin(TINY, COMMIT)
    folders.finish(TINY, COMMIT)

    assert folders.remove(TINY)
    assert not folders.remove(TINY)
    assert folders.revisions() == {}


@pytest.fixture
def cache(hub, repository, tmp_path):
    """Have huggingface_hub download the repository into a cache of its own."""
    cache = tmp_path / "cache"
    huggingface_hub.snapshot_download("org/tiny", endpoint=hub.url, token=False, cache_dir=cache)
    huggingface_hub.close_session()
    return cache


def test_a_snapshot_that_huggingface_hub_downloaded_is_found(cache):
    found = find_in_shared_cache(cache, TINY)

    assert found is not None
    assert (found / "model.safetensors").resolve().is_relative_to(cache)
    assert find_in_shared_cache(cache, HubId("org/tiny", found.name)) == found
    assert cache_of_snapshot(found) == cache


def test_what_is_not_in_the_cache_is_not_found(cache):
    assert find_in_shared_cache(cache, HubId("org/other")) is None
    assert find_in_shared_cache(cache, HubId("org/tiny", "v1")) is None
    assert find_in_shared_cache(cache / "nowhere", TINY) is None


@pytest.mark.parametrize("path", ["1_Pooling/config.json", "model.safetensors", "config.json"])
@pytest.mark.parametrize("has_listing", [True, False])
def test_a_snapshot_that_lacks_something_is_not_used(cache, path, has_listing):
    (cache / "models--org--tiny/snapshots" / COMMIT / path).unlink()
    if not has_listing:
        (cache / "models--org--tiny/trees" / f"{COMMIT}.json").unlink()

    assert find_in_shared_cache(cache, TINY) is None


def test_a_snapshot_of_which_nobody_asked_for_the_modules_is_not_used(hub, repository, tmp_path):
    for path in ("config.json", "tokenizer.json", "model.safetensors"):
        huggingface_hub.hf_hub_download(
            "org/tiny", path, endpoint=hub.url, token=False, cache_dir=tmp_path
        )
    huggingface_hub.close_session()

    assert find_in_shared_cache(tmp_path, TINY) is None


def test_a_snapshot_without_modules_counts_when_its_listing_has_none(hub, repository, tmp_path):
    del repository.files["modules.json"]
    huggingface_hub.snapshot_download("org/tiny", endpoint=hub.url, token=False, cache_dir=tmp_path)
    huggingface_hub.close_session()

    assert find_in_shared_cache(tmp_path, TINY) is not None


def test_a_snapshot_whose_files_lead_out_of_the_cache_is_not_used(cache, tmp_path):
    pooling = cache / "models--org--tiny/snapshots" / COMMIT / "modules.json"
    (tmp_path / "elsewhere.json").write_bytes(pooling.read_bytes())
    pooling.unlink()
    pooling.symlink_to(tmp_path / "elsewhere.json")

    assert find_in_shared_cache(cache, TINY) is None


def test_a_plain_folder_is_no_snapshot(tmp_path):
    assert cache_of_snapshot(tmp_path / "models/mine") is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/home/me"}, "/home/me/.cache/huggingface/hub"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HOME": "/home/me", "HF_HOME": "/hf"}, "/hf/hub"),
        ({"HOME": "/home/me", "HF_HOME": "/hf", "HF_HUB_CACHE": "/cache"}, "/cache"),
    ],
)
def test_the_shared_cache_is_where_its_own_variables_put_it(environment, expected):
    assert shared_cache(environment) == Path(expected)
