"""The OpenAI clients for Python and JavaScript, unchanged, on `/v1` of a running server."""

import pytest

from tests.clients.conftest import drive_node, drive_python
from tests.clients.tool_calls import ARGUMENTS
from tests.providers import vector_of

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module", params=["python", "javascript"])
def seen(request, openai_site):
    """Give what a client saw."""
    given = openai_site.server.url, openai_site.api_key, "v1-embed", "v1-chat"
    if request.param == "python":
        return drive_python("openai", "openai_calls.py", *given)
    return drive_node("openai_calls.mjs", *given)


def test_vectors_are_the_same_as_numbers_and_as_base64(seen):
    vectors = [vector_of("a"), vector_of("b")]

    assert seen["embeddings"]["float"] == vectors
    assert seen["embeddings"]["default"] == vectors
    assert seen["embeddings"]["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


def test_token_ids_are_refused_with_the_way_out(seen):
    refused = seen["embeddings"]["token ids"]

    assert (refused["status"], refused["param"]) == (400, "input")
    assert "check_embedding_ctx_length=False" in refused["message"]


def test_a_model_that_is_no_endpoint_is_not_found(seen):
    refused = seen["embeddings"]["nowhere"]

    assert (refused["status"], refused["code"]) == (404, "model_not_found")


def test_a_chat_is_answered(seen):
    whole = seen["chat"]["whole"]

    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"] == "You said: hello"
    assert whole["usage"]["total_tokens"] == 7


def test_a_chat_is_streamed(seen):
    *chunks, last = seen["chat"]["chunks"]

    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == "You said: hello"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 7)


@pytest.mark.parametrize("way", ["tools", "streamed tools"])
def test_a_tool_is_called(seen, way):
    (call,) = seen["chat"][way]["tool_calls"]

    assert (call["id"], call["type"]) == ("call_1", "function")
    assert call["function"]["name"] == "weather"
    assert call["function"]["arguments"] == ARGUMENTS


def test_a_chat_goes_on_after_a_tool(seen):
    answer = seen["chat"]["after tools"]

    assert answer["choices"][0]["message"]["content"] == "You said: sunny"


def test_models_are_listed_and_shown(seen):
    assert {"v1-embed", "v1-chat"} <= set(seen["models"])
    assert seen["model"]["id"] == "v1-chat"
    assert seen["model"]["owned_by"] == "openai"


def test_a_client_may_be_aimed_at_one_endpoint(seen):
    assert seen["aimed"]["choices"][0]["message"]["content"] == "You said: hello"


def test_a_wrong_key_is_an_authentication_error(seen):
    assert (seen["stranger"]["status"], seen["stranger"]["code"]) == (401, "invalid_api_key")
