"""The audit log: what stands in a line, who can read it, and what a flood does to it."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from inferry import commands
from inferry.commands import (
    Command,
    CreateApiKey,
    InvalidateApiKeys,
    Invalidation,
    KeyCriteria,
    NewApiKey,
    NoteRefusals,
    PutEndpoint,
    PutUser,
    Refusal,
    SetPassword,
    TakeTokens,
)
from inferry.concurrency import Nursery, run_all
from inferry.errors import AlreadyExists
from inferry.origin import Origin, bind_origin
from inferry.security import audit as audit_module
from inferry.security.audit import AuditLog, Refusals

MARKER = "marker-secret-1f4c9a"
ORIGIN = Origin(
    user="ann",
    api_key_id="k1",
    address="192.0.2.1",
    action="cluster:admin/xpack/inference/put",
    request="PUT /_inference/a",
    request_id="7",
)
# What changes nothing that a person would ask about, or is a line itself.
UNAUDITED = {
    "AdmitKey",
    "FetchKeyUsage",
    "SpendKeyTokens",
    "FetchSecrets",
    "FetchModels",
    "FetchStats",
    "NoteFailedLogin",
    "NoteRefusals",
    "StartDeployment",
    "TakeTokens",
    "WakeDeployment",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def open_log(path: Path) -> Iterator[Callable[..., AuditLog]]:
    """Give a function that opens the log at `path`."""
    with ExitStack() as stack:

        def open_one(*, max_bytes: int = 1_000_000) -> AuditLog:
            log = AuditLog(path, max_bytes=max_bytes, files=2, now=lambda: 1_800_000_000.5)
            stack.callback(log.close)
            return log

        yield open_one


def lines_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def run(log: AuditLog, command: Command, outcome: object) -> None:
    """Carry out a command whose outcome the test says."""

    async def carry_out(_: Command) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    await log.audited(carry_out)(command)


def put(**more: Any) -> PutEndpoint:
    body = {"service": "openai", "service_settings": {"api_key": MARKER}}
    return PutEndpoint("a", None, "/_inference/a", body, **more)


async def test_a_change_tells_who_did_what_from_where(open_log, path):
    log = open_log()
    bind_origin(ORIGIN)

    await run(log, put(), b"{}")

    assert lines_in(path) == [
        {
            "@timestamp": "2027-01-15T08:00:00.500Z",
            "event": "changed",
            "outcome": "success",
            "user": "ann",
            "api_key_id": "k1",
            "address": "192.0.2.1",
            "action": "cluster:admin/xpack/inference/put",
            "command": "put_endpoint",
            "target": {"inference_id": "a"},
            "request": "PUT /_inference/a",
            "request_id": "7",
        }
    ]


async def test_a_change_that_failed_tells_why(open_log, path):
    log = open_log()

    with pytest.raises(AlreadyExists):
        await run(log, put(), AlreadyExists(f"exists, with {MARKER}"))

    line = lines_in(path)[0]
    assert (line["outcome"], line["reason"]) == ("failure", "AlreadyExists")


async def test_a_dry_run_changes_nothing(open_log, path):
    await run(open_log(), put(dry_run=True), b"{}")

    assert lines_in(path) == []


async def test_what_changes_nothing_leaves_no_line(open_log, path):
    await run(open_log(), TakeTokens("group", 1, 1), None)

    assert lines_in(path) == []


@pytest.mark.parametrize(
    ("command", "reply", "target"),
    [
        (
            CreateApiKey("ann", "ci"),
            NewApiKey("k2", "ci", MARKER, MARKER),
            {"name": "ci", "api_key_id": "k2"},
        ),
        (
            InvalidateApiKeys(KeyCriteria(username="bob")),
            Invalidation(["k3", "k4"], ["k5"]),
            {"api_key_ids": ["k3", "k4"], "api_keys": 2},
        ),
        (
            PutUser("bob", ["superuser"], password=MARKER),
            True,
            {"username": "bob", "roles": ["superuser"]},
        ),
        (SetPassword("bob", MARKER), None, {"username": "bob"}),
    ],
)
async def test_a_line_names_what_was_changed_and_no_secret(open_log, path, command, reply, target):
    await run(open_log(), command, reply)

    assert lines_in(path)[0]["target"] == target
    assert MARKER not in path.read_text()


def test_every_command_that_changes_something_is_audited():
    known = {kind.__name__ for kind in Command.__subclasses__()}
    audited = {kind.__name__ for kind in audit_module._TARGETS}

    assert audited | UNAUDITED == known, "give a new command a row in `_TARGETS`"
    for kind, name in audit_module._TARGETS.items():
        assert name is None or name in kind.__struct_fields__
        assert getattr(commands, kind.__name__) is kind


async def test_a_refusal_tells_who_tried_what(open_log, path):
    log = open_log()

    await log.note_refusals(
        NoteRefusals(
            [Refusal("access_denied", "", ORIGIN, 1_800_000_001.0)],
            dropped=3,
        )
    )

    denied, dropped = lines_in(path)
    assert denied["@timestamp"] == "2027-01-15T08:00:01.000Z"
    assert (denied["event"], denied["outcome"], denied["user"]) == (
        "access_denied",
        "denied",
        "ann",
    )
    assert (dropped["event"], dropped["count"]) == ("refusals_dropped", 3)


async def test_what_callers_choose_stays_on_one_line_and_short(open_log, path):
    origin = Origin(user="x\n{}" + "y" * 10_000, request="GET /\r\n" + "z" * 10_000)
    log = open_log()

    await log.note_refusals(NoteRefusals([Refusal("access_denied", "", origin, 0.0)]))

    assert len(lines_in(path)) == 1
    assert path.stat().st_size < 2000


async def test_only_the_owner_reads_it_also_after_a_rotation(open_log, path):
    path.touch(0o644)
    log = open_log(max_bytes=4096)

    for _ in range(150):
        await run(log, put(), b"{}")

    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert all(file.stat().st_size <= 4096 for file in files)
    assert all(lines_in(file) for file in files)


def test_a_link_in_its_place_is_not_followed(open_log, path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        open_log()


async def test_lines_of_changes_at_once_are_whole(open_log, path):
    log = open_log()

    await run_all(run(log, put(), b"{}") for _ in range(200))

    assert len(lines_in(path)) == 200


async def test_a_log_that_cannot_be_written_stops_no_change(open_log, path, monkeypatch):
    log = open_log()

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log._file, "append", full)

    await run(log, put(), b"{}")

    assert lines_in(path) == []


async def test_of_a_flood_a_part_is_told_and_the_rest_counted():
    told: list[NoteRefusals] = []

    async def submit(command: Command) -> None:
        assert isinstance(command, NoteRefusals)
        told.append(command)

    refusal = Refusal("authentication_failed", "", ORIGIN, 0.0)
    async with Nursery() as nursery:
        refusals = Refusals(submit, nursery=nursery)
        for _ in range(10_000):
            refusals.note(refusal)
        await refusals.flush()

    assert sum(len(one.refusals) for one in told) == 250
    assert sum(one.dropped for one in told) == 9750


async def test_a_refusal_is_handed_on_at_once():
    told: list[Command] = []

    async def submit(command: Command) -> None:
        told.append(command)

    async with Nursery() as nursery:
        refusals = Refusals(submit, nursery=nursery)
        refusals.note(Refusal("access_denied", "", ORIGIN, 0.0))
        while not told:
            await asyncio.sleep(0)

    assert len(told) == 1
