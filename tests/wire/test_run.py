"""POST of endpoints, without a stream: rows 108-156."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.providers import embeddings, never_answer, refuse, send_json, vector_of
from tests.services import simulated
from tests.wire.waits import MULTIMODAL

ELSER = ".elser-2-elasticsearch"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def run(wire, path, body=None, **more):
    return wire.post(f"/_inference/{path}", body, **more)


def test_row_108_sparse_embeddings_come_one_per_input(wire):
    reply = run(wire, ELSER, {"input": ["cat", "dog"]})

    assert len(reply.json["sparse_embedding"]) == 2


def test_row_109_the_type_in_the_path_changes_nothing(wire):
    reply = run(wire, f"sparse_embedding/{ELSER}", {"input": ["cat"]})

    assert len(reply.json["sparse_embedding"]) == 1


def test_row_110_sparse_weights_are_positive(wire):
    [item] = run(wire, ELSER, {"input": "cat"}).json["sparse_embedding"]

    assert item["is_truncated"] is False
    assert min(item["embedding"].values()) > 0


def test_row_111_a_single_string_is_one_item(wire):
    reply = run(wire, wire.endpoint(), {"input": "x"})

    assert [item["embedding"] for item in reply.json["text_embedding"]] == [vector_of("x")]


def test_row_112_float_vectors_have_the_plain_root(wire):
    reply = run(wire, f"text_embedding/{wire.endpoint()}", {"input": ["x", "y"]})

    assert reply.status == 200
    assert list(reply.json) == ["text_embedding"]
    vectors = [item["embedding"] for item in reply.json["text_embedding"]]
    assert vectors == [vector_of("x"), vector_of("y")]


def test_row_113_byte_vectors_have_their_own_root(wire):
    wire.provider.always(simulated.answer)
    inference_id = wire.endpoint_of("cohere", "text_embedding", embedding_type="byte")

    reply = run(wire, inference_id, {"input": "x"})

    assert reply.json == {"text_embedding_bytes": [{"embedding": simulated.bytes_of("x")}]}


def test_row_114_bit_vectors_have_their_own_root(wire):
    wire.provider.always(simulated.answer)
    inference_id = wire.endpoint_of("cohere", "text_embedding", embedding_type="bit")

    reply = run(wire, inference_id, {"input": "x"})

    assert reply.json == {"text_embedding_bits": [{"embedding": simulated.bytes_of("x")}]}


def test_row_115_the_embedding_task_has_its_own_root(wire):
    reply = run(wire, wire.endpoint("embedding"), {"input": "x"})

    assert reply.json == {"embeddings": [{"embedding": vector_of("x")}]}


@MULTIMODAL
def test_row_116_several_items_of_one_content_give_one_vector(wire):
    inference_id = wire.endpoint_of("jinaai", "embedding")
    items = [{"type": "text", "value": "a"}, {"type": "text", "value": "b"}]

    reply = run(wire, inference_id, {"input": {"content": items}})

    assert len(reply.json["embeddings"]) == 1


def test_row_117_an_image_is_a_data_uri(wire):
    item = {"type": "image", "value": "aGVsbG8="}

    reply = run(wire, "embedding/any-id", {"input": {"content": item}})

    text = "base64 inputs must be specified as data URIs with the format"
    wire.refused(400, "illegal_argument_exception", text, reply)


def test_row_118_text_is_not_base64(wire):
    item = {"type": "text", "format": "base64", "value": "aGVsbG8="}

    reply = run(wire, "embedding/any-id", {"input": {"content": item}})

    text = "Data type [text] does not support data format [base64], supported formats are [text]"
    wire.refused(400, "illegal_argument_exception", text, reply)


def test_row_119_a_completion_is_a_list_of_one_result(wire):
    reply = run(wire, wire.endpoint("completion"), {"input": "hello"})

    assert reply.json == {"completion": [{"result": "You said: hello"}]}


def test_row_120_documents_are_ranked(wire):
    inference_id = wire.endpoint_of("cohere", "rerank")

    ranked = run(wire, inference_id, {"input": ["a", "b"], "query": "q"}).json["rerank"]

    assert ranked == sorted(ranked, key=lambda one: -one["relevance_score"])


def test_row_121_documents_are_returned_when_asked_for(wire):
    body = {"input": ["a"], "query": "q", "return_documents": True}

    assert run(wire, wire.endpoint_of("cohere", "rerank"), body).json["rerank"][0]["text"] == "a"


def test_row_122_documents_are_not_returned_by_themselves(wire):
    body = {"input": ["a"], "query": "q"}

    assert "text" not in run(wire, wire.endpoint_of("cohere", "rerank"), body).json["rerank"][0]


def test_row_123_top_n_limits_the_answer(wire):
    body = {"input": ["a", "b", "c"], "query": "q", "top_n": 2}

    assert len(run(wire, wire.endpoint_of("cohere", "rerank"), body).json["rerank"]) == 2


def test_row_124_top_n_is_at_least_one(wire):
    reply = run(wire, "rerank/any-id", {"input": ["a"], "query": "q", "top_n": 0})

    text = "Field [top_n] must be greater than or equal to 1"
    wire.refused(400, "action_request_validation_exception", text, reply)


def test_row_125_top_n_may_exceed_the_inputs(wire):
    body = {"input": ["a", "b"], "query": "q", "top_n": 9}

    assert len(run(wire, wire.endpoint_of("cohere", "rerank"), body).json["rerank"]) == 2


def test_row_126_ranking_needs_a_query(wire):
    reply = run(wire, "rerank/any-id", {"input": ["a"]})

    wire.refused(400, "illegal_argument_exception", "Required [query]", reply)


def test_row_127_a_query_is_not_empty(wire):
    reply = run(wire, "rerank/any-id", {"input": ["a"], "query": ""})

    text = "Field [query] cannot be empty"
    wire.refused(400, "action_request_validation_exception", text, reply)


def test_row_128_a_query_may_be_an_object(wire):
    body = {"input": ["a"], "query": {"type": "text", "value": "q"}}

    assert run(wire, wire.endpoint_of("cohere", "rerank"), body).status == 200


@pytest.mark.parametrize("body", [{}, {"input": None}])
def test_row_129_an_input_is_required(wire, body):
    reply = run(wire, f"text_embedding/{wire.endpoint()}", body)

    text = "Validation Failed: 1: Field [input] cannot be null;"
    wire.refused(400, "action_request_validation_exception", text, reply)


def test_row_130_an_input_is_not_empty(wire):
    reply = run(wire, wire.endpoint(), {"input": []})

    text = "Field [input] cannot be an empty array"
    wire.refused(400, "action_request_validation_exception", text, reply)


def test_row_131_embeddings_take_no_query(wire):
    reply = run(wire, "text_embedding/any-id", {"input": "x", "query": "q"})

    text = "Field [query] cannot be specified for task type [text_embedding]"
    wire.refused(400, "action_request_validation_exception", text, reply)


def test_row_132_completions_take_no_top_n(wire):
    reply = run(wire, "completion/any-id", {"input": "x", "top_n": 3})

    text = "Field [top_n] cannot be specified for task type [completion]"
    wire.refused(400, "action_request_validation_exception", text, reply)


def test_row_133_only_text_embeddings_take_an_input_type(wire):
    reply = run(wire, "sparse_embedding/any-id", {"input": "x", "input_type": "search"})

    text = "Field [input_type] cannot be specified for task type [sparse_embedding]"
    wire.refused(400, "action_request_validation_exception", text, reply)


@pytest.mark.parametrize("input_type", ["search", "SEARCH", "ingest", "unspecified"])
def test_row_134_an_input_type_may_be_written_in_capitals(wire, input_type):
    path = f"text_embedding/{wire.endpoint()}"

    assert run(wire, path, {"input": "x", "input_type": input_type}).status == 200


@pytest.mark.parametrize("input_type", ["internal_search", "INTERNAL_INGEST"])
def test_row_135_internal_input_types_are_ours(wire, input_type):
    reply = run(wire, "text_embedding/any-id", {"input": "x", "input_type": input_type})

    text = f"Unrecognized input_type [{input_type}]"
    wire.refused(400, "x_content_parse_exception", text, reply)
    assert reply.json["error"]["caused_by"]["type"] == "illegal_argument_exception"


def test_row_136_an_unknown_input_type_is_refused(wire):
    reply = run(wire, "text_embedding/any-id", {"input": "x", "input_type": "bogus"})

    text = "failed to parse field [input_type]"
    wire.refused(400, "x_content_parse_exception", text, reply)


def test_row_137_the_root_wins_over_task_settings(wire):
    wire.provider.always(simulated.answer)
    inference_id = wire.endpoint_of("cohere", "text_embedding")
    body = {"input": "x", "input_type": "search", "task_settings": {"input_type": "ingest"}}

    run(wire, inference_id, body)

    assert wire.provider.requests[-1].json["input_type"] == "search_query"


def test_row_138_task_settings_of_a_request_hold_for_it_only(wire):
    inference_id = wire.endpoint(more={"task_settings": {"user": "stored"}})
    before = wire.get(f"/_inference/{inference_id}").content

    run(wire, inference_id, {"input": "x", "task_settings": {"user": "once"}})
    once = wire.provider.requests[-1].json["user"]
    run(wire, inference_id, {"input": "x"})
    again = wire.provider.requests[-1].json["user"]

    assert (once, again) == ("once", "stored")
    assert wire.get(f"/_inference/{inference_id}").content == before


def test_row_139_an_unknown_field_is_refused_with_a_hint(wire):
    reply = run(wire, "text_embedding/any-id", {"inputs": "x"})

    text = "[1:2] [cluster:internal/xpack/inference] unknown field [inputs] did you mean [input]?"
    wire.refused(400, "x_content_parse_exception", text, reply)


def test_row_140_a_number_is_no_input(wire):
    reply = run(wire, "text_embedding/any-id", {"input": 3})

    text = "[1:11] [cluster:internal/xpack/inference] input doesn't support values of type: "
    wire.refused(400, "x_content_parse_exception", f"{text}VALUE_NUMBER", reply)


@pytest.mark.parametrize("task_type", ["text_embedding", "rerank", "embedding"])
def test_row_141_a_run_without_a_body_is_refused(wire, task_type):
    reply = run(wire, f"{task_type}/any-id")

    wire.refused(400, "parse_exception", "request body is required", reply)


@pytest.mark.parametrize("path", ["nowhere", "text_embedding/nowhere"])
def test_row_142_an_unknown_id_is_not_found(wire, path):
    reply = run(wire, path, {"input": "x"})

    text = "Inference endpoint not found [nowhere]"
    wire.refused(404, "resource_not_found_exception", text, reply)


def test_a_bad_body_is_told_before_an_unknown_id_where_the_path_has_a_type(wire):
    typed = run(wire, "text_embedding/nowhere", {"x": 1})
    untyped = run(wire, "nowhere", {"x": 1})

    assert (typed.status, untyped.status) == (400, 404)


def test_row_143_another_type_in_the_path_is_refused(wire):
    reply = run(wire, f"sparse_embedding/{wire.endpoint()}", {"input": "x"})

    text = "Incompatible task_type, the requested type [sparse_embedding] does not match the model"
    wire.refused(400, "status_exception", f"{text} type [text_embedding]", reply)


def test_row_144_a_request_that_takes_too_long_is_given_up(wire):
    inference_id = wire.endpoint()
    wire.provider.always(never_answer)

    reply = run(wire, f"{inference_id}?timeout=1ms", {"input": "x"})

    text = f"Request timed out after [1ms] for inference id [{inference_id}]"
    wire.refused(429, "timeout_exception", text, reply)


def test_clients_of_version_8_see_their_own_timeout(wire):
    inference_id = wire.endpoint()
    wire.provider.always(never_answer)
    vendor = "application/vnd.elasticsearch+json; compatible-with=8"

    reply = run(
        wire,
        f"{inference_id}?timeout=1ms",
        {"input": "x"},
        headers={"Accept": vendor, "Content-Type": vendor},
    )

    wire.refused(408, "status_exception", "Request timed out after [1ms]", reply)
    assert inference_id not in reply.json["error"]["reason"]


def test_row_145_a_very_long_text_is_one_item(wire):
    inference_id = wire.endpoint(max_input_tokens=10)

    reply = run(wire, inference_id, {"input": "word " * 5000})

    assert len(reply.json["text_embedding"]) == 1


def test_row_146_requests_above_the_rate_wait(wire):
    inference_id = wire.endpoint(rate_limit={"requests_per_minute": 60})
    started = time.monotonic()

    replies = [run(wire, inference_id, {"input": "x"}) for _ in range(3)]

    assert [reply.status for reply in replies] == [200] * 3
    assert time.monotonic() - started > 0.9


def test_row_147_a_full_queue_refuses_at_once(tuned):
    wire = tuned(INFERRY_OUTBOUND__QUEUE_CAPACITY="1")
    inference_id = wire.endpoint(rate_limit={"requests_per_minute": 1})
    run(wire, inference_id, {"input": "takes the permit"})
    path = f"/_inference/{inference_id}?timeout=3s"
    replies = []

    def ask():
        replies.append(wire.post(path, {"input": "x"}))
        done.set()

    done = threading.Event()
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert done.wait(15), "neither of two requests for a queue of one was refused"
    for thread in threads:
        thread.join(30)

    text = f"Failed to execute task for inference id [{inference_id}] because the request service"
    wire.refused(429, "es_rejected_execution_exception", text, replies[0])


def test_row_148_a_rate_limit_of_the_provider_is_told(wire):
    inference_id = wire.endpoint()
    wire.provider.always(refuse(429, "slow down"))

    reply = run(wire, f"{inference_id}?timeout=300ms", {"input": "x"})

    wire.refused(429, "status_exception", "Received a rate limit status code", reply)
    text = f"for request from inference entity id [{inference_id}] status [429]. Error message:"
    assert text in reply.json["error"]["reason"]


def test_row_149_a_refused_key_is_told(wire):
    inference_id = wire.endpoint()
    wire.provider.then(refuse(401, "bad key"))

    reply = run(wire, inference_id, {"input": "x"})

    text = (
        "Received an authentication error status code for request from inference entity id "
        f"[{inference_id}] status [401]. Error message: [bad key]"
    )
    wire.refused(401, "status_exception", text, reply)


def test_row_150_a_broken_provider_is_a_400(wire):
    inference_id = wire.endpoint()
    wire.provider.always(refuse(500, "broken"))

    reply = run(wire, f"{inference_id}?timeout=300ms", {"input": "x"})

    text = "Received a server error status code for request from inference entity id "
    wire.refused(400, "status_exception", f"{text}[{inference_id}] status [500].", reply)
    assert reply.headers["x-inferry-upstream-status"] == "500"


def test_row_151_a_key_that_the_provider_repeats_is_masked(wire):
    inference_id = wire.endpoint(api_key="sk-marker-151")
    wire.provider.then(refuse(401, "Incorrect API key provided: sk-marker-151"))

    reply = run(wire, inference_id, {"input": "x"})

    assert reply.status == 401
    assert b"marker" not in reply.content


# --- chat ----------------------------------------------------------------------------------------


def chat_refused(reply, status, code, text):
    assert reply.status == status
    error = reply.json["error"]
    assert list(reply.json) == ["error"]
    assert error["code"] == code
    assert text in error["message"], error
    assert error["type"]


@pytest.mark.parametrize("prefix", ["chat_completion/", ""])
def test_row_152_a_chat_completion_is_one_object(wire, prefix):
    inference_id = wire.endpoint("chat_completion")

    reply = run(wire, prefix + inference_id, HELLO)

    assert reply.json == {
        "id": "chatcmpl-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "You said: hello"},
                "finish_reason": "stop",
            }
        ],
        "model": "model-1",
        "object": "chat.completion",
        "usage": {"completion_tokens": 3, "prompt_tokens": 4, "total_tokens": 7},
    }


def test_row_153_a_chat_needs_messages(wire):
    reply = run(wire, "chat_completion/any-id", {})

    chat_refused(reply, 400, "bad_request", "Required [messages]")


def test_row_154_a_chat_has_at_least_one_message(wire):
    reply = run(wire, "chat_completion/any-id", {"messages": []})

    chat_refused(reply, 400, "bad_request", "Field [messages] cannot be an empty array")


def test_row_155_tool_calls_have_their_arguments_as_a_string(wire):
    inference_id = wire.endpoint("chat_completion")
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    wire.provider.then(call_a_tool)

    reply = run(wire, inference_id, {**HELLO, "tools": [tool], "tool_choice": "auto"})

    [call] = reply.json["choices"][0]["message"]["tool_calls"]
    assert call == {
        "id": "call_1",
        "function": {"arguments": '{"city":"Rome"}', "name": "weather"},
        "type": "function",
    }
    assert wire.provider.requests[-1].json["tools"] == [tool]


async def call_a_tool(connection, received):
    """Answer with a tool call."""
    function = {"name": "weather", "arguments": json.dumps({"city": "Rome"}, separators=(",", ":"))}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = {"id": "c", "object": "chat.completion", "model": "model-1", "choices": [choice]}
    await send_json(connection, body)


def test_row_156_another_type_of_endpoint_is_no_chat(wire):
    reply = run(wire, f"chat_completion/{wire.endpoint('completion')}", HELLO)

    text = "Incompatible task_type for unified API, the requested type [completion] must be one of"
    chat_refused(reply, 400, "bad_request", f"{text} [chat_completion]")


def test_an_unknown_field_of_a_message_is_named_with_its_place(wire):
    reply = run(wire, "chat_completion/any-id", {"messages": [{"role": "user", "contents": "x"}]})

    chat_refused(reply, 400, "bad_request", "[UnifiedCompletionRequest] failed to parse field")


def test_used_tokens_are_told_in_a_header(wire):
    reply = run(wire, wire.endpoint(), {"input": "two words"})

    assert reply.headers["x-inferry-tokens"] == "2"


def test_a_large_answer_arrives_whole(wire):
    inference_id = wire.endpoint()
    texts = [f"text {number}" for number in range(2000)]

    reply = run(wire, inference_id, {"input": texts})

    assert [item["embedding"] for item in reply.json["text_embedding"]] == [
        row["embedding"] for row in embeddings({"input": texts})["data"]
    ]
