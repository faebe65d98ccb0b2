"""The service in the documentation works as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from inferry.calls import HttpReply
from inferry.domain import Deadline, Endpoint, InferenceRequest, TaskType
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask, Service
from inferry.vectors import JsonVector

PAGE = Path(__file__).parents[2] / "docs/services.md"


@pytest.fixture
def service() -> Service:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {"__name__": "documented"}
    exec(compile("\n".join(blocks), PAGE, "exec", dont_inherit=True), names)
    found = names["SERVICE"]
    assert isinstance(found, Service)
    return found


def test_the_documented_service_takes_settings_builds_a_call_and_reads_the_reply(service):
    task = service.tasks[TaskType.TEXT_EMBEDDING]
    assert isinstance(task, HttpTask)
    given = {"model_id": "m", "api_key": "k"}

    parsed = parse_settings(
        task.service_settings, given, scope="service_settings", purpose=Purpose.CREATE
    )
    endpoint = Endpoint("mine", TaskType.TEXT_EMBEDDING, "acme", parsed.values)
    request = InferenceRequest(endpoint, Deadline.after(1, "1s"), ("a",))
    result = task.parse(HttpReply(200, {}, b'{"vectors": [[1, 2]]}'), request)

    assert (parsed.problems, parsed.secrets) == ([], {"api_key": "k"})
    assert json.loads(task.build(request).body) == {"model": "m", "texts": ["a"], "truncate": False}
    assert vectors_of(result) == (JsonVector(b"[1,2]", 2),)


def vectors_of(result) -> tuple[JsonVector, ...]:
    vectors: tuple[JsonVector, ...] = result.vectors
    return vectors


def test_the_page_names_every_part_of_a_service():
    page = PAGE.read_text()

    named = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))

    assert {"build", "parse", "decode", "framing", "auth", "errors", "error_message"} <= named
    assert {"check", "group", "adopt", "Field"} <= named
