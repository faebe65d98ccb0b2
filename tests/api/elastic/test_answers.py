"""Results as the bodies of Elasticsearch, byte by byte."""

from __future__ import annotations

import json
import math
import struct

import pytest

from inferry.api.elastic.answers import ranges, result_answer
from inferry.domain import (
    ChatChoice,
    ChatChunk,
    ChatDelta,
    Completion,
    DenseEmbeddings,
    ElementType,
    FunctionCall,
    RankedDocument,
    Ranking,
    Result,
    SparseEmbeddings,
    TaskType,
    ToolCall,
    Usage,
)
from inferry.errors import InternalError
from inferry.vectors import FloatVector, JsonVector

TEXT = TaskType.TEXT_EMBEDDING


async def body_of(result: Result, task_type: TaskType = TEXT) -> bytes:
    answer = await result_answer(result, task_type)
    assert isinstance(answer.body, bytes)
    return answer.body


def json_vector(text):
    return JsonVector(text.encode(), text.count(",") + 1)


def float_vector(*numbers):
    return FloatVector(struct.pack(f"<{len(numbers)}f", *numbers), len(numbers))


@pytest.mark.parametrize(
    ("task_type", "element_type", "root"),
    [
        (TEXT, ElementType.FLOAT, "text_embedding"),
        (TEXT, ElementType.BYTE, "text_embedding_bytes"),
        (TEXT, ElementType.BIT, "text_embedding_bits"),
        (TaskType.EMBEDDING, ElementType.FLOAT, "embeddings"),
        (TaskType.EMBEDDING, ElementType.BYTE, "embeddings_bytes"),
        (TaskType.EMBEDDING, ElementType.BIT, "embeddings_bits"),
    ],
)
async def test_the_root_tells_task_and_element_type(task_type, element_type, root):
    result = DenseEmbeddings((json_vector("[1,2]"), json_vector("[3,4]")), element_type)

    answer = await result_answer(result, task_type)

    expected = f'{{"{root}":[{{"embedding":[1,2]}},{{"embedding":[3,4]}}]}}'
    assert answer.body == expected.encode()


async def test_floats_are_written_in_their_shortest_form():
    result = DenseEmbeddings((float_vector(0.1, -7.7057e-4, 1.0),))

    body = await body_of(result)

    assert json.loads(body) == {"text_embedding": [{"embedding": [0.1, -7.7057e-4, 1.0]}]}
    assert b"0.1," in body


async def test_many_floats_are_written_all_the_same():
    row = float_vector(*[0.5] * 60_000)

    body = await body_of(DenseEmbeddings((row, row)))

    assert body.count(b"0.5") == 120_000


@pytest.mark.parametrize(
    "result",
    [
        DenseEmbeddings((float_vector(1.0, math.nan),)),
        SparseEmbeddings(({"a": math.inf},)),
        Ranking((RankedDocument(0, math.nan),)),
    ],
)
async def test_a_number_that_is_not_finite_is_a_defect(result):
    with pytest.raises(InternalError):
        await result_answer(result, TEXT)


async def test_sparse_items_tell_what_was_cut():
    result = SparseEmbeddings(({"cat": 1.5, "kitten": 0.25}, {}), truncated=(1,))

    answer = await result_answer(result, TaskType.SPARSE_EMBEDDING)

    assert answer.body == (
        b'{"sparse_embedding":[{"is_truncated":false,"embedding":{"cat":1.5,"kitten":0.25}},'
        b'{"is_truncated":true,"embedding":{}}]}'
    )
    assert answer.headers == {"X-Inferry-Truncated": "1"}


async def test_documents_without_text_have_no_text():
    result = Ranking((RankedDocument(2, 0.5, "third"), RankedDocument(0, 0.25)))

    answer = await result_answer(result, TaskType.RERANK)

    assert answer.body == (
        b'{"rerank":[{"index":2,"relevance_score":0.5,"text":"third"},'
        b'{"index":0,"relevance_score":0.25}]}'
    )


async def test_completions_are_results():
    answer = await result_answer(Completion(("Paris.",)), TaskType.COMPLETION)

    assert answer.body == b'{"completion":[{"result":"Paris."}]}'


async def test_a_chat_has_its_members_in_order_and_no_nulls():
    call = ToolCall(id="c", function=FunctionCall("{}", "f"), type="function")
    delta = ChatDelta(role="assistant", tool_calls=[call])
    usage = Usage(9, 3, cached_tokens=1, reasoning_tokens=2)

    answer = await result_answer(
        ChatChunk("id-1", [ChatChoice(delta, "tool_calls", 0)], "gpt", usage),
        TaskType.CHAT_COMPLETION,
    )

    assert answer.body == (
        b'{"id":"id-1","choices":[{"index":0,"message":{"role":"assistant","tool_calls":'
        b'[{"id":"c","function":{"arguments":"{}","name":"f"},"type":"function"}]},'
        b'"finish_reason":"tool_calls"}],"model":"gpt","object":"chat.completion","usage":'
        b'{"completion_tokens":3,"prompt_tokens":9,"total_tokens":12,'
        b'"prompt_tokens_details":{"cached_tokens":1},'
        b'"completion_tokens_details":{"reasoning_tokens":2}}}'
    )
    assert answer.headers["X-Inferry-Tokens"] == "12"


async def test_a_long_wait_is_told():
    short = await result_answer(Completion(("x",)), TaskType.COMPLETION, queued_s=0.5)
    long = await result_answer(Completion(("x",)), TaskType.COMPLETION, queued_s=1.5)

    assert short.headers == {}
    assert long.headers == {"X-Inferry-Queued-Ms": "1500"}


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([0], "0"),
        ([0, 1, 2, 3, 17], "0-3,17"),
        ([1, 3, 5], "1,3,5"),
        ([4, 5], "4-5"),
    ],
)
def test_indices_are_written_as_ranges(indices, text):
    assert ranges(indices) == text


def test_a_receipt_is_never_longer_than_a_kilobyte():
    text = ranges(range(0, 100_000, 2))

    assert len(text) <= 1024
    assert text.endswith(";count=50000")
