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
_CHECKS = 4_000
_RUNS = 5
_LARGEST_Z = 4.0
_ALPHABET = string.ascii_letters + string.digits + "-_"


def measure_guards(plan: Plan) -> list[Table]:
    """Give the price of each guard, and the times of wrong keys."""
    return [_price(plan), _times()]


def _price(plan: Plan) -> Table:
    table = Table("GET of one endpoint, by what guards it, beside a server without authentication")
    measured, loading = cores()
    load = partial(apply_load, connections=_CONNECTIONS, seconds=plan.seconds, core=loading)
    with ExitStack() as stack:
        calls: dict[str, Call] = {}
        for name, auth, environment in (
            ("no authentication", False, {}),
            ("API key", True, {}),
            ("API key, a line per request", True, {"INFERRY_TELEMETRY__LOG_LEVEL": "info"}),
        ):
            data_dir = plan.folder / f"guards-{len(calls)}"
            seed(data_dir, _STORED, core=measured)
            server = stack.enter_context(inferry(data_dir, core=measured, auth=auth, **environment))
            calls[name] = _call(server)
        loads = alternate(
            {name: partial(load, call) for name, call in calls.items()}, rounds=plan.rounds
        )
    open_server = middle(loads["no authentication"]).per_second
    for name, several in loads.items():
        found = middle(several)
        is_held = name == "API key"
        table.add(
            name,
            shown(found),
            ratio=found.per_second / open_server,
            floor=0.95 if is_held else None,
            goal=0.97 if is_held else None,
        )
    return table


def _call(server: Inferry) -> Call:
    path = f"/_inference/text_embedding/{endpoint_id(_STORED // 2)}"
    headers = {"Authorization": server.authorization} if server.api_key else {}
    return Call(server.port, server.process.pid, path, headers=headers)


def _times() -> Table:
    """Time wrong keys, in an order that chance decides; compare the means by Welch's test.

    The median of several runs counts: one alone may tell of the machine.
    """
    table = Table(f"Wrong API keys, {_CHECKS:,} checks each: z of the mean beside `nothing right`")
    runs = [asyncio.run(_check_wrong_keys(number)) for number in range(_RUNS)]
    for name in runs[0]:
        distances = [abs(_z(taken["nothing right"], taken[name])) for taken in runs]
        table.add(
            name,
            f"{statistics.fmean(runs[0][name]):.2f} µs",
            ratio=statistics.median(distances),
            floor=_LARGEST_Z,
            goal=_LARGEST_Z,
            is_better_below=True,
        )
    return table


async def _check_wrong_keys(seed_of_run: int) -> dict[str, list[float]]:
    """Give the time of each check in µs, without the slowest tenth, which is the machine's."""
    made = new_secret()
    digest = digest_of(made.secret)
    record = ApiKeyRecord(made.key_id, "k", digest, "ann", {}, {}, creation_ms=0)
    gate = CredentialGate(Access([record]), Passwords(), Lockouts(), _nobody_fails)
    length = len(made.secret)
    kinds = {
        "nothing right": 0,
        "the first character right": 1,
        "the first half right": length // 2,
        "all but the last right": length - 1,
    }
    chance = random.Random(seed_of_run)
    order = [name for name in kinds for _ in range(_CHECKS)]
    chance.shuffle(order)  # before they are made: where they lie in memory tells by itself
    guesses = [(name, _guess(made, kinds[name], chance)) for name in order]
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for name, headers in guesses:
        started = time.perf_counter_ns()
        try:
            await gate.authenticate(headers, "/", address="127.0.0.1")
        except NotAuthenticated:
            taken[name].append((time.perf_counter_ns() - started) / 1e3)
    return {name: sorted(times)[: _CHECKS * 9 // 10] for name, times in taken.items()}


def _guess(made: Secret, right: int, chance: random.Random) -> dict[str, str]:
    """Give the headers of a guess of which the first `right` characters are right, and no more."""
    wrong = [chance.choice(_ALPHABET.replace(one, "")) for one in made.secret[right:]]
    guess = made.secret[:right] + "".join(wrong)
    encoded = base64.b64encode(f"{made.key_id}:{guess}".encode()).decode()
    return {"authorization": f"ApiKey {encoded}"}


def _z(one: list[float], other: list[float]) -> float:
    """Give the distance of two means in their standard errors."""
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return (statistics.fmean(one) - statistics.fmean(other)) / spread**0.5


async def _nobody_fails(_: object) -> float:
    return 0.0
