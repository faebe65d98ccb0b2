"""Chats that come at the pace of a real provider, through the server and direct, over TLS.

300 ms to the first event, 20 ms between events (`ticking.py`); `listener.py` tells when they came.
So many streams begin one after the other that the given number runs at the same time.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.processes import ROOT, Inferry, cores, cpu_seconds, free_port, inferry, running
from bench.report import Plan, Table
from bench.seed import NO_LIMIT
from bench.ticking import EVENTS, EVERY_S, FIRST_S

_MESSAGES = [{"role": "user", "content": "tell me a short story about a fox"}]
_MANY = (1, 20, 100, 300, 500)
_HELD = 300  # what one core passes on without gathering events; 500 are shown
_FIRST_RATIO, _GAP_RATIO, _ADDED_MS = 1.5, 1.5, 5.0


@dataclass(frozen=True)
class Heard:
    """Figures of a run, in ms. way: from the provider's write to the listener's read."""

    first_p50: float
    first_p99: float
    gap_p99: float
    way_p50: float
    way_p99: float
    events: int


def measure_streams(plan: Plan) -> list[Table]:
    """Give the times to the first event and between events, ours beside those of direct calls."""
    measured, loading = cores()
    upstream = free_port()
    certificate, key = _certificate(plan.folder)
    script = str(ROOT / "bench" / "ticking.py")
    command = [sys.executable, script, str(upstream), str(certificate), str(key)]
    tables = []
    with (
        running(command, core=loading, port=upstream),
        inferry(
            plan.folder / "streams",
            core=measured,
            INFERRY_OUTBOUND__CA_FILE=str(certificate),
        ) as server,
    ):
        _put(server, f"https://127.0.0.1:{upstream}/v1/chat/completions")
        direct = partial(_listen, upstream, "/v1/chat/completions", {}, certificate)
        ours = partial(
            _listen,
            server.port,
            "/_inference/chat_completion/chat/_stream",
            {"Authorization": server.authorization},
            None,
        )
        for streams in _MANY:
            before = cpu_seconds(server.process.pid)
            found = _alternate({"direct": direct, "inferry": ours}, streams, plan.rounds)
            worked = cpu_seconds(server.process.pid) - before
            tables.append(_table(streams, found["direct"], found["inferry"], worked))
    return tables


def _alternate(
    candidates: dict[str, Callable[[int], Heard]], streams: int, rounds: int
) -> dict[str, list[Heard]]:
    heard: dict[str, list[Heard]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, listen in candidates.items():
            heard[name].append(listen(streams))
    return heard


def _table(streams: int, direct: list[Heard], ours: list[Heard], worked_s: float) -> Table:
    table = Table(f"Chats over TLS, {streams} at a time: 300 ms to the first event, 20 ms between")
    for what, name, ratio in (
        ("time to first event, p50", "first_p50", _FIRST_RATIO),
        ("time to first event, p99", "first_p99", _FIRST_RATIO),
        ("between events, p99", "gap_p99", _GAP_RATIO),
    ):
        theirs, mine = _middle(direct, name), _middle(ours, name)
        table.add(f"{what}: direct", f"{theirs:.2f} ms")
        table.add(
            f"{what}: inferry",
            f"{mine:.2f} ms",
            ratio=mine / theirs,
            floor=ratio if streams <= _HELD else None,
            goal=ratio if streams <= _HELD else None,
            is_better_below=True,
        )
        table.add(
            f"{what}: added, to {_ADDED_MS:g} ms",
            f"{mine - theirs:+.2f} ms",
            ratio=(mine - theirs) / _ADDED_MS,
            floor=1.0 if streams <= _HELD else None,
            goal=1.0 if streams <= _HELD else None,
            is_better_below=True,
        )
    for name, heard in (("direct", direct), ("inferry", ours)):
        p50, p99 = _middle(heard, "way_p50"), _middle(heard, "way_p99")
        table.add(f"from write to read: {name}", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    passed = 2 * sum(one.events for one in ours)  # each stream is asked twice
    table.add("work of the server per event", f"{worked_s / passed * 1e6:.0f} µs of CPU")
    return table


def _middle(heard: list[Heard], name: str) -> float:
    return median(getattr(one, name) for one in heard)


def _listen(
    port: int, path: str, headers: dict[str, str], authority: Path | None, streams: int
) -> Heard:
    _, loading = cores()
    body = {"model": "m", "messages": _MESSAGES, **({"stream": True} if authority else {})}
    call = {
        "port": port,
        "path": path,
        "headers": {"Content-Type": "application/json", **headers},
        "body": json.dumps(body),
        "streams": streams,
        "lasts_s": FIRST_S + EVENTS * EVERY_S,
        "authority": authority and str(authority),
    }
    script = str(ROOT / "bench" / "listener.py")
    command = ["taskset", "-c", str(loading), sys.executable, script, json.dumps(call)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    first, gaps, ways = told["first_ms"], told["gaps_ms"], told["ways_ms"]
    return Heard(
        first_p50=_percentile(first, 50),
        first_p99=_percentile(first, 99),
        gap_p99=_percentile(gaps, 99),
        way_p50=_percentile(ways, 50),
        way_p99=_percentile(ways, 99),
        events=len(ways),
    )


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def _put(server: Inferry, url: str) -> None:
    settings = {"api_key": "sk-test", "model_id": "m", "url": url, "rate_limit": NO_LIMIT}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(
        "PUT",
        "/_inference/chat_completion/chat",
        body=json.dumps({"service": "openai", "service_settings": settings}),
        headers={"Authorization": server.authorization, "Content-Type": "application/json"},
    )
    reply = connection.getresponse()
    told = reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(told)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a key and a certificate of 127.0.0.1 that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths
