"""The official Elasticsearch clients, unchanged, against a running server.

Sources: https://www.elastic.co/docs/api/doc/elasticsearch/group/endpoint-inference and the clients'
own releases named in the Makefile and in js/package.json.
"""

import pytest

from tests.clients.conftest import drive_node, drive_python
from tests.providers import vector_of

pytestmark = pytest.mark.clients

FORMS = ("none", "all", "id", "task and all", "task and id")
PYTHON = ("elasticsearch9", "elasticsearch8")


@pytest.fixture(scope="module", params=PYTHON)
def python(request, site):
    """Give what a Python client saw."""
    server = site.server
    return drive_python(
        request.param, "elasticsearch_calls.py", server.url, site.api_key, site.provider
    )


@pytest.fixture(scope="module")
def node(site):
    """Give what the JavaScript client saw."""
    server = site.server
    return drive_node("elasticsearch_calls.mjs", server.url, site.api_key, site.provider)


def check_stored(endpoint, inference_id, task_type):
    assert endpoint["inference_id"] == inference_id
    assert endpoint["task_type"] == task_type
    assert endpoint["service"] == "openai"
    assert endpoint["service_settings"]["model_id"] == "model-1"
    assert "api_key" not in endpoint["service_settings"]


def check_get(seen, inference_id):
    """Every form answers `endpoints`; one endpoint has its members beside it too."""
    assert set(seen) == set(FORMS)
    for answer in seen.values():
        assert inference_id in {one["inference_id"] for one in answer["endpoints"]}
    for form in ("id", "task and id"):
        assert len(seen[form]["endpoints"]) == 1
        assert seen[form]["inference_id"] == inference_id
    for form in ("none", "all", "task and all"):
        assert list(seen[form]) == ["endpoints"]
    types = {one["task_type"] for one in seen["task and all"]["endpoints"]}
    assert types == {"text_embedding"}


# --- Python ------------------------------------------------------------------------------------


def test_python_recognises_the_product(python):
    assert python["ping"] is True
    assert python["info"]["tagline"] == "You Know, for Search"


def test_python_creates_endpoints(python):
    check_stored(python["put"], "py-embed", "text_embedding")
    check_stored(python["put_openai"], "py-write", "completion")
    assert python["put again"]["type"] == "resource_already_exists_exception"


def test_python_gets_endpoints_in_every_form_of_the_reference_page(python):
    check_get(python["get"], "py-embed")


def test_python_raises_its_own_error_for_an_endpoint_that_is_not_there(python):
    assert python["get nowhere"]["status"] == 404
    assert python["get nowhere"]["type"] == "resource_not_found_exception"


def test_python_embeds(python):
    assert python["inference"] == {
        "text_embedding": [{"embedding": vector_of("a")}, {"embedding": vector_of("b")}]
    }
    one = {"text_embedding": [{"embedding": vector_of("a")}]}
    assert python["typed inference"] == one
    assert python["text_embedding"] == one


def test_python_packs_what_it_sends_and_unpacks_what_it_gets(python):
    assert len(python["packed"]["text_embedding"]) == 40


def test_python_completes(python):
    assert python["completion"] == {"completion": [{"result": "You said: hello"}]}


def test_python_clears_the_cache_of_a_deployment(python):
    seen = python["deployment"]
    assert seen["clear"] == {"cleared": True}
    assert seen["stop"] == {"stopped": True}
    assert seen["clear again"]["status"] == 404
    assert seen["clear again"]["type"] == "resource_not_found_exception"


def test_python_updates_an_endpoint(python):
    assert python["update"]["task_settings"] == {"user": "ada"}


def test_python_deletes_endpoints(python):
    assert python["dry delete"]["acknowledged"] is False
    assert python["delete"]["acknowledged"] is True
    assert python["typed delete"]["acknowledged"] is True


# --- JavaScript --------------------------------------------------------------------------------


def test_javascript_recognises_the_product(node):
    assert node["ping"] is True
    assert node["info"]["tagline"] == "You Know, for Search"


def test_javascript_creates_endpoints(node):
    check_stored(node["put"], "js-embed", "text_embedding")
    check_stored(node["putOpenai"], "js-write", "completion")


def test_javascript_gets_endpoints_in_every_form_of_the_reference_page(node):
    check_get(node["get"], "js-embed")
    assert node["getNowhere"]["type"] == "resource_not_found_exception"


def test_javascript_embeds_and_completes(node):
    assert node["inference"] == {
        "text_embedding": [{"embedding": vector_of("a")}, {"embedding": vector_of("b")}]
    }
    assert node["textEmbedding"] == {"text_embedding": [{"embedding": vector_of("a")}]}
    assert node["completion"] == {"completion": [{"result": "You said: hello"}]}


def test_javascript_streams_a_completion(node):
    events = node["streamCompletion"].split("\n\n")

    assert events[0] == 'event: message\ndata: {"completion":[{"delta":"You"}]}'
    assert events[-2:] == ["event: message\ndata: [DONE]", ""]


def test_javascript_streams_a_chat(node):
    events = node["chat"].split("\n\n")

    assert events[0].startswith('event: message\ndata: {"id":"chatcmpl-1","choices":[')
    assert '"content":"You"' in node["chat"]
    assert events[-2:] == ["event: message\ndata: [DONE]", ""]


def test_javascript_updates_and_deletes(node):
    assert node["update"]["task_settings"] == {"user": "ada"}
    assert node["dryDelete"]["acknowledged"] is False
    assert node["delete"]["acknowledged"] is True
    assert node["typedDelete"]["acknowledged"] is True
