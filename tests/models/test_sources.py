"""Where a model comes from, as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.errors import IllegalArgument
from inferry.models.built_in import BUILT_IN, without_platform
from inferry.models.sources import Folder, HubId, Package, parse_hub_id, parse_source

HUB = "https://hub.example.org"
COMMIT = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("intfloat/e5", HubId("intfloat/e5")),
        ("intfloat/multilingual-e5-small@v1.0", HubId("intfloat/multilingual-e5-small", "v1.0")),
        ("a/b@refs/pr/7", HubId("a/b", "refs/pr/7")),
        (f"a_1/b.c-d@{COMMIT}", HubId("a_1/b.c-d", COMMIT)),
        (f"{HUB}/intfloat/e5", HubId("intfloat/e5")),
        (f"{HUB}/intfloat/e5/", HubId("intfloat/e5")),
        (f"{HUB}/intfloat/e5/tree/v1.0", HubId("intfloat/e5", "v1.0")),
        ("/srv/models/e5", Folder(Path("/srv/models/e5"))),
    ],
)
def test_a_source_is_a_hub_id_a_page_of_the_hub_or_a_folder(text, expected):
    assert parse_source(text, hub_url=HUB, model_id=".m") == expected


def test_a_folder_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")

    assert parse_source("~/models/e5", hub_url=HUB, model_id="m") == Folder(
        Path("/home/somebody/models/e5")
    )


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "name",
            "a/b/c",
            "a//b",
            "a/../b/",
            "a/b@",
            "a/b@../../etc",
            "a/..",
            "../a",
            "./a",
        ),
        *(
            "a/b--c",
            "a/b..c",
            "a\\b/c",
            "a/b\0",
            "a/b c",
            "-a/b",
            "a/b-",
            "a/b.",
            "a/b.git",
            "ä/b",
            "a/" + "b" * 96,
        ),
    ],
)
def test_anything_else_is_refused_with_what_would_be_right(text):
    with pytest.raises(IllegalArgument, match=r"hub id .* or an absolute folder, got "):
        parse_source(text, hub_url=HUB, model_id=".m")


@pytest.mark.parametrize(
    ("text", "repository", "name"),
    [
        ("https://mirror.example.org/models/", "https://mirror.example.org/models", "m"),
        ("http://[::1]:8080", "http://[::1]:8080", "m"),
        ("file:///srv/packages", "file:///srv/packages", "m"),
        ("https://a.org/x/elser_model_2.metadata.json", "https://a.org/x", "elser_model_2"),
    ],
)
def test_any_other_url_is_a_package_repository(text, repository, name):
    found = parse_source(text, hub_url=HUB, model_id=".m")

    assert found == Package(repository, name)
    assert parse_source(str(found), hub_url=HUB, model_id="another") == found


@pytest.mark.parametrize(
    "text",
    [
        *("s3://a/b", "file://host/srv", "http:///x", "http://[::1", "://x"),
        *("https://user:marker@a.org/m", "https://marker@a.org/m", "https://a.org/m?key=marker"),
        *("https://a.org/m#marker", "https://a.org/M.metadata.json", "file:///../.metadata.json"),
    ],
)
def test_a_url_that_is_none_of_a_repository_is_refused_and_not_repeated(text):
    with pytest.raises(IllegalArgument) as refused:
        parse_source(text, hub_url=HUB, model_id=".m")

    assert "marker" not in str(refused.value)


def test_a_repository_of_this_machine_is_a_folder():
    package = parse_source("file:///srv/my%20models", hub_url=HUB, model_id=".m")

    assert isinstance(package, Package)
    assert package.is_local
    assert package.folder == Path("/srv/my models")


def test_only_a_whole_commit_never_changes():
    assert HubId("a/b", COMMIT).is_commit
    assert not HubId("a/b", COMMIT[:8]).is_commit
    assert not HubId("a/b").is_commit


@pytest.mark.parametrize("text", ["a/b", "a/b@v1", f"a/b@{COMMIT}"])
def test_a_hub_id_is_written_as_it_is_read(text):
    assert str(parse_hub_id(text)) == text


def test_built_in_ids_of_a_platform_are_those_of_any():
    assert without_platform(".multilingual-e5-small_linux-x86_64") == ".multilingual-e5-small"
    assert without_platform(".elser_model_2") == ".elser_model_2"
    assert without_platform("mine_linux-x86_64") == "mine_linux-x86_64"


def test_the_demo_model_is_pinned():
    demo = BUILT_IN[".all-minilm-l6-v2"]

    assert demo.hub_id is not None
    assert demo.hub_id.is_commit
    assert set(demo.checksums) == {"model.safetensors", "tokenizer.json"}
