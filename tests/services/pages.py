"""Write `docs/services/<name>.md` of every hosted service: `python -m tests.services.pages`.

Settings, limits and errors are those of its declaration, the examples the endpoints of its files.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inferry.domain import TaskType
from inferry.errors import Retry
from inferry.fields import Field
from inferry.service import Service
from tests.services.cases import SERVICES
from tests.services.offers import OFFERS, Offer, body_of, unmeasured

FOLDER = Path(__file__).parents[2] / "docs/services"
HOSTED = [service for service in SERVICES.values() if service.auth is not None]
_INTRODUCTION = re.compile(r"(?P<words>.*?)\n+Sources?: (?P<sources>https.*)", re.DOTALL)
_TYPES = {
    "int": "whole number",
    "long": "whole number",
    "float": "number",
    "str": "text",
    "url": "URL",
    "bool": "`true`, `false`",
    "list": "list of texts",
    "map": "object",
}
_RETRIES = {Retry.YES: "yes", Retry.NO: "no", Retry.SHORTER: "with inputs cut in half"}
_INPUTS: Mapping[TaskType, dict[str, Any]] = {
    TaskType.TEXT_EMBEDDING: {"input": ["The sky above the port"]},
    TaskType.EMBEDDING: {"input": ["The sky above the port"]},
    TaskType.SPARSE_EMBEDDING: {"input": ["The sky above the port"]},
    TaskType.RERANK: {"query": "sky", "input": ["The port", "The sky above the port"]},
    TaskType.COMPLETION: {"input": "What is above the port?"},
    TaskType.CHAT_COMPLETION: {
        "messages": [{"role": "user", "content": "What is above the port?"}]
    },
}


def page_of(service: Service) -> str:
    """Give the page of a service."""
    module = importlib.import_module(f"inferry.services.{service.name}")
    found = _INTRODUCTION.match(module.__doc__ or "")
    assert found is not None, f"the docstring of {module.__name__} names no source"
    offers = [offer for offer in OFFERS if offer.service.name == service.name]
    parts = [
        f"# {service.title}\n",
        "<!-- Written by `make docs` from the declaration of the service; a test holds it. -->\n",
        f"Service `{service.name}`.\n\n{found['words'].strip()}\n",
        f"Documentation of the provider: {' '.join(found['sources'].split())}\n",
        *(_example(offer) for offer in offers),
        _settings(
            "Service settings", [(one.task_type, one.task.service_settings) for one in offers]
        ),
        _settings("Task settings", [(one.task_type, one.task.task_settings) for one in offers]),
        _limits(service, offers),
        _errors(service),
    ]
    return "\n".join(part for part in parts if part)


def example_body(offer: Offer) -> str:
    """Give the body of a PUT, its secrets by name."""
    body = body_of(unmeasured(offer))
    body["service_settings"] |= {name: f"<{name}>" for name in offer.case.request.endpoint.secrets}
    return json.dumps({name: value for name, value in body.items() if value}, indent=2)


def _example(offer: Offer) -> str:
    name = f"{offer.task_type}/my-{offer.service.name.replace('_', '-')}"
    return "\n".join(
        [
            f"## {offer.task_type}\n",
            "```sh",
            _curl("PUT", name, example_body(offer)),
            "",
            _curl("POST", _run_path(offer, name), json.dumps(_INPUTS[offer.task_type])),
            "```\n",
        ]
    )


def _run_path(offer: Offer, name: str) -> str:
    return f"{name}/_stream" if offer.task_type is TaskType.CHAT_COMPLETION else name


def _curl(method: str, path: str, body: str) -> str:
    return (
        f"curl -X {method} 'http://127.0.0.1:9210/_inference/{path}' \\\n"
        f"  -H 'Content-Type: application/json' -d '{body}'"
    )


def _settings(title: str, scopes: list[tuple[TaskType, tuple[Field, ...]]]) -> str:
    tasks: dict[str, list[TaskType]] = {}
    fields: dict[str, Field] = {}
    for task_type, declared in scopes:
        for field in declared:
            if not field.derived:
                fields.setdefault(field.name, field)
                tasks.setdefault(field.name, []).append(task_type)
    if not fields:
        return ""
    lines = [
        f"## {title}\n",
        "| name | takes | default | tasks | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, field in fields.items():
        offered = "all" if len(tasks[name]) == len(scopes) else ", ".join(tasks[name])
        cells = [f"`{name}`", _takes(field), _default(field, scopes), offered, _help(field)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _takes(field: Field) -> str:
    if field.choices:
        return ", ".join(f"`{choice}`" for choice in field.choices)
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("from", field.at_least), ("to", field.at_most))
        if bound is not None
    ]
    return " ".join([_TYPES[field.type], *bounds])


def _default(field: Field, scopes: list[tuple[TaskType, tuple[Field, ...]]]) -> str:
    if field.required or field.shown_required:
        return "required"
    values = {
        one.default for _, declared in scopes for one in declared if one.name == field.name
    } - {None}
    return ", ".join(f"`{value}`" for value in sorted(values, key=str, reverse=True))


def _help(field: Field) -> str:
    marks = ["Secret."] * field.secret + ["Can be updated."] * field.updatable
    return " ".join([field.help, *marks]).strip()


def _limits(service: Service, offers: list[Offer]) -> str:
    lines = [
        "## Limits\n",
        "What is larger than a call takes is sent in several and joined in order. `rate_limit`",
        "replaces the requests per minute, which the endpoints of one account share.\n",
        "| task | inputs per call | tokens per call | requests per minute | similarity | streams |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [" | ".join(_limits_of(offer)) for offer in offers]
    return "\n".join(lines) + "\n"


def _limits_of(offer: Offer) -> Iterator[str]:
    task, service = offer.task, offer.service
    batch = str(offer.batch or "any number")
    yield f"| {offer.task_type}"
    yield (
        "1" if offer.task_type.is_generative else batch + ", by its settings" * bool(task.batch_of)
    )
    yield str(task.max_tokens or "any number")
    yield str(task.requests_per_minute or service.requests_per_minute)
    yield task.default_similarity or "-"
    yield f"{'yes' if task.decode else 'no'} |"


def _errors(service: Service) -> str:
    lines = [
        "## Errors\n",
        "The first row that fits, and whether the call is sent again (three times at most, after",
        "`Retry-After` where the provider names it, within the time limit of the request).\n",
        "| status | message begins with | sent again |",
        "| --- | --- | --- |",
    ]
    for row in service.errors:
        status = str(row.first) if row.first == row.last else f"{row.first}-{row.last}"
        status += f", saying `{row.contains}`" if row.contains else ""
        lines.append(f"| {status} | `{row.text}` | {_RETRIES[row.retry]} |")
    return "\n".join(lines) + "\n"


def index() -> str:
    """Give the list of the services."""
    lines = [
        "# Hosted services\n",
        "<!-- Written by `make docs` from the declarations; a test holds it. -->\n",
        "What is proven of each stands in the [matrix](matrix.md); how to add one, in",
        "[services](../services.md).\n",
        "| service | | tasks |",
        "| --- | --- | --- |",
    ]
    for service in sorted(HOSTED, key=lambda one: one.name):
        offered = ", ".join(kind for kind in TaskType if kind in service.tasks)
        lines.append(f"| [`{service.name}`]({service.name}.md) | {service.title} | {offered} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """Give every page with its place."""
    found = {FOLDER / f"{service.name}.md": page_of(service) for service in HOSTED}
    return {FOLDER / "index.md": index(), **found}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
