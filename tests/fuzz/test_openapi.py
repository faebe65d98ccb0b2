"""The description of every call holds: what it allows is understood, what it forbids is refused.

Requests are generated from `/openapi.json` by schemathesis, as the schema has them and against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.endpoints import ENDPOINTS, LOOPBACK_ONLY, create_endpoints
from tests.providers import run_provider
from tests.server import Server, basic, run_server

CHECKED = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
TIMEOUT_S = 30.0
CALLER, PASSWORD = "caller", "a password of the caller"
pytestmark = [pytest.mark.server, pytest.mark.fuzz]


@dataclass
class Caller:
    """Sends cases as a superuser whom no call of its own locks out for long."""

    server: Server
    document: dict[str, Any]
    answered: Counter[int] = field(default_factory=Counter)

    def operations(self) -> Iterator[Any]:
        config = SchemathesisConfig()
        config.projects.default.generation.update(with_security_parameters=False)
        schema = schemathesis.openapi.from_dict(self.document, config=config)
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result
            yield result.ok()

    def check(self, case: Case[Any]) -> None:
        """Send a case and hold its answer against the document."""
        case.query.pop("filter_path", None)  # gives an answer that is not whole
        if case.method in {"GET", "POST"} and self.answered.total() % 2:
            self._aim(case)
        response = self._send(case)
        if response.status_code == 401:
            self.enter()
            response = self._send(case)
        self.answered[response.status_code] += 1
        assert response.status_code < 500, response.content
        assert response.headers["x-elastic-product"] == ["Elasticsearch"]
        case.validate_response(response, checks=CHECKED)

    def enter(self) -> None:
        """Be somebody who may do everything."""
        body = {"password": PASSWORD, "roles": ["superuser"]}
        made = self.server.call("PUT", f"/_security/user/{CALLER}", body)
        assert made.status == 200, made.content

    def _aim(self, case: Case[Any]) -> None:
        """Name an endpoint that exists."""
        inference_id, task_type = list(ENDPOINTS.items())[self.answered.total() % len(ENDPOINTS)]
        if "inference_id" in case.path_parameters:
            case.path_parameters["inference_id"] = inference_id
            if "task_type" in case.path_parameters:
                case.path_parameters["task_type"] = task_type
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = inference_id

    def _send(self, case: Case[Any]) -> Any:
        headers = {"Authorization": basic(CALLER, PASSWORD)}
        return case.call(base_url=self.server.url, headers=headers, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Run a server with endpoints."""
    data_dir = tmp_path_factory.mktemp("openapi") / "data"
    with (
        run_provider() as provider,
        run_server(data_dir, auth=True, environment=LOOPBACK_ONLY) as server,
    ):
        create_endpoints(server, provider.url)
        caller = Caller(server, server.call("GET", "/openapi.json").json)
        caller.enter()
        yield caller


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_call_answers_as_it_is_described(caller, figures, mode) -> None:
    caller.answered.clear()
    each = max(4, settings().max_examples // 100)
    for operation in caller.operations():

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=each,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        )
        def hold(case: Case[Any]) -> None:
            caller.check(case)

        hold()

    figures[f"from the description, {mode.value}"] = Counter(caller.answered)
    good = sum(count for status, count in caller.answered.items() if status < 300)
    assert caller.answered.total() >= each * 40
    assert mode is not GenerationMode.POSITIVE or good * 5 >= caller.answered.total()
