"""What being let in costs: GET of one endpoint without authentication, with an API key, and so on.

Beside it the time that a wrong API key takes, by how much of it is right: whoever could tell them
apart could guess a key byte by byte.
"""

from __future__ import annotations

import asyncio
import base64
import random
import statistics
import string
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from bench.load import Call, apply_load
from bench.processes import Inferry, cores, inferry
from bench.report import Plan, Table, alternate, middle, shown
from bench.seed import endpoint_id, seed
from inferry.core.access import Access
from inferry.errors import NotAuthenticated
from inferry.records import ApiKeyRecord
from inferry.security.api_keys import Secret, digest_of, new_secret
from inferry.security.gate import CredentialGate
from inferry.security.lockouts import Lockouts
from inferry.security.users import Passwords

_CONNECTIONS = 64
_STORED = 10
_KEYS, _CHECKS = 100, 1_000
_LARGEST_T = 4.0
_OPEN, _KEY = "no authentication", "API key"
_RIGHT = {
    "nothing": 0,
    "the first character": 1,
    "the first half": 21,
    "all but the last of 43 characters": 42,
}
_ALPHABET = string.ascii_letters + string.digits + "-_"


def measure_guards(plan: Plan) -> list[Table]:
    """Give the price of each guard, and the times of wrong keys."""
    return [_price(plan), _times()]


def _price(plan: Plan) -> Table:
    table = Table("GET of one endpoint, by what guards it, beside a server without authentication")
    measured, loading = cores()
    load = partial(apply_load, connections=_CONNECTIONS, seconds=plan.seconds, core=loading)
    with ExitStack() as stack:
        servers: dict[str, Inferry] = {}
        for name, auth, environment in (
            (_OPEN, False, {}),
            (_KEY, True, {}),
            ("API key, a line per request", True, {"INFERRY_TELEMETRY__LOG_LEVEL": "info"}),
        ):
            data_dir = plan.folder / f"guards-{len(servers)}"
            seed(data_dir, _STORED, core=measured)
            server = inferry(data_dir, core=measured, auth=auth, **environment)
            servers[name] = stack.enter_context(server)
        calls = {name: _call(server) for name, server in servers.items()}
        calls["no authentication, a header that nobody reads"] = replace(
            calls[_OPEN], headers=calls[_KEY].headers
        )
        loads = alternate(
            {name: partial(load, call) for name, call in calls.items()}, rounds=plan.rounds
        )
    for name, several in loads.items():
        turns = zip(several, loads[_OPEN], strict=True)
        table.add(
            name,
            shown(middle(several)),
            ratio=statistics.median(one.per_second / other.per_second for one, other in turns),
            floor=0.95 if name == _KEY else None,
            goal=0.97 if name == _KEY else None,
        )
    return table


def _call(server: Inferry) -> Call:
    path = f"/_inference/text_embedding/{endpoint_id(_STORED // 2)}"
    headers = {"Authorization": server.authorization} if server.api_key else {}
    return Call(server.port, server.process.pid, path, headers=headers)


def _times() -> Table:
    """Time guesses that begin like the key, beside guesses that begin as long like another one.

    What a guess holds makes a difference of some nanoseconds, whatever the key is. So the key and
    the other one are new in each run, and the differences of all runs are compared with zero.
    """
    table = Table(
        f"Wrong API keys: what it adds that their beginning is right, {_KEYS} keys, "
        f"{_CHECKS:,} checks of each kind; t of the mean"
    )
    runs = [asyncio.run(_check_wrong_keys(number)) for number in range(_KEYS)]
    for kind in _RIGHT:
        added = [taken[kind, True] - taken[kind, False] for taken in runs]
        mean, error = statistics.fmean(added), statistics.stdev(added) / len(added) ** 0.5
        whole = statistics.fmean(taken[kind, True] for taken in runs)
        table.add(
            kind,
            f"{mean * 1e3:+.1f} ± {error * 1e3:.1f} ns of {whole:.2f} µs",
            ratio=abs(mean) / error,
            floor=_LARGEST_T,
            goal=_LARGEST_T,
            is_better_below=True,
        )
    return table


async def _check_wrong_keys(seed_of_run: int) -> dict[tuple[str, bool], float]:
    """Give the mean time in µs of each kind of guess, by whether its beginning is the key's.

    Without the slowest tenth, which is the machine's; in an order that chance decides. Each guess
    is copied before it is timed, so that all of them lie in the same place.
    """
    made, other = new_secret(), new_secret()
    record = ApiKeyRecord(made.key_id, "k", digest_of(made.secret), "ann", {}, {}, creation_ms=0)
    gate = CredentialGate(Access([record]), Passwords(), Lockouts(), _nobody_fails)
    chance = random.Random(seed_of_run)
    order = [(kind, is_right) for kind in _RIGHT for is_right in (True, False)] * _CHECKS
    chance.shuffle(order)
    guesses = [
        _guess(made, made.secret if is_right else other.secret, _RIGHT[kind], chance)
        for kind, is_right in order
    ]
    taken: dict[tuple[str, bool], list[float]] = {kind: [] for kind in order}
    for kind, guess in zip(order, guesses, strict=True):
        headers = {"authorization": guess.decode()}
        started = time.perf_counter_ns()
        try:
            await gate.authenticate(headers, "/", address="127.0.0.1")
        except NotAuthenticated:
            ended = time.perf_counter_ns()  # before the kind is looked up, which takes its own time
        taken[kind].append((ended - started) / 1e3)
    kept = _CHECKS * 9 // 10
    return {kind: statistics.fmean(sorted(times)[:kept]) for kind, times in taken.items()}


def _guess(made: Secret, beginning: str, length: int, chance: random.Random) -> bytes:
    """Give the header of a guess that begins like `beginning` and goes on wrong."""
    wrong = [chance.choice(_ALPHABET.replace(one, "")) for one in made.secret[length:]]
    guess = beginning[:length] + "".join(wrong)
    return b"ApiKey " + base64.b64encode(f"{made.key_id}:{guess}".encode())


async def _nobody_fails(_: object) -> float:
    return 0.0
