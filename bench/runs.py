"""POST through the service `openai` to a loopback upstream, beside everything one compares it with.

Beside direct calls of the upstream, a bare ASGI proxy with aiohttp, and LiteLLM's proxy where
`LITELLM_BIN` names its launcher.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bench.load import Call, apply_load
from bench.processes import ROOT, Inferry, cores, free_port, inferry, megabytes, running
from bench.reads import uvicorn
from bench.report import Plan, Table, alternate, middle, shown
from bench.seed import NO_LIMIT

_TEXT = "the quick brown fox jumps over the lazy dog"
_MESSAGES = [{"role": "user", "content": "tell me a short story about a fox"}]
_LITELLM_KEY = "sk-" + "bench0123456789abcdefXYZ" * 2  # LiteLLM refuses to start with a weak one
_MANY = 64

Others: TypeAlias = Mapping[str, tuple[int, int]]
"""Port and process of each candidate beside ours."""


@dataclass(frozen=True)
class Case:
    """One kind of call, as each candidate takes it.

    upstream: the route and body of the provider; ours: the route and body of the Inference API.
    """

    name: str
    route: str
    body: Mapping[str, object]
    path: str
    asked: Mapping[str, object]


_CASES = (
    Case(
        "text_embedding, 1,536 numbers",
        "/v1/embeddings",
        {"model": "embed", "input": [_TEXT]},
        "/_inference/text_embedding/embed",
        {"input": [_TEXT]},
    ),
    Case(
        "chat",
        "/v1/chat/completions",
        {"model": "chat", "messages": _MESSAGES},
        "/_inference/chat_completion/chat",
        {"messages": _MESSAGES},
    ),
    Case(
        "chat, stream of 50 events",
        "/v1/chat/completions",
        {"model": "chat", "messages": _MESSAGES, "stream": True},
        "/_inference/chat_completion/chat/_stream",
        {"messages": _MESSAGES},
    ),
)


def measure_runs(plan: Plan) -> list[Table]:
    """Give the figures of runs, of their latency without load, and of memory under them."""
    measured, loading = cores()
    upstream, proxy = free_port(), free_port()
    command = [sys.executable, str(ROOT / "bench" / "upstream.py"), str(upstream)]
    with ExitStack() as stack:
        enter = stack.enter_context
        provider = enter(running(command, core=loading, port=upstream))
        environment = {"UPSTREAM": f"http://127.0.0.1:{upstream}"}
        bare = enter(
            running(
                uvicorn("bench.proxy:application", proxy),
                core=measured,
                port=proxy,
                environment=environment,
            )
        )
        server = enter(inferry(plan.folder / "runs", core=measured))
        for task_type, name, route in (
            ("text_embedding", "embed", "/v1/embeddings"),
            ("chat_completion", "chat", "/v1/chat/completions"),
        ):
            # Without a limit, which would be measured instead.
            settings = {"api_key": "sk-test", "model_id": "m", "rate_limit": NO_LIMIT}
            settings |= {"url": f"http://127.0.0.1:{upstream}{route}"}
            definition = {"service": "openai", "service_settings": settings}
            server.put(task_type, name, definition)
        others = {"direct": (upstream, provider.pid), "bare proxy": (proxy, bare.pid)}
        litellm = os.environ.get("LITELLM_BIN")
        if litellm:
            others["LiteLLM"] = enter(_litellm(litellm, upstream, plan.folder, measured))
        tables = [_loaded(server, others, plan), _unloaded(server, others, plan)]
        memory = Table("Memory (resident) after these runs, MB")
        for name, weight in server.memory().items():
            memory.add(f"inferry, {name}", f"{weight:.1f}")
        memory.add("bare proxy", f"{megabytes(bare.pid):.1f}")
        if litellm:
            memory.add("LiteLLM", f"{megabytes(others['LiteLLM'][1]):.1f}")
    return [*tables, memory]


def _loaded(server: Inferry, others: Others, plan: Plan) -> Table:
    table = Table(f"POST, {_MANY} connections, gateway on one core")
    _, loading = cores()
    load = partial(apply_load, connections=_MANY, seconds=plan.seconds, core=loading)
    for case in _CASES:
        calls = _calls(case, server, others)
        loads = alternate(
            {name: partial(load, call) for name, call in calls.items()}, rounds=plan.rounds
        )
        medians = {name: middle(several) for name, several in loads.items()}
        yardstick = medians["bare proxy"].per_second
        for name, found in medians.items():
            is_held = name == "inferry" and "stream" not in case.name
            table.add(
                f"{case.name}: {name}",
                shown(found),
                ratio=found.per_second / yardstick,
                floor=0.65 if is_held else None,
                goal=0.85 if is_held else None,
            )
    return table


def _unloaded(server: Inferry, others: Others, plan: Plan) -> Table:
    """Time single calls; the ratio is what a gateway adds, to what the bare proxy adds."""
    table = Table("POST, 1 connection: latency added to direct calls")
    _, loading = cores()
    load = partial(apply_load, connections=1, seconds=plan.seconds, core=loading)
    for case in _CASES:
        calls = _calls(case, server, others)
        loads = alternate(
            {name: partial(load, call) for name, call in calls.items()}, rounds=plan.rounds
        )
        medians = {name: middle(several) for name, several in loads.items()}
        direct = medians.pop("direct").p50_ms
        bare = medians["bare proxy"].p50_ms - direct
        for name, found in medians.items():
            added = found.p50_ms - direct
            table.add(f"{case.name}: {name}", f"+{added:.2f} ms (p50)", ratio=added / bare)
    return table


def _calls(case: Case, server: Inferry, others: Others) -> dict[str, Call]:
    """Give the call of each candidate; ours in both dialects."""
    as_json = {"Content-Type": "application/json"}
    keyed = {**as_json, "Authorization": f"Bearer {_LITELLM_KEY}"}
    body, asked = json.dumps(case.body), json.dumps(case.asked)
    calls = {
        name: Call(port, pid, case.route, "POST", keyed, body)
        for name, (port, pid) in others.items()
    }
    ours = {**as_json, "Authorization": server.authorization}
    calls["inferry"] = Call(server.port, server.process.pid, case.path, "POST", ours, asked)
    calls["inferry, /v1"] = Call(server.port, server.process.pid, case.route, "POST", ours, body)
    return calls


@contextmanager
def _litellm(launcher: str, upstream: int, folder: Path, core: int) -> Iterator[tuple[int, int]]:
    """Run LiteLLM's proxy, offline, in front of the upstream."""
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{model}",
                "api_base": f"http://127.0.0.1:{upstream}/v1",
                "api_key": "sk-test",
            },
        }
        for name, model in (("embed", "text-embedding-3-small"), ("chat", "gpt-4o-mini"))
    ]
    config = folder / "litellm.yaml"
    config.write_text(  # JSON is YAML
        json.dumps(
            {
                "model_list": models,
                "litellm_settings": {"set_verbose": False, "telemetry": False},
                "general_settings": {"master_key": _LITELLM_KEY},
            }
        )
    )
    port = free_port()
    command = [launcher, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "NO_PROXY": "*",
    }
    started = running(
        [*command, "--num_workers", "1"], core=core, port=port, environment=environment
    )
    with started as process:
        yield port, process.pid
