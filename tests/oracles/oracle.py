"""What an oracle is: a vendor's SDK that is told the same logical request as our service.

Each module of `vendors/` names its `ORACLES`. Together they prove our wire format against the SDK
that is installed, not the behaviour of the provider itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inferry.domain import ChatChunk, InferenceRequest, TaskType
from inferry.service import HttpTask
from tests.services.cases import SERVICES, Case, shown

VENDORS = Path(__file__).parent / "vendors"


@dataclass(frozen=True, slots=True)
class Oracle:
    """A pair of a service and the SDK of its vendor.

    package: the distribution of the SDK. tasks: those it speaks.
    ask: says the request of a case to the server at an origin and gives what the SDK makes of the
    reply; of a stream, the list of its chunks.
    read: puts that in the words of `shown`, of a stream in those of `folded`. What the SDK does not
    tell is left out, but never the vectors, texts or choices themselves.
    token: a constant bearer that stands for the token which both would fetch.
    covers: which cases of those tasks the SDK is asked, where a service speaks several formats.
    """

    service: str
    package: str
    tasks: tuple[TaskType, ...]
    ask: Callable[[Case, str], Awaitable[Any]]
    read: Callable[[Any, Case], dict[str, Any]]
    token: str = ""
    covers: Callable[[Case], bool] = lambda _: True

    def __str__(self) -> str:
        return f"{self.service} and {self.package} {version(self.package)}"


def all_oracles() -> list[Oracle]:
    """Give the oracles of every module of `vendors/`."""
    names = sorted(path.stem for path in VENDORS.glob("*.py"))
    modules = [importlib.import_module(f"tests.oracles.vendors.{name}") for name in names]
    return [oracle for module in modules for oracle in module.ORACLES]


def tasks_without_oracle() -> list[str]:
    """Name every hosted task that no SDK is asked for."""
    asked = {(oracle.service, task) for oracle in all_oracles() for task in oracle.tasks}
    return [
        f"{service.name} {kind}"
        for service in SERVICES.values()
        for kind, task in service.tasks.items()
        if isinstance(task, HttpTask) and (service.name, kind) not in asked
    ]


def texts_of(request: InferenceRequest) -> list[str]:
    """Give the inputs as texts."""
    return [one if isinstance(one, str) else one[0].value for one in request.inputs]


def folded(chunks: Iterable[ChatChunk]) -> dict[str, Any]:
    """Put the chunks of a stream together: text, tool calls, finish reasons, usage."""
    text, reasons, usage = "", [], None
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
            for call in choice.delta.tool_calls or []:
                whole = calls.setdefault(
                    call.index or 0, {"id": call.id or "", "name": "", "arguments": ""}
                )
                if call.function is not None:
                    whole["name"] += call.function.name or ""
                    whole["arguments"] += call.function.arguments or ""
    found: dict[str, Any] = {"text": text, "finish_reasons": reasons}
    found |= {"tool_calls": list(calls.values())} if calls else {}
    found |= {"usage": _counted(usage)} if usage else {}
    return found


def _counted(usage: Any) -> Any:
    return shown(ChatChunk("", [], usage=usage))["usage"]
