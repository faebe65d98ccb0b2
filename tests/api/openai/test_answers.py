"""Results are written in OpenAI's shapes."""

import base64
import json
import struct

from inferry.api.openai.answers import (
    ChunkWriter,
    chat_answer,
    embeddings_answer,
    model_answer,
    model_list_parts,
)
from inferry.core.snapshot import Entry
from inferry.domain import (
    Chat,
    ChatChoice,
    ChatChunk,
    ChatDelta,
    DenseEmbeddings,
    FunctionCall,
    Message,
    ToolCall,
    Usage,
)
from inferry.records import EndpointRecord
from inferry.vectors import FloatVector, JsonVector, Vector

CHAT = Chat(messages=[Message("user", "what is the weather?")])
COUNTED = Usage(input_tokens=9, output_tokens=3, cached_tokens=4, reasoning_tokens=1)


def embeddings(*vectors: Vector, usage=None, is_base64=False):
    inputs = ["some text"] * len(vectors)
    result = DenseEmbeddings(vectors, usage=usage)
    return json.loads(embeddings_answer("m", inputs, result, is_base64=is_base64))


def text_chunk(text=None, *, finish_reason=None, usage=None):
    return ChatChunk("c1", [ChatChoice(ChatDelta(content=text), finish_reason)], usage=usage)


def events(raw):
    return [event.removeprefix("data: ") for event in raw.decode().split("\n\n") if event]


# --- embeddings --------------------------------------------------------------------------------


def test_numbers_of_the_provider_pass_through_and_float32_is_written_shortest():
    answer = embeddings(
        JsonVector(b"[0.1,-2e-3]", 2),
        FloatVector(struct.pack("<2f", 0.25, 1 / 3), 2),
        usage=Usage(7),
    )

    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.1, -0.002]},
            {"object": "embedding", "index": 1, "embedding": [0.25, 0.33333334]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_base64_holds_the_same_vectors_as_little_endian_float32():
    vectors = JsonVector(b"[0.5,-2]", 2), FloatVector(struct.pack("<2f", 0.25, 1 / 3), 2)

    answer = embeddings(*vectors, is_base64=True)

    rows = [struct.unpack("<2f", base64.b64decode(one["embedding"])) for one in answer["data"]]
    assert rows == [(0.5, -2.0), struct.unpack("<2f", struct.pack("<2f", 0.25, 1 / 3))]


def test_tokens_that_nobody_counted_are_estimated_and_say_so():
    usage = embeddings(JsonVector(b"[1]", 1))["usage"]

    assert usage["estimated"] is True
    assert usage["prompt_tokens"] == usage["total_tokens"] > 0


# --- chat --------------------------------------------------------------------------------------


def test_a_whole_answer_has_the_form_of_a_chat_completion():
    chunk = ChatChunk(
        "c1",
        [ChatChoice(ChatDelta(content="Sun.", role="assistant"), "stop")],
        model="gpt",
        usage=COUNTED,
        created=17,
    )

    assert json.loads(chat_answer("m", CHAT, chunk)) == {
        "id": "c1",
        "object": "chat.completion",
        "created": 17,
        "model": "gpt",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Sun."},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 3,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }


def test_a_call_of_a_tool_has_its_type_no_index_and_a_null_content():
    call = ToolCall(index=0, id="call_1", function=FunctionCall('{"city":"Rome"}', "weather"))
    chunk = ChatChunk("c1", [ChatChoice(ChatDelta(tool_calls=[call]), "tool_calls")])

    answer = json.loads(chat_answer("m", CHAT, chunk))

    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "function": {"arguments": '{"city":"Rome"}', "name": "weather"},
                "type": "function",
            }
        ],
    }
    assert answer["model"] == "m"
    assert answer["usage"]["estimated"] is True
    assert answer["usage"]["completion_tokens"] > 0


def test_a_stream_without_usage_has_chunks_and_the_end():
    writer = ChunkWriter("m", CHAT, includes_usage=False)

    told = events(
        writer.write(text_chunk("Sun"))
        + writer.write(text_chunk(".", finish_reason="stop"))
        + writer.write(ChatChunk("c1", [], usage=COUNTED))
        + writer.end()
    )

    first, second = map(json.loads, told[:2])
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"] == [{"index": 0, "delta": {"content": "Sun"}, "finish_reason": None}]
    assert second["choices"][0]["finish_reason"] == "stop"
    assert first["created"] == second["created"] > 0
    assert "usage" not in first
    assert told[2:] == ["[DONE]"]


def test_usage_comes_last_and_alone_wherever_the_provider_put_it():
    writer = ChunkWriter("m", CHAT, includes_usage=True)

    told = events(writer.write(text_chunk("Sun", usage=COUNTED)) + writer.end())

    piece, last = map(json.loads, told[:-1])
    assert piece["usage"] is None
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 12)
    assert told[-1] == "[DONE]"


def test_usage_that_the_provider_did_not_count_is_estimated_from_what_was_written():
    writer = ChunkWriter("m", CHAT, includes_usage=True)

    told = events(writer.write(text_chunk("Sun and rain " * 9)) + writer.end())

    usage = json.loads(told[-2])["usage"]
    assert usage["estimated"] is True
    assert usage["completion_tokens"] > usage["prompt_tokens"] > 0


def test_every_piece_of_a_tool_call_has_an_index():
    writer = ChunkWriter("m", CHAT, includes_usage=False)
    delta = ChatDelta(tool_calls=[ToolCall(id="call_1", function=FunctionCall("{}", "weather"))])

    (told,) = events(writer.write(ChatChunk("c1", [ChatChoice(delta)])))

    assert json.loads(told)["choices"][0]["delta"]["tool_calls"][0]["index"] == 0


# --- models ------------------------------------------------------------------------------------


def entry(inference_id):
    record = EndpointRecord(
        inference_id, "text_embedding", "openai", {}, {}, None, created_at_ms=1_700_000_000_500
    )
    return Entry(record)


def test_a_model_is_an_endpoint():
    assert json.loads(model_answer(entry("a"))) == {
        "id": "a",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "openai",
    }


def test_a_long_list_of_models_is_written_in_parts():
    entries = [entry(f"e{number}") for number in range(600)]

    parts = list(model_list_parts(entries))

    answer = json.loads(b"".join(parts))
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == [one.inference_id for one in entries]
    assert len(parts) > 3


def test_an_empty_list_of_models_is_a_list():
    assert json.loads(b"".join(model_list_parts([]))) == {"object": "list", "data": []}
