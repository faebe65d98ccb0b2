"""What is downloaded from a hub on loopback, by the real huggingface_hub, in this process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from inferry.errors import (
    BadRequest,
    NotFound,
    StoreFailure,
    UnreadableReply,
    UnusableModel,
    UpstreamError,
    UpstreamUnreachable,
)
from inferry.modeling import Progress
from inferry.models.downloads import HubOrder, Site
from inferry.models.gated_transport import open_site
from inferry.models.hub import download
from inferry.models.hub_folders import HubFolders
from inferry.models.sources import HubId

TINY = HubId("org/tiny")
LARGE_BYTES = 1_000_000


@dataclass
class Asking:
    """A download to be made."""

    order: HubOrder
    reports: list[Progress] = field(default_factory=list)

    def fetch(self, hub_id: HubId = TINY, checksums: Mapping[str, str] | None = None) -> Path:
        order = replace(self.order, hub_id=hub_id, name=str(hub_id), checksums=checksums or {})
        return download(order, self.reports.append)


@pytest.fixture
def asking(hub, directory, library_client) -> Callable[..., Asking]:
    def ask(**changes: Any) -> Asking:
        access = replace(Site(hub.url, allow_private_networks=True), **changes)
        return Asking(HubOrder(access, TINY, str(directory), "org/tiny", {}))

    return ask


def paths_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_what_the_model_needs_is_downloaded_and_nothing_else(repository, asking):
    folder = asking().fetch()

    assert {path: (folder / path).read_bytes() for path in paths_in(folder)} == {
        path: repository.files[path]
        for path in (
            *("config.json", "modules.json", "tokenizer.json", "model.safetensors"),
            "1_Pooling/config.json",
        )
    }


def test_progress_counts_the_bytes_of_all_files(hub, repository, asking):
    one = asking()

    folder = one.fetch()

    whole = sum((folder / path).stat().st_size for path in paths_in(folder))
    assert one.reports[-1] == Progress(whole, whole)
    assert str(one.reports[-1]) == "1 of 2 MB"
    assert len({report.done for report in one.reports}) > 3


def test_a_connection_that_breaks_goes_on_where_it_broke(hub, repository, asking):
    hub.cut_after = [600_000]

    folder = asking().fetch()

    assert (folder / "model.safetensors").read_bytes() == repository.files["model.safetensors"]
    assert hub.got() == ["model.safetensors", "model.safetensors bytes=524288-"]


def test_the_beginning_of_a_file_from_another_day_is_not_downloaded_again(
    hub, repository, asking, directory
):
    content = repository.files["model.safetensors"]
    top = HubFolders(directory).begin(TINY, repository.commit)
    (top / "model.safetensors.part").write_bytes(content[:400_000])

    folder = asking().fetch()

    assert (folder / "model.safetensors").read_bytes() == content
    assert hub.got() == ["model.safetensors bytes=400000-"]


def test_a_beginning_that_is_longer_than_the_file_is_thrown_away(
    hub, repository, asking, directory
):
    top = HubFolders(directory).begin(TINY, repository.commit)
    (top / "model.safetensors.part").write_bytes(bytes(LARGE_BYTES + 1))

    folder = asking().fetch()

    content = repository.files["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == content


def test_a_damaged_beginning_is_found_and_the_next_attempt_begins_anew(
    hub, repository, asking, directory
):
    top = HubFolders(directory).begin(TINY, repository.commit)
    (top / "model.safetensors.part").write_bytes(bytes(400_000))

    with pytest.raises(UnusableModel, match=r"\[model.safetensors\] has another checksum"):
        asking().fetch()
    folder = asking().fetch()

    content = repository.files["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == content


def test_a_file_with_another_checksum_than_announced_is_refused(hub, repository, asking, directory):
    hub.wrong_etag = True

    with pytest.raises(UnusableModel, match=r"\[model.safetensors\] has another checksum"):
        asking().fetch()

    assert HubFolders(directory).find(TINY) is None


def test_a_file_with_another_checksum_than_pinned_is_refused_and_downloaded_anew(
    hub, repository, asking, directory
):
    for _ in range(2):
        hub.asked.clear()
        with pytest.raises(UnusableModel, match=r"\[model.safetensors\] has the SHA-256"):
            asking().fetch(checksums={"model.safetensors": "0" * 64})
        assert hub.got() == ["model.safetensors"]

    assert HubFolders(directory).find(TINY) is None


def test_a_listed_file_that_the_hub_does_not_have_is_named(hub, repository, asking):
    del repository.files["tokenizer.json"]
    repository.listed = ("tokenizer.json",)

    with pytest.raises(UnusableModel, match=r"lists a file that it has not: \[.*tokenizer.json\]"):
        asking().fetch()


def test_a_repository_without_a_needed_file_is_refused_before_its_weights_come(
    hub, repository, asking
):
    del repository.files["tokenizer.json"]

    with pytest.raises(UnusableModel, match=r"\[org/tiny\].*\[tokenizer.json\] is missing"):
        asking().fetch()

    assert hub.got() == []


def test_a_repository_of_pickles_is_refused_and_none_is_downloaded(hub, repository, asking):
    del repository.files["model.safetensors"]

    with pytest.raises(UnusableModel, match=r"\[pytorch_model.bin\] is a pickle"):
        asking().fetch()

    assert hub.got() == []


def test_paths_that_lead_out_of_the_folder_are_never_written(hub, repository, asking, tmp_path):
    repository.files |= {"../config.json": b"{}", "/tmp/config.json": b"{}", "a\\config.json": b""}
    repository.files["modules.json"] = repository.files["modules.json"].replace(
        b"1_Pooling", b"../evil"
    )

    with pytest.raises(UnusableModel, match=r"\[\.\./evil/config.json\] is missing"):
        asking().fetch()

    assert not list(tmp_path.rglob("evil"))


def test_large_files_come_from_where_the_hub_leads_without_its_token(hub, repository, asking):
    hub.token = "hf_marker"

    asking(token="hf_marker").fetch()

    sent = {(one.at, one.headers.get("authorization")) for one in hub.asked}
    assert sent == {("hub", "Bearer hf_marker"), ("storage", None)}


def test_redirects_that_never_end_are_not_followed(hub, repository, asking):
    commit = repository.commit
    hub.location = f"{hub.url}/org/tiny/resolve/{commit}/model.safetensors"

    with pytest.raises(UpstreamUnreachable) as raised:
        asking().fetch()

    assert "redirects" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, r"shows it only to those with a token: set \[models.hub_token\]"),
        ("hf_marker", r"does not let the token \[models.hub_token\] read"),
    ],
)
def test_a_hub_that_asks_for_a_token_says_what_to_set(hub, repository, asking, token, message):
    hub.token = "another"

    with pytest.raises((NotFound, UnusableModel), match=message) as raised:
        asking(token=token).fetch()

    assert "hf_marker" not in str(raised.value) + str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((401, "RepoNotFound"), NotFound, r"has no model \[org/tiny\]"),
        ((404, "RevisionNotFound"), NotFound, r"has no model \[org/tiny\]"),
        ((403, "GatedRepo"), UnusableModel, "is gated: accept its terms"),
        ((500, None), UpstreamError, r"answered with status \[500\]"),
        ((200, None), UnreadableReply, "is none of a hub"),
    ],
)
def test_a_refusal_of_the_hub_is_explained(hub, asking, answer, error, message):
    hub.status, hub.error_code = answer

    with pytest.raises(error, match=message):
        asking().fetch()


def test_an_unknown_revision_is_not_found(hub, repository, asking):

    with pytest.raises(NotFound, match=r"has no model \[org/tiny@v9\]"):
        asking().fetch(HubId("org/tiny", "v9"))


def test_without_a_way_to_the_hub_it_fails_at_once(asking):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(UpstreamUnreachable, match=rf"hub \[http://127.0.0.1:{port}\]") as raised:
        asking(url=f"http://127.0.0.1:{port}").fetch()

    assert "refused" in str(raised.value.__cause__)


def test_a_hub_that_accepts_and_says_nothing_is_given_up(asking):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UpstreamUnreachable),
    ):
        asking(url=f"http://127.0.0.1:{silent.getsockname()[1]}", connect_timeout_s=0.3).fetch()


def test_a_proxy_gets_the_requests(hub, repository, asking):
    with pytest.raises(NotFound):  # as a proxy, the hub does not know the place of large files
        asking(url="http://hub.invalid", proxy=hub.url).fetch()

    assert hub.asked[0].path == "http://hub.invalid/api/models/org/tiny/revision/main"
    assert hub.got() == []


def test_only_allowed_hosts_are_connected_to(hub, repository, asking):
    hub.location = "http://localhost:9/elsewhere"

    with pytest.raises(BadRequest, match=r"Host \[127.0.0.1\] is not among"):
        asking(allow_hosts=("example.org",)).fetch()
    with pytest.raises(BadRequest, match=r"Host \[localhost\] is not among"):
        asking(allow_hosts=("127.0.0.1",)).fetch()


def test_a_newer_commit_is_downloaded_beside_the_older_one(hub, repository, asking, directory):
    older = asking().fetch()
    repository.commit = "beef" * 10

    newer = asking().fetch()

    assert older.is_dir()
    assert newer.name == repository.commit
    assert HubFolders(directory).find(TINY) == newer


def test_a_directory_that_cannot_be_written_is_named(hub, repository, asking, directory):
    directory.parent.mkdir()
    directory.write_text("a file stands where the directory should be")

    with pytest.raises(StoreFailure, match=r"cannot be downloaded to \[.*/data/hub\]"):
        asking().fetch()


def test_a_hub_behind_tls_does_not_lead_to_plain_http():
    with (
        open_site(Site("https://hub.example.org")) as client,
        pytest.raises(BadRequest, match=r"leads to \[127.0.0.1\] by plain http"),
    ):
        client.get("http://127.0.0.1:1/file")
