"""Embeddings of LangChain and LlamaIndex for Elasticsearch, unchanged, on our server.

Both ask `_infer`: for an imported model by its own id, for its deployment, for an inference
endpoint. Their keys may run models and endpoints, and nothing else.
"""

import json

import pytest

from tests.clients.conftest import drive_python
from tests.clients.importing import run_importer
from tests.server import run_server

pytestmark = pytest.mark.clients

TEXTS = ["the man is here with her", "they have been new in this house for years"]
PRIVILEGES = ["monitor_ml", "monitor_inference"]
CLOSE = 1e-5


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Give a server with an imported encoder, what ids it has, and what it says in Python."""
    top = tmp_path_factory.mktemp("frameworks")
    environment = {"INFERRY_ENGINE__PRECISION": "f32"}
    (top / "models").mkdir()
    with (
        run_server(top / "data", auth=True, environment=environment) as server,
        run_importer(server, top / "models") as importer,
    ):
        seen = importer.start("bert", "text_embedding")
        path = importer.attach(seen["id"], "text_embedding")
        body = {"name": "frameworks", "role_descriptors": {"run": {"cluster": PRIVILEGES}}}
        key = server.call("POST", "/_security/api_key", body).json["encoded"]
        yield server, key, [seen["id"], path.rpartition("/")[2]], seen["expected"][""]


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_embeddings_of_a_framework_are_those_of_the_model(site, framework):
    server, key, ids, expected = site

    driver = f"{framework}_embeddings.py"
    seen = drive_python(framework, driver, server.url, key, *ids, given=json.dumps(TEXTS))

    assert set(seen) == set(ids)
    for documents, query in seen.values():
        for vector, wanted in zip([*documents, query], [*expected, expected[0]], strict=True):
            assert vector == pytest.approx(wanted, abs=CLOSE)
