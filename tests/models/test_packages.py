"""What is downloaded of a repository of packages, a folder or a server, and what failures leave."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.errors import (
    BadRequest,
    InferenceError,
    NoSuchPackage,
    StoreFailure,
    UnreadableReply,
    UnusableModel,
    UpstreamError,
    UpstreamUnreachable,
)
from inferry.modeling import Progress
from inferry.models import packages as packages_module
from inferry.models.downloads import PackageOrder, Site
from inferry.models.package_description import config_of, read_description
from inferry.models.package_folders import PackageFolders
from inferry.models.packages import download
from inferry.models.sources import Package
from tests.models.repositories import MODULE, PackageServer, package_files, serve_packages

PART = 64 * 1024


@pytest.fixture
def site() -> Iterator[PackageServer]:
    with serve_packages(package_files()) as running:
        yield running


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(packages_module, "_PAUSE_S", 0.0)


@dataclass
class Asking:
    """A download of the package `m` from some repository."""

    directory: Path
    repository: str
    name: str = "m"
    allow_private_networks: bool = True
    reports: list[Progress] = field(default_factory=list)

    @property
    def package(self) -> Package:
        return Package(self.repository, self.name)

    def fetch(self) -> Path:
        access = Site(self.repository, allow_private_networks=self.allow_private_networks)
        order = PackageOrder(access, self.package, str(self.directory), ".m")
        return download(order, self.reports.append)

    def refused(self, kind: type[InferenceError]) -> str:
        """Fetch it, which has to fail, and give what is said."""
        with pytest.raises(kind) as caught:
            self.fetch()
        assert type(caught.value) is kind
        return str(caught.value)

    def left(self) -> list[str]:
        """List what is in the directory."""
        return sorted(
            one.relative_to(self.directory).as_posix() for one in self.directory.rglob("*")
        )


@pytest.fixture
def asking(site, tmp_path) -> Asking:
    return Asking(tmp_path / "packages", site.url)


@pytest.fixture(params=["web", "folder"])
def anywhere(request, site, asking: Asking, tmp_path) -> Asking:
    """Give a repository of each kind, with the same files."""
    if request.param == "folder":
        folder = tmp_path / "mirror of packages"
        folder.mkdir()
        for name, content in site.files.items():
            (folder / name).write_bytes(content)
        asking.repository = folder.as_uri()
    return asking


def change(asking: Asking, site: PackageServer, name: str, content: bytes | None) -> None:
    """Change or remove a file of the repository, of whatever kind it is."""
    if asking.package.is_local:
        site.files = {}
        file = asking.package.folder / name
        file.unlink()
        if content is not None:
            file.write_bytes(content)
    elif content is None:
        del site.files[name]
    else:
        site.files[name] = content


# --- what comes --------------------------------------------------------------------------------


def test_local_row_010_a_package_lies_in_the_layout_of_an_upload(anywhere):
    folder = anywhere.fetch()

    module, words = hashlib.sha256(MODULE).hexdigest(), folder.glob("*.json")
    assert (folder / f"{module}.pt").read_bytes() == MODULE
    (vocabulary,) = (one for one in words if one.name != "metadata.json")
    assert vocabulary.stem == hashlib.sha256(vocabulary.read_bytes()).hexdigest()
    metadata = json.loads((folder / "metadata.json").read_bytes())
    assert metadata["inference_config"] == {"text_expansion": {"tokenization": {"bert": {}}}}
    assert PackageFolders(anywhere.directory).find(anywhere.package) == folder
    assert folder.stat().st_mode & 0o077 == 0


def test_progress_counts_the_bytes_of_the_module(anywhere):
    anywhere.fetch()

    assert anywhere.reports[0] == Progress(0, len(MODULE))
    assert anywhere.reports[-1] == Progress(len(MODULE), len(MODULE))
    assert anywhere.reports == sorted(anywhere.reports, key=lambda one: one.done)


def test_what_is_here_is_not_downloaded_again(site, asking):
    asking.fetch()
    site.asked.clear()

    asking.fetch()

    assert site.asked == ["m.metadata.json"]


def test_another_version_replaces_the_one_that_is_here(site, asking):
    asking.fetch()
    site.files |= package_files(module=b"newer")

    folder = asking.fetch()

    assert [one.read_bytes() for one in folder.glob("*.pt")] == [b"newer"]
    assert len(asking.left()) == 4


def test_a_package_for_this_platform_is_taken_where_there_is_no_other(asking, site):
    site.files = package_files("m_linux-x86_64")

    folder = asking.fetch()

    assert (folder / f"{hashlib.sha256(MODULE).hexdigest()}.pt").is_file()


def test_packages_of_the_same_name_are_told_apart_by_their_repository(tmp_path):
    with serve_packages(package_files()) as one, serve_packages(package_files()) as other:
        folders = {Asking(tmp_path / "packages", site.url).fetch() for site in (one, other)}

    assert len(folders) == 2


def test_a_repository_is_not_asked_for_anything_packed_and_gets_no_credential(site, asking):
    asking.fetch()

    assert {one["accept-encoding"] for one in site.headers} == {"identity"}
    assert not [one for one in site.headers if "authorization" in one]


# --- transfers that break ----------------------------------------------------------------------


@pytest.mark.parametrize("every", [PART, PART // 2, PART + 1, len(MODULE) - 1])
def test_local_row_010_a_server_that_cuts_every_transfer_is_asked_for_the_rest(site, asking, every):
    site.cut_every = every

    folder = asking.fetch()

    assert next(folder.glob("*.pt")).read_bytes() == MODULE
    assert site.asked[2:] == [
        f"m.pt bytes={first}-" if first else "m.pt" for first in range(0, len(MODULE), every)
    ]


def test_a_server_without_ranges_is_asked_from_the_beginning(site, asking):
    site.cut_every, site.cuts, site.has_ranges = PART, 3, False

    folder = asking.fetch()

    assert next(folder.glob("*.pt")).read_bytes() == MODULE
    assert site.asked.count("m.pt") == 1
    assert site.asked.count(f"m.pt bytes={PART}-") == 3


def test_a_server_that_always_breaks_at_the_same_byte_is_given_up_and_can_be_gone_on_with(
    site, asking
):
    site.cut_every, site.has_ranges = PART, False

    said = asking.refused(UpstreamUnreachable)

    assert f"The package [m] of [{site.url}] cannot be downloaded: [m.pt]" in said
    assert f"after [{PART}] bytes" in said
    site.cut_every, site.has_ranges = None, True
    site.asked.clear()
    asking.fetch()
    assert site.asked[-1] == f"m.pt bytes={PART}-"


def test_a_range_that_is_not_the_wanted_one_is_not_written(site, asking, monkeypatch):
    site.cut_every, site.cuts = PART, 1
    site.answers["/models/m.pt"] = (206, "")

    said = asking.refused(UnreadableReply)

    assert "a part that does not say which" in said
    assert asking.left() == []


def test_without_a_way_to_the_repository_it_fails_at_once(asking):
    asking.repository = "http://127.0.0.1:1/models"

    assert "it cannot be reached" in asking.refused(UpstreamUnreachable)
    assert asking.left() == []


# --- packages that are not right ---------------------------------------------------------------


def test_local_row_010_a_package_that_is_not_there_says_so(anywhere, site):
    for name in ("m.metadata.json", "m.vocab.json", "m.pt"):
        change(anywhere, site, name, None)

    said = anywhere.refused(NoSuchPackage)

    assert said.startswith(f"Failed to find package [m]: [{anywhere.repository}] has no ")
    assert anywhere.left() == []


@pytest.mark.parametrize("name", ["m.vocab.json", "m.pt"])
def test_local_row_010_a_file_of_a_package_that_is_missing_is_named(anywhere, site, name):
    change(anywhere, site, name, None)

    assert f"[{name}]" in anywhere.refused(UnreadableReply)
    assert anywhere.left() == []


def test_local_row_010_a_module_of_another_digest_is_refused(anywhere, site):
    other = bytes(len(MODULE))
    change(anywhere, site, "m.pt", other)
    expected, found = (hashlib.sha256(one).hexdigest() for one in (MODULE, other))

    assert anywhere.refused(UnreadableReply) == (
        f"Model sha256 checksums do not match, expected [{expected}] but got [{found}];"
        f" package [m] of [{anywhere.repository}]"
    )
    assert anywhere.left() == []


@pytest.mark.parametrize("length", [len(MODULE) - 1, len(MODULE) + 1, 1, 0])
def test_local_row_010_a_module_of_another_size_is_refused(anywhere, site, length):
    change(anywhere, site, "m.pt", bytes(length))

    said = anywhere.refused(UnreadableReply)

    assert said.startswith(
        f"Model size does not match, expected [{len(MODULE)}] but got [{length}];"
    )
    assert anywhere.left() == []


@pytest.mark.parametrize(
    "vocabulary",
    [
        *(b"", b"[]", b'{"vocabulary":[]}', b'{"vocabulary":[1]}', b'{"vocabulary":', b"\xff"),
        b"[" * 9999,
    ],
    ids=repr,
)
def test_a_file_that_is_no_vocabulary_is_refused(anywhere, site, vocabulary):
    change(anywhere, site, "m.vocab.json", vocabulary)

    assert "[m.vocab.json] is no vocabulary" in anywhere.refused(UnreadableReply)
    assert anywhere.left() == []


def test_a_vocabulary_without_end_is_given_up(anywhere, site, monkeypatch):
    monkeypatch.setattr(packages_module, "_MOST_VOCABULARY_BYTES", 50)

    assert "[m.vocab.json] has more than [50] bytes" in anywhere.refused(UnreadableReply)
    assert anywhere.left() == []


def described(**members: Any) -> bytes:
    return package_files(**members)["m.metadata.json"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'"m"', "cannot be read"),
        (described(packaged_model_id="../../etc/passwd"), "Invalid package name"),
        (described(packaged_model_id=["m"]), "cannot be read"),
        (described(size=0), "Invalid package size"),
        (described(size=-5), "Invalid package size"),
        (described(size=10**17), "Invalid package size"),
        (described(size=10**40), "cannot be read"),
        (described(size=1.5), "cannot be read"),
        (described(size="12"), "cannot be read"),
        (described(sha256="0" * 63), "Invalid package sha"),
        (described(sha256="../" + "0" * 61), "Invalid package sha"),
        (described(sha256=None), "cannot be read"),
        (described(vocabulary_file="../m.json"), "Invalid [vocabulary_file]"),
        (described(vocabulary_file="/etc/m.json"), "Invalid [vocabulary_file]"),
        (described(vocabulary_file="http://a.org/m.json"), "Invalid [vocabulary_file]"),
        (described(vocabulary_file="m.vocab.json\n"), "Invalid [vocabulary_file]"),
        (described(vocabulary_file="m.pt"), "Invalid [vocabulary_file]"),
        (described(vocabulary_file={}), "cannot be read"),
        (described(minimum_version="new"), "Invalid [minimum_version]"),
        (described(model_type="tree_ensemble"), "Invalid [model_type]"),
        (described(inference_config={}), "Invalid [inference_config]"),
        (described(inference_config={"a": {}, "b": {}}), "Invalid [inference_config]"),
        (described(inference_config={"ner": {}}), "Invalid [inference_config]"),
        (described(inference_config={"text_expansion": 3}), "cannot be read"),
        (described(inference_config={"text_expansion": {"tokenization": []}}), "cannot be read"),
        (described(kind="../bert"), "[tokenization] must be one of [bert, mpnet, "),
        (described(kind="bert_ja"), "a dictionary of Japanese words"),
        (described(tokenization={"span": "many"}), "cannot be read"),
        (described(tokenization={"max_sequence_length": 2**40}), "cannot be read"),
        (described(tokenization={"truncate": "a" * 5000}), "cannot be read"),
        (described(tokenization={"truncate": "never"}), "Invalid [inference_config]"),
        (described(prefix_strings={"search": "a" * 5000}), "cannot be read"),
        (described(tags=["a"] * 1000), "cannot be read"),
        (described(description=[[[[1]]]]), "cannot be read"),
        (described() + b" " * 200_000, "has more than [131072] bytes"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_description_that_cannot_be_right_is_refused_and_leaves_nothing(
    anywhere, site, content, words
):
    change(anywhere, site, "m.metadata.json", content)

    said = anywhere.refused(UnreadableReply)

    assert words in said
    assert len(said) < 1000
    assert anywhere.left() == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*json.loads(described()), "prefix_strings"]), json_values))
def test_whatever_a_description_says_it_is_read_or_refused(changes):
    content = json.dumps(json.loads(described()) | changes).encode()

    with suppress(UnreadableReply, BadRequest):
        assert config_of(read_description(content, "m"))


def test_a_package_for_a_newer_server_is_refused_with_what_it_needs(anywhere, site):
    change(anywhere, site, "m.metadata.json", described(minimum_version="12.0.1"))

    assert "requires the configuration version [12.0.1]" in anywhere.refused(BadRequest)
    assert anywhere.left() == []


def test_a_link_out_of_a_repository_is_not_followed(site, tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in site.files.items():
        (folder / name).write_bytes(content)
    (folder / "m.vocab.json").unlink()
    (folder / "m.vocab.json").symlink_to("/etc/passwd")
    asking = Asking(tmp_path / "packages", folder.as_uri())

    assert "is a link that leads out" in asking.refused(UnusableModel)
    assert asking.left() == []


# --- servers that are not right ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.metadata.json", "m.vocab.json", "m.pt"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UpstreamError),
        (401, UpstreamError),
        (304, UpstreamError),
        (500, UpstreamUnreachable),
        (503, UpstreamUnreachable),
    ],
)
def test_a_status_is_told_with_the_file_and_the_address(site, asking, name, status, kind):
    site.answers[f"/models/{name}"] = (status, "")

    said = asking.refused(kind)

    assert f"[{name}] was answered with status [{status}]" in said
    assert site.url in said


def test_a_redirect_is_followed_and_its_range_too(site, asking):
    with serve_packages(package_files()) as storage:
        storage.cut_every = len(MODULE) // 2
        site.answers["/models/m.pt"] = (302, f"{storage.url}/m.pt")

        folder = asking.fetch()

    assert next(folder.glob("*.pt")).read_bytes() == MODULE
    assert storage.asked == ["m.pt", f"m.pt bytes={len(MODULE) // 2}-"]


def test_a_redirect_in_a_circle_ends_after_five(site, asking):
    site.answers["/models/m.pt"] = (302, f"{site.url}/m.pt")

    said = asking.refused(UpstreamError)

    assert "[m.pt] is redirected again and again" in said
    assert site.asked.count("m.pt") == 6
    assert asking.left() == []


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/m.pt",
        "https://metadata.google.internal/m.pt",
        "http://user:marker@127.0.0.1/m.pt",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_leads_nowhere_that_is_never_called(site, asking, location):
    site.answers["/models/m.pt"] = (302, location)

    with pytest.raises(InferenceError) as refused:
        asking.fetch()

    assert "marker" not in str(refused.value)
    assert asking.left() == []


def test_a_repository_of_the_network_needs_the_setting_that_is_named(site, asking):
    asking.allow_private_networks = False

    assert "[outbound.allow_private_networks] is not set" in asking.refused(BadRequest)
    assert site.asked == []


# --- the disk ----------------------------------------------------------------------------------


def test_a_module_that_finds_no_room_is_not_begun(anywhere, site, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))

    said = anywhere.refused(StoreFailure)

    assert said.startswith(f"it needs [{len(MODULE)}] bytes more, and [1000] are free on the disk")
    assert "m.pt" not in site.asked
    assert anywhere.left() == []


def test_a_disk_that_fills_up_leaves_nothing(anywhere, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fail)

    said = anywhere.refused(StoreFailure)

    assert "No space left on device" in said
    assert anywhere.left() == []
