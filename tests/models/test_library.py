"""What is found and what is downloaded, with whose leave."""

from __future__ import annotations

import threading

import pytest

from inferry.domain import TaskType
from inferry.errors import IllegalArgument, NotFound, UpstreamUnreachable
from inferry.modeling import ModelSource, Progress
from tests.models.libraries import COMMIT, E5, VENDOR, source_of


def test_what_was_downloaded_is_found(open_with, downloaded):
    library = open_with()

    assert source_of(library, "org/tiny") == ModelSource("org/tiny", downloaded)
    assert source_of(library, f"org/tiny@{COMMIT}").folder == downloaded


def test_what_is_not_here_has_to_be_downloaded(open_with):
    assert open_with().find("org/tiny") is None
    assert open_with().find(E5) is None


def test_without_a_way_to_the_hub_what_is_here_is_given_at_once(open_with, downloaded):
    reports: list[Progress] = []

    source = open_with().fetch("org/tiny", reports.append, threading.Event())

    assert source.folder == downloaded
    assert reports == []


def test_without_a_way_to_the_hub_a_download_fails_at_once(open_with):
    with pytest.raises(UpstreamUnreachable, match=r"hub \[http://127.0.0.1:1\] cannot be reached"):
        open_with().fetch("org/tiny", lambda _: None, threading.Event())


def test_a_download_reports_how_far_it_is(hub, repository, open_with):
    reports: list[Progress] = []

    source = open_with(hub_url=hub.url).fetch("org/tiny", reports.append, threading.Event())

    assert source.folder == open_with.data_dir / "models/hub/org--tiny" / COMMIT
    said = list(map(str, reports))
    assert said[-1] == "1 of 2 MB"
    assert len(said) == len(set(said))


@pytest.mark.parametrize("model_id", [VENDOR, f"{VENDOR}_linux-x86_64", ".rerank-v1"])
def test_a_model_of_the_vendor_is_not_found_with_the_command_that_provides_it(open_with, model_id):
    neutral = model_id.removesuffix("_linux-x86_64")

    for ask in (open_with().find, lambda one: open_with().fetch(one, print, threading.Event())):
        with pytest.raises(NotFound) as raised:
            ask(model_id)
        assert f"`inferry models pull {neutral} --from URL|PATH|HUB_ID`" in str(raised.value)


def test_with_never_nothing_is_downloaded(open_with, hub, repository):
    library = open_with(allow_download="never", hub_url=hub.url, aliases={"mine": "org/tiny"})

    with pytest.raises(NotFound, match=rf"`inferry models pull \{E5} --from PATH`"):
        library.find(E5)
    for model_id in ("org/tiny", "mine"):
        with pytest.raises(IllegalArgument, match=r"\[models.allow_download\] is \[never\]"):
            library.fetch(model_id, print, threading.Event())
    assert hub.asked == []


def test_with_builtin_only_what_the_operator_named_is_downloaded(open_with, hub, repository):
    library = open_with(allow_download="builtin", hub_url=hub.url, aliases={"mine": "org/tiny"})

    with pytest.raises(IllegalArgument, match="`inferry models pull org/tiny` provides it"):
        library.find("org/tiny")
    assert library.find(E5) is None
    assert library.fetch("mine", lambda _: None, threading.Event()).name == "mine"


def test_what_is_here_needs_no_permission(open_with, downloaded):
    assert source_of(open_with(allow_download="never"), "org/tiny").folder == downloaded


@pytest.mark.parametrize(
    ("model_id", "task_type"),
    [
        (VENDOR, TaskType.SPARSE_EMBEDDING),
        (f"{E5}_linux-x86_64", TaskType.TEXT_EMBEDDING),
        (".rerank-v1", TaskType.RERANK),
        ("org/tiny", None),
    ],
)
def test_a_built_in_id_says_what_its_model_does_unless_it_is_another(
    open_with, model_id, task_type
):
    aliased = dict.fromkeys((VENDOR, E5, ".rerank-v1"), "org/tiny")

    assert open_with().task_promised(model_id) == task_type
    assert open_with(aliases=aliased).task_promised(model_id) is None
