"""Model packages on a real server: downloaded, resumed, shown, and what their faults leave."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from tests.models.repositories import MODULE, PackageServer, package_files, serve_packages
from tests.server import Reply, Server, run_server

pytestmark = [pytest.mark.server, pytest.mark.faults]

BODY = {"input": {"field_names": ["text_field"]}}


@pytest.fixture(scope="module")
def site() -> Iterator[PackageServer]:
    """Serve packages; a test names its own."""
    with serve_packages() as running:
        yield running


@pytest.fixture(scope="module")
def server(site, tmp_path_factory) -> Iterator[Server]:
    """Run a server whose packages come from there."""
    environment = {"INFERRY_MODELS__REPOSITORY": site.url}
    with run_server(tmp_path_factory.mktemp("packages") / "data", environment=environment) as one:
        yield one


def put(server: Server, name: str, query: str = "", body: Any = BODY) -> Reply:
    return server.call("PUT", f"/_ml/trained_models/.{name}{query}", body)


def show(server: Server, name: str) -> dict[str, Any]:
    path = f"/_ml/trained_models/.{name}?include=definition_status"
    (shown,) = server.call("GET", path).json["trained_model_configs"]
    return dict(shown)


def is_whole(server: Server, name: str) -> Callable[[], bool]:
    return lambda: bool(show(server, name)["fully_defined"])


def left(server: Server) -> list[str]:
    """List what lies in the directory of packages, but for locks."""
    top = server.data_dir / "models/packages"
    return sorted(one.name for one in top.glob("*"))


def endpoint_on(model_id: str) -> dict[str, Any]:
    settings = {"model_id": model_id, "num_allocations": 1, "num_threads": 1}
    return {"service": "elasticsearch", "service_settings": settings}


def test_a_package_is_put_shown_and_deleted(server, site):
    site.files |= package_files("whole", description="What it is", tags=["a"])

    created = put(server, "whole", "?wait_for_completion=true")
    shown = show(server, "whole")
    again = put(server, "whole")
    deleted = server.call("DELETE", "/_ml/trained_models/.whole")

    assert created.status == 200, created.content
    assert shown["fully_defined"] is True
    assert shown["model_size_bytes"] == len(MODULE)
    assert shown["description"] == "What it is"
    assert shown["model_package"]["packaged_model_id"] == "whole"
    assert shown["inference_config"]["text_expansion"]["tokenization"]["bert"]["span"] == -1
    assert again.status == 400
    assert again.json["error"]["type"] == "resource_already_exists_exception"
    assert deleted.json == {"acknowledged": True}
    assert left(server) == []
    assert server.call("GET", "/_ml/trained_models/.whole").status == 404


def test_a_package_comes_while_nobody_waits_and_only_once(server, site):
    site.files |= package_files("slow")
    site.hold.clear()
    site.held.clear()

    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda _: put(server, "slow"), range(4))]
    assert site.held.wait(30)
    shown = show(server, "slow")
    stats = server.call("GET", "/_ml/trained_models/.slow/_stats")
    site.hold.set()
    server.wait_until(is_whole(server, "slow"))

    assert sorted(one.status for one in answers) == [200, 400, 400, 400]
    assert shown["fully_defined"] is False
    assert stats.headers["x-inferry-progress"].startswith(".slow ")
    assert "deployment_stats" not in stats.json["trained_model_stats"][0]
    assert site.asked.count("slow.pt") == 1


def test_a_deployment_and_a_put_share_one_download_and_tell_how_far_it_is(server, site):
    site.files |= package_files("shared")
    site.hold.clear()
    site.held.clear()

    waiting = server.call(
        "PUT", "/_inference/sparse_embedding/e?timeout=1s", endpoint_on(".shared")
    )
    assert site.held.wait(30)
    stats = server.call("GET", "/_ml/trained_models/.shared/_stats").json
    put(server, "shared")
    site.hold.set()
    server.wait_until(is_whole(server, "shared"))

    assert waiting.status == 408
    assert "downloading the model, " in waiting.json["error"]["reason"]
    (row,) = stats["trained_model_stats"]
    assert row["deployment_stats"]["reason"].startswith("downloading the model, ")
    assert site.asked.count("shared.pt") == 1
    log = server.log.read_text()
    assert "downloading a model" in log
    assert ".shared" in log


def test_many_downloads_hold_nothing_else_up(server, site):
    names = [f"many{number}" for number in range(8)]
    for name in names:
        site.files |= package_files(name)
    site.hold.clear()
    for name in names:
        assert put(server, name).status == 200

    upload = {"model_type": "pytorch", "inference_config": {"text_embedding": {}}}
    created = server.call("PUT", "/_ml/trained_models/meanwhile", upload)
    unfinished = [name for name in names if not is_whole(server, name)()]
    site.hold.set()
    for name in names:
        server.wait_until(is_whole(server, name))

    assert created.status == 200
    assert unfinished == names


def test_a_ninth_download_waits_and_says_so_and_can_be_taken_back(server, site):
    names = [f"turn{number}" for number in range(10)]
    for name in names:
        site.files |= package_files(name)
    site.hold.clear()
    for name in names[:8]:
        assert put(server, name).status == 200

    late = put(server, names[8], "?timeout=1s")
    path = f"/_inference/sparse_embedding/on-{names[9]}?timeout=1s"
    endpoint = server.call("PUT", path, endpoint_on(f".{names[9]}"))
    shown = server.call("GET", f"/_ml/trained_models/.{names[9]}/_stats").json
    deleted = server.call("DELETE", f"/_ml/trained_models/.{names[8]}")
    server.wait_until(lambda: not is_asked_about(server, names[9], "9 other downloads"))
    stopped = server.call("DELETE", f"/_inference/on-{names[9]}")
    begun = {name for name in names if f"{name}.metadata.json" in site.asked}
    site.hold.set()
    for name in names[:8]:
        server.wait_until(is_whole(server, name))

    assert (late.status, endpoint.status, deleted.status, stopped.status) == (408, 408, 200, 200)
    assert "waiting for 8 other downloads" in late.json["error"]["reason"]
    assert (
        "downloading the model, waiting for 9 other downloads" in (endpoint.json["error"]["reason"])
    )
    (row,) = shown["trained_model_stats"]
    assert row["deployment_stats"]["state"] == "starting"
    assert row["deployment_stats"]["reason"].endswith("waiting for 9 other downloads")
    assert begun == set(names[:8])


def is_asked_about(server: Server, name: str, words: str) -> bool:
    stats = server.call("GET", f"/_ml/trained_models/.{name}/_stats").json
    return words in stats["trained_model_stats"][0]["deployment_stats"]["reason"]


def test_a_deleted_model_stops_its_download(server, site):
    site.files |= package_files("gone")
    site.hold.clear()
    site.held.clear()
    put(server, "gone")
    assert site.held.wait(30)

    deleted = server.call("DELETE", "/_ml/trained_models/.gone")
    site.hold.set()

    assert deleted.status == 200
    assert not [name for name in left(server) if name.startswith("gone@")]


# --- packages that are not right ---------------------------------------------------------------


def refused(server: Server, name: str) -> dict[str, Any]:
    """Put a package, and an endpoint on it; both have to fail alike and leave nothing."""
    reply = put(server, name, "?wait_for_completion=true")
    path = f"/_inference/sparse_embedding/on-{name}"
    endpoint = server.call("PUT", f"{path}?timeout=50s", endpoint_on(f".{name}"))
    assert server.call("GET", path).status == 404
    assert not [one for one in left(server) if one.startswith(f"{name}@")]
    assert server.call("GET", "/").status == 200
    assert endpoint.status == reply.status, endpoint.content
    return dict(reply.json)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"sha256": "ab" * 32}, 500, f"sha256 checksums do not match, expected [{'ab' * 32}]"),
        ({"size": 5}, 500, "Model size does not match, expected [5] but got ["),
        ({"size": 10**17}, 500, "Invalid package size"),
        ({"vocabulary_file": "../../x.json"}, 500, "Invalid [vocabulary_file]"),
        ({"inference_config": [1]}, 500, "Failed to load package metadata"),
        ({"packaged_model_id": "another"}, 500, "Invalid package name"),
        ({"minimum_version": "99.0.0"}, 400, "requires the configuration version [99.0.0]"),
    ],
)
def test_a_package_that_is_not_right_is_refused_and_leaves_nothing(
    server, site, changes, status, words
):
    files = package_files("wrong")
    described = json.loads(files["wrong.metadata.json"]) | changes
    site.files |= {**files, "wrong.metadata.json": json.dumps(described).encode()}

    answer = refused(server, "wrong")

    assert answer["status"] == status
    assert words in answer["error"]["reason"]
    assert f"package [wrong] of [{site.url}]" in answer["error"]["reason"]


def test_a_package_that_is_not_there_is_refused(server, site):
    answer = refused(server, "nowhere")

    assert answer["status"] == 400
    assert answer["error"]["reason"].startswith("Failed to find package [nowhere]: ")
    reply = server.call("POST", "/_ml/trained_models/.nowhere/deployment/_start")
    assert (reply.status, reply.json["error"]["type"]) == (404, "resource_not_found_exception")
    assert "No known trained model with model_id [.nowhere]" in reply.json["error"]["reason"]


@pytest.mark.parametrize("status", [401, 500])
def test_a_repository_that_fails_is_told_with_its_status(server, site, status):
    name = f"fails{status}"
    site.files |= package_files(name)
    site.answers[f"/models/{name}.pt"] = (status, "")

    reply = put(server, name, "?wait_for_completion=true")

    assert reply.status == {401: 401, 500: 502}[status]
    assert f"[{name}.pt] was answered with status [{status}]" in reply.json["error"]["reason"]


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/x", "http://[::ffff:169.254.169.254]/", "https://metadata.goog/x"],
)
def test_a_repository_leads_to_no_address_that_is_never_called(server, site, location):
    name = "leads"
    site.files |= package_files(name)
    site.answers[f"/models/{name}.metadata.json"] = (302, location)

    answer = refused(server, name)

    assert answer["status"] == 400
    assert "is never called" in answer["error"]["reason"]


# --- faults ------------------------------------------------------------------------------------


def test_a_download_that_a_crash_cut_off_goes_on_with_the_next_server(tmp_path):
    with serve_packages(package_files("elser_model_2")) as site:
        site.hold.clear()
        environment = {"INFERRY_MODELS__REPOSITORY": site.url}
        with run_server(tmp_path / "data", environment=environment) as first:
            put(first, "elser_model_2")
            assert site.held.wait(30)
            partial = [*first.data_dir.glob("models/packages/*.part/*.pt.part")]
            first.wait_until(lambda: partial[0].stat().st_size > 0)
            first.kill()
        site.hold.set()
        site.asked.clear()

        with run_server(tmp_path / "data", environment=environment) as second:
            second.wait_until(is_whole(second, "elser_model_2"))

    assert len(site.asked) == 3
    assert site.asked[-1].startswith("elser_model_2.pt bytes=")
    assert [one.read_bytes() for one in tmp_path.glob("data/models/packages/*/*.pt")] == [MODULE]


def test_an_endpoint_whose_model_a_crash_cut_off_goes_on_too(tmp_path):
    """Its package is no TorchScript module: with the whole of it the endpoint is undone.

    That is seen when the module is looked at, or before, where there is no PyTorch to do that.
    """
    path = "/_inference/sparse_embedding/e"
    body = {"service": "elser", "service_settings": {"num_allocations": 1, "num_threads": 1}}
    with serve_packages(package_files("elser_model_2")) as site:
        site.hold.clear()
        environment = {"INFERRY_MODELS__REPOSITORY": site.url}
        with run_server(tmp_path / "data", environment=environment) as first:
            assert first.call("PUT", f"{path}?timeout=1s", body).status == 408
            assert site.held.wait(30)
            first.kill()

        with run_server(tmp_path / "data", environment=environment) as second:
            cut_off = second.call("GET", path)
            site.hold.set()
            second.wait_until(lambda: second.call("GET", path).status == 404)

    assert cut_off.json["service"] == "elser"
    assert [one.read_bytes() for one in tmp_path.glob("data/models/packages/*/*.pt")] == [MODULE]
    told = second.log.read_text()
    assert "is no TorchScript archive" in told or "the extra [torch] is not installed" in told


def test_a_package_whose_repository_is_gone_from_the_configuration_is_told_of_and_deleted(tmp_path):
    with serve_packages(package_files("mine")) as site:
        environment = {"INFERRY_MODELS__REPOSITORY": site.url}
        with run_server(tmp_path / "data", environment=environment) as first:
            assert put(first, "mine", "?wait_for_completion=true").status == 200
            (name,) = left(first)

    with run_server(tmp_path / "data") as second:
        kept = left(second)
        shown = show(second, "mine")
        deleted = second.call("DELETE", "/_ml/trained_models/.mine")

        assert kept == [name]
        assert shown["fully_defined"] is True
        assert deleted.status == 200
        assert left(second) == []
    (line,) = [one for one in second.log.read_text().splitlines() if "no id leads to" in one]
    assert f"`inferry models remove {name}` deletes it" in line


def test_a_disk_that_takes_no_more_leaves_nothing_and_the_server_alive(tmp_path):
    """No file may grow above its limit, which is as good as a disk that is full."""
    large = MODULE * 16
    with serve_packages(package_files("large", large)) as site:
        environment = {"INFERRY_MODELS__REPOSITORY": site.url}
        with run_server(tmp_path / "data", environment=environment) as server:
            limit = len(large) // 2
            psutil.Process(server.process.pid).rlimit(resource.RLIMIT_FSIZE, (limit, limit))

            reply = put(server, "large", "?wait_for_completion=true")

            assert reply.status == 500
            assert "cannot be written to" in reply.json["error"]["reason"]
            assert "File too large" in reply.json["error"]["reason"]
            assert left(server) == []
            assert server.call("GET", "/_inference").status == 200


def test_without_downloads_a_repository_of_this_machine_still_provides_its_packages(tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, content in package_files("elser_model_2").items():
        (mirror / name).write_bytes(content)
    environment = {
        "INFERRY_MODELS__REPOSITORY": mirror.as_uri(),
        "INFERRY_MODELS__ALLOW_DOWNLOAD": "never",
    }
    with run_server(tmp_path / "data", environment=environment) as server:
        created = put(server, "elser_model_2", "?wait_for_completion=true")

        assert created.status == 200, created.content
        assert is_whole(server, "elser_model_2")()


def test_a_repository_of_the_network_needs_the_setting_that_is_named(tmp_path):
    with serve_packages(package_files("elser_model_2")) as site:
        environment = {
            "INFERRY_MODELS__REPOSITORY": site.url,
            "INFERRY_OUTBOUND__ALLOW_PRIVATE_NETWORKS": "false",
        }
        with run_server(tmp_path / "data", environment=environment) as server:
            reply = put(server, "elser_model_2")

        assert reply.status == 400
        assert "[outbound.allow_private_networks] is not set" in reply.json["error"]["reason"]
        assert site.asked == []
