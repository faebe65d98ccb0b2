"""The reference page of the API, live: its example, from the package of the model to the answer.

Sources: https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-inference-get and
`-inference-put`. The package server is slow, the client has its default settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.clients.conftest import drive_python
from tests.models.repositories import PackageServer, serve_packages
from tests.server import Server, run_server

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.numeric.packaged import E5, Elser, Rerank

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]

PAGE = {
    "inference_id": "my-elser-model",
    "task_type": "sparse_embedding",
    "service": "elser",
    "service_settings": {"num_allocations": 1, "num_threads": 1},
    "task_settings": {},
}
TEXT = "who is the man that was there before them"
CLOSE = 1e-5
DEFAULT_TIMEOUT_S = 10.0
SLOWEST_S = 40.0


@dataclass
class Page:
    """A server whose built-in models come from a package server, and the models in Python."""

    server: Server
    site: PackageServer
    api_key: str
    elser: Elser = field(default_factory=Elser)
    e5: E5 = field(default_factory=E5)
    rerank: Rerank = field(default_factory=Rerank)

    def put(self, task_type: str, model_id: str) -> str:
        """Create an endpoint on a model, wait for it, and give its path."""
        path = f"/_inference/{task_type}/on{model_id}"
        settings = {"model_id": model_id, "num_allocations": 1, "num_threads": 1}
        body = {"service": "elasticsearch", "service_settings": settings}
        created = self.server.call("PUT", f"{path}?timeout=120s", body)
        assert created.status == 200, created.content
        return path


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Page]:
    with serve_packages() as site:
        environment = {
            "INFERRY_MODELS__REPOSITORY": site.url,
            "INFERRY_MODELS__ALIASES": f".multilingual-e5-small={site.url}",
            "INFERRY_ENGINE__PRECISION": "f32",
        }
        data_dir = tmp_path_factory.mktemp("page") / "data"
        with run_server(data_dir, auth=True, environment=environment) as server:
            created = server.call("POST", "/_security/api_key", {"name": "page"})
            found = Page(server, site, created.json["encoded"])
            for model in (found.elser, found.e5, found.rerank):
                site.files |= model.files()
            yield found


@pytest.fixture(scope="module", params=[3.0, pytest.param(SLOWEST_S, marks=pytest.mark.soak)])
def seen(request, page) -> dict[str, Any]:
    """Do what the page does, and give what the client saw."""
    page.server.call("DELETE", "/_inference/my-elser-model")
    page.server.call("DELETE", "/_ml/trained_models/.elser_model_2_linux-x86_64?force=true")
    page.site.pace_s = request.param
    answers: dict[str, Any] = drive_python(
        "elasticsearch9", "reference_page.py", page.server.url, page.api_key, TEXT
    )
    page.site.pace_s = 0.0
    return {**answers, "pace": request.param}


def test_the_answer_of_the_page_is_ours_member_by_member(seen):
    for answer in (seen["get"], seen["get at the end"]):
        flat = {name: value for name, value in answer.items() if name != "endpoints"}
        assert flat == PAGE
        (listed,) = answer["endpoints"]
        assert {**listed, **PAGE} == listed | {"task_settings": {}}


def test_the_client_need_not_wait_for_the_download(seen):
    if seen["pace"] > DEFAULT_TIMEOUT_S:
        assert seen["gave up"]
        assert seen["seconds"] < seen["pace"]
    elif seen["put"] is not None:
        assert seen["put"]["inference_id"] == "my-elser-model"
        (warning,) = seen["warnings"]
        assert warning.startswith("The [elser] service is deprecated")


def test_tokens_have_the_weights_that_the_model_gives_them(seen, page):
    (found,) = seen["post"]["sparse_embedding"]

    assert found["is_truncated"] is False
    assert found["embedding"] == pytest.approx(page.elser.weights(TEXT), abs=CLOSE)


def test_the_model_is_listed_and_whole(seen):
    (model,) = seen["model"]["trained_model_configs"]

    assert model["fully_defined"] is True
    assert model["model_package"]["packaged_model_id"] == "elser_model_2"
    assert list(model["inference_config"]) == ["text_expansion"]


def test_e5_of_a_package_embeds_after_its_prefix(page):
    path = page.put("text_embedding", ".multilingual-e5-small")

    for input_type, prefix in (("search", "who "), ("ingest", "this "), (None, "")):
        given = {"input_type": input_type} if input_type else {}
        reply = page.server.call("POST", path, {"input": ["the man", "one time"], **given})
        for text, found in zip(("the man", "one time"), reply.json["text_embedding"], strict=True):
            expected = page.e5.vector(prefix + text)
            assert found["embedding"] == pytest.approx(expected, abs=CLOSE)


def test_a_package_is_started_and_asked_directly_as_an_upload_is(page):
    server, model = page.server, "/_ml/trained_models/.multilingual-e5-small"
    started = server.call("POST", f"{model}/deployment/_start?deployment_id=e5&timeout=120s")
    docs = [{"text_field": "the man"}, {"text_field": "one time"}]
    found = server.call("POST", "/_ml/trained_models/e5/_infer?timeout=60s", {"docs": docs})
    refused = server.call("DELETE", model)
    server.call("POST", "/_ml/trained_models/e5/deployment/_stop")

    assert started.json["assignment"]["assignment_state"] == "started"
    for doc, result in zip(docs, found.json["inference_results"], strict=True):
        expected = page.e5.vector(doc["text_field"])
        assert result["predicted_value"] == pytest.approx(expected, abs=CLOSE)
    assert refused.status == 409


def test_the_reranker_of_a_package_gives_the_scores_of_the_model(page):
    path = page.put("rerank", ".rerank-v1")
    documents = ["the man was there", "one time", "she has been with their man"]

    reply = page.server.call("POST", path, {"query": "who is the man", "input": documents})

    scores = {one["index"]: one["relevance_score"] for one in reply.json["rerank"]}
    for number, document in enumerate(documents):
        expected = page.rerank.score("who is the man", document)
        assert scores[number] == pytest.approx(expected, abs=CLOSE)
