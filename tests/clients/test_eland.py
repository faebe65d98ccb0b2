"""The real `eland_import_hub_model` uploads and starts models; they say what they say in Python.

The key of the import has one privilege, `manage_ml`.
"""

import json
import subprocess

import pytest

from tests.clients.conftest import DRIVERS, ROOT
from tests.server import Server, run_server

pytestmark = pytest.mark.clients

TEXTS = ["the man is here with her", "they have been new in this house for years"]
QUERY = "who is the man"
CLOSE = 1e-5
DENSE = ("bert", "mpnet", "roberta", "xlm_roberta")
SPARSE = ("bert", "distilbert")
PAIRS = ("bert", "deberta")
LIMIT_S = 1200


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("eland") / "data"
    environment = {"INFERRY_ENGINE__PRECISION": "f32"}
    with run_server(data_dir, auth=True, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def imported(server: Server, tmp_path_factory):
    """Import every model once, and give what was seen."""
    python = ROOT / ".venv-clients" / "eland" / "bin" / "python"
    if not python.exists():
        pytest.skip("the environment of [eland] is not there; `make clients` makes it")
    descriptors = {"import": {"cluster": ["manage_ml"]}}
    body = {"name": "eland", "role_descriptors": descriptors}
    key = server.call("POST", "/_security/api_key", body).json["encoded"]
    ended = subprocess.run(
        [str(python), str(DRIVERS / "eland_models.py"), server.url, key]
        + [str(tmp_path_factory.mktemp("models"))],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def check_import(seen):
    assert seen["code"] == 0, seen["output"]


def attach(server: Server, model_id: str, task_type: str) -> str:
    """Put an endpoint on the deployment that the import started."""
    body = {"service": "elasticsearch", "service_settings": {"deployment_id": model_id}}
    path = f"/_inference/{task_type}/on-{model_id}"
    reply = server.call("PUT", path, body)
    assert reply.status == 200, reply.content
    return path


@pytest.mark.parametrize("family", DENSE)
def test_row_1_an_imported_encoder_embeds_as_in_python(server, imported, family):
    seen = imported[f"{family} text_embedding"]
    check_import(seen)

    path = attach(server, seen["id"], "text_embedding")
    reply = server.call("POST", path, {"input": TEXTS})

    assert reply.status == 200, reply.content
    for found, expected in zip(reply.json["text_embedding"], seen["expected"], strict=True):
        assert found["embedding"] == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("family", SPARSE)
def test_row_1_an_imported_language_model_gives_weights_as_in_python(server, imported, family):
    seen = imported[f"{family} text_expansion"]
    check_import(seen)

    path = attach(server, seen["id"], "sparse_embedding")
    reply = server.call("POST", path, {"input": TEXTS})

    assert reply.status == 200, reply.content
    for found, expected in zip(reply.json["sparse_embedding"], seen["expected"], strict=True):
        assert found["embedding"] == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("family", PAIRS)
def test_row_1_an_imported_cross_encoder_ranks_as_in_python(server, imported, family):
    seen = imported[f"{family} text_similarity"]
    check_import(seen)

    path = attach(server, seen["id"], "rerank")
    reply = server.call("POST", path, {"query": QUERY, "input": TEXTS})

    assert reply.status == 200, reply.content
    scores = {one["index"]: one["relevance_score"] for one in reply.json["rerank"]}
    assert [scores[0], scores[1]] == pytest.approx(seen["expected"], abs=CLOSE)


def test_row_1_an_imported_classifier_answers_infer_as_in_python(server, imported):
    seen = imported["bert text_classification"]
    check_import(seen)

    body = {"docs": [{"text_field": text} for text in TEXTS]}
    reply = server.call("POST", f"/_ml/trained_models/{seen['id']}/_infer", body)

    assert reply.status == 200, reply.content
    for found, expected in zip(reply.json["inference_results"], seen["expected"], strict=True):
        odds = {one["class_name"]: one["class_probability"] for one in found["top_classes"]}
        assert odds == pytest.approx(expected, abs=CLOSE)
