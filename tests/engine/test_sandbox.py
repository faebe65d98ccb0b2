"""A model that is a hostile program: what it tries fails or ends it, and nothing else suffers.

On a machine without Landlock or libseccomp that part is proven which it has, and that the lack of
the other is noticed.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inferry.concurrency import Nursery
from inferry.engine import landlock, sandbox, seccomp
from inferry.engine.messages import Load
from inferry.engine.worker import check_protection
from inferry.errors import InferenceError, UnusableModel
from inferry.modeling import ModelSource, Protection, RuntimeOptions
from inferry.sections import TelemetrySection
from inferry.security.audit import AuditLog
from tests.engine.pools import Yard, open_yard, rows_of
from tests.engine.test_pool import worker_of

DENIED, NOT_PERMITTED, UNKNOWN = errno.EACCES, errno.EPERM, errno.ENOSYS

ALLOWED = (
    *("read its own model", "write its own cache", "start a thread", "import a package"),
    "give way",
    *("hold nothing else", "leave no dump"),
)

OF_FILES = {
    "read the master key": DENIED,
    "read the local key": DENIED,
    "read the database": DENIED,
    "read another model": DENIED,
    "read another cache": DENIED,
    "list the data directory": DENIED,
    "list models": DENIED,
    "read accounts": DENIED,
    "read the server's variables": DENIED,
    "read the server's memory": DENIED,
    "follow a link": DENIED,
    "link the key into its cache": errno.EXDEV,
    "move the key into its cache": DENIED,
    "write its own model": DENIED,
    "write the database": DENIED,
    "write elsewhere": DENIED,
    "write shared memory": DENIED,
    "delete the database": DENIED,
}

OF_CALLS = {
    "open a local socket": NOT_PERMITTED,
    "open a pair of sockets": NOT_PERMITTED,
    "list interfaces": NOT_PERMITTED,
    "fork": NOT_PERMITTED,
    "start a program": NOT_PERMITTED,
    "signal the server": NOT_PERMITTED,
    "signal another process": NOT_PERMITTED,
    "give way no more": NOT_PERMITTED,
    "go before all others": NOT_PERMITTED,
    "have the server give way": NOT_PERMITTED,
    "have all of a user give way": NOT_PERMITTED,
    "be idle": NOT_PERMITTED,
    "limit the server": NOT_PERMITTED,
    "raise a limit": NOT_PERMITTED,
    "open a way into a process": NOT_PERMITTED,
    "make a file of memory": NOT_PERMITTED,
    "type into the terminal": UNKNOWN,
    "have the kernel signal": UNKNOWN,
    "have dumps again": UNKNOWN,
    "empty the database": NOT_PERMITTED,
    "empty the database slyly": NOT_PERMITTED,
    "show the key to others": NOT_PERMITTED,
    "give the key away": NOT_PERMITTED,
    "fill the disk": errno.EFBIG,
}

DEADLY = (
    *("open a socket", "open a socket of IPv6", "execute", "trace the server", "mount"),
    *("leave for a namespace", "change its user", "change its root", "load into the kernel"),
    "read the keyring",
)

UNPROTECTED = ("a model runs without all of its sandbox", "no Landlock")


def open_hostile_yard(root: Path, **more):
    """Give a pool with a hostile model, in a data directory with all that it could want."""
    for name in ("models/other/weights", "graphs/other/kept"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("private")
    for name in ("master.key", "local-api-key", "inferry.db"):
        (root / name).write_text("private")
    return open_yard(root, module="tests.engine.hostile_worker", private=root, **more)


async def start(yard: Yard) -> None:
    """Start the hostile model where a server has its models."""
    folder = yard.library.root / "models" / "m"
    folder.mkdir()
    (folder / "weights").write_text("numbers")
    await yard.start(model_id="models/m")


async def outcome(yard: Yard, deed: str) -> int:
    """Have the model try something, and give the error number."""
    ((number, *_),) = rows_of(await yard.embed(deed))
    return int(number)


async def test_a_hostile_model_gets_nothing_of_the_host(tmp_path):
    expected = {
        **dict.fromkeys(ALLOWED, 0),
        **(OF_FILES if landlock.version() else {}),
        **(OF_CALLS if seccomp.is_offered() else {}),
    }
    async with open_hostile_yard(tmp_path) as yard:
        await start(yard)
        (stats,) = await yard.pool.stats()

        tried = {deed: await outcome(yard, deed) for deed in expected}
        (after,) = await yard.pool.stats()

    assert stats.protection == sandbox.offered()
    assert tried == expected
    assert after.restarts == 0
    for name in ("master.key", "local-api-key", "inferry.db"):
        assert (tmp_path / name).read_text() == "private"
    assert not Path("/tmp/hostile").exists()
    assert not Path("/dev/shm/hostile").exists()


@pytest.mark.parametrize("deed", DEADLY)
async def test_what_no_model_needs_ends_its_worker_and_is_logged(tmp_path, capsys, deed):
    if not seccomp.is_offered():
        assert "libseccomp" in sandbox.offered().missing
        return
    audit = AuditLog(tmp_path / "audit.log", max_bytes=10_000, files=1)
    async with open_hostile_yard(tmp_path, note_violation=audit.note_violation) as yard:
        await start(yard)

        with pytest.raises(InferenceError):
            await outcome(yard, deed)

        assert await outcome(yard, "nothing") == 0  # of the worker that took its place
    audit.close()
    (line,) = map(json.loads, (tmp_path / "audit.log").read_text().splitlines())
    assert (line["event"], line["outcome"]) == ("sandbox_violated", "denied")
    assert line["target"] == {"deployment_id": "d", "model_id": "models/m"}
    assert line["reason"] == "it made a system call that its sandbox forbids"
    assert "a model tried what its sandbox forbids" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("hoard", "is above [engine.memory_limit]"),
        ("swarm", "starts threads without end"),
        ("litter", "keeps files without end"),
    ],
)
async def test_a_model_that_takes_without_end_is_ended_and_replaced(tmp_path, capsys, deed, said):
    limit, noted = 300 * 1024 * 1024, []

    async def note(deployment_id: str, model_id: str, reason: str) -> None:
        noted.append((deployment_id, model_id, reason))

    async with (
        open_hostile_yard(tmp_path, memory_limit=limit, note_violation=note) as yard,
        Nursery() as jobs,
    ):
        await start(yard)
        jobs.start(yard.pool.watch())

        with pytest.raises(InferenceError):
            await outcome(yard, deed)

        assert await outcome(yard, "nothing") == 0
    assert said in capsys.readouterr().out
    (deployment_id, model_id, reason), *_ = noted
    assert (deployment_id, model_id) == ("d", "models/m")
    assert said in reason


async def test_a_model_that_runs_without_end_is_ended_and_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("inferry.engine.deployment._CHECK_S", 0.1)
    async with open_hostile_yard(tmp_path) as yard, Nursery() as callers:
        await start(yard)
        deployment = yard.pool._kept["d"].deployment
        spinning = callers.start(yard.embed("spin"))
        while not deployment._failed_checks:
            await deployment.check()
        spinning.cancel()  # else it would be sent to the next worker as well

        for _ in range(5):
            await deployment.check()
        await yard.wait_for("d", "starting")
        await deployment.started()

        assert await outcome(yard, "nothing") == 0
        assert deployment.restarts == 1


async def test_a_model_that_keeps_cores_without_end_is_ended_once_others_wait(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("inferry.engine.deployment._CHECK_S", 0.1)
    monkeypatch.setattr("inferry.engine.launcher._LONGEST_BATCH_S", 0.3)
    async with open_hostile_yard(tmp_path, cores=1) as yard, Nursery() as jobs:
        await start(yard)
        spinning = jobs.start(yard.embed("spin"))
        while not yard.pool._kept["d"].deployment._failed_checks:
            await yard.pool._kept["d"].deployment.check()
        spinning.cancel()
        jobs.start(yard.pool.watch())

        await yard.start("other", "m")
        assert len(rows_of(await yard.embed("fine", deployment_id="other"))) == 1


async def test_a_model_that_loads_without_end_holds_nobody_up_for_ever(tmp_path):
    async with open_hostile_yard(tmp_path, start_timeout_s=0.01) as yard:
        with pytest.raises(UnusableModel, match=r"took more than \[engine.start_timeout\]"):
            await start(yard)


async def test_a_worker_is_the_first_to_go_when_the_host_has_no_memory_left(tmp_path):
    async with open_hostile_yard(tmp_path) as yard:
        await start(yard)

        worker = Path(f"/proc/{worker_of(yard).pid}/oom_score_adj").read_text()

    assert int(worker) > int(Path("/proc/self/oom_score_adj").read_text())


async def test_a_data_directory_among_the_libraries_is_noticed(tmp_path):
    """Where a worker has to read what lies around the data directory, nothing holds it back."""
    source = ModelSource("m", tmp_path / "models")
    private = Path(sys.prefix) / "data"

    (missing,) = sandbox._confine_files(source, None, private)

    if landlock.version():
        expected = f"[{private}] lies within [{sys.prefix}], which a worker has to read"
        assert missing == expected
    else:
        assert "the kernel has no Landlock" in missing


def test_links_of_a_model_are_followed_only_where_they_may_lead(tmp_path):
    folder, blobs = tmp_path / "cache" / "snapshot", tmp_path / "cache" / "blobs"
    for place in (folder, blobs):
        place.mkdir(parents=True)
    for name in ("cache/blobs/a", "cache/blobs/b", "elsewhere"):
        (tmp_path / name).touch()
    (folder / "weights").symlink_to("../blobs/a")
    (folder / "astray").symlink_to(tmp_path / "elsewhere")

    inside = list(sandbox._files_of(ModelSource("m", folder, within=tmp_path / "cache")))
    alone = list(sandbox._files_of(ModelSource("m", folder)))

    assert inside == [folder, blobs / "a"]
    assert alone == [folder]


# --- where it cannot be had ----------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch) -> None:
    """Be a machine that offers neither of the two."""
    monkeypatch.setattr(landlock, "_CREATE_RULESET", 100_000)
    monkeypatch.setattr(seccomp, "_LIBRARY", "libseccomp.so.0")


@pytest.mark.usefixtures("bare")
def test_a_machine_says_what_it_lacks():
    offered = sandbox.offered()

    assert not offered.is_whole
    assert "the kernel has no Landlock" in offered.missing
    assert "libseccomp.so.2 is not installed" in offered.missing


def load_of(tmp_path: Path, *, is_program: bool, **more) -> Load:
    source = ModelSource("mine", tmp_path, is_program=is_program)
    return Load(source, RuntimeOptions(), 1, TelemetrySection(), **more)


def test_a_program_is_refused_where_nothing_holds_it_back(tmp_path):
    with pytest.raises(UnusableModel, match=r"\[mine\] is a program.*not whole: no Landlock.*"):
        check_protection(load_of(tmp_path, is_program=True), Protection("no Landlock"))


def test_a_program_runs_without_a_sandbox_where_the_operator_says_so(tmp_path):
    order = load_of(tmp_path, is_program=True, allow_unsandboxed=True)

    with capture_logs() as lines:
        check_protection(order, Protection("no Landlock"))

    assert [(line["event"], line["missing"]) for line in lines] == [UNPROTECTED]


def test_numbers_are_loaded_without_a_sandbox_and_with_a_warning(tmp_path):
    with capture_logs() as lines:
        check_protection(load_of(tmp_path, is_program=False), Protection("no Landlock"))

    assert [(line["event"], line["missing"]) for line in lines] == [UNPROTECTED]
