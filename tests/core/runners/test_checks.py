"""An answer must be as long and as wide as the request and its endpoint want it."""

from __future__ import annotations

import pytest

from inferry.core.runners.checks import check_result
from inferry.domain import (
    ChatChunk,
    Deadline,
    DenseEmbeddings,
    ElementType,
    Endpoint,
    InferenceRequest,
    RankedDocument,
    Ranking,
    SparseEmbeddings,
    TaskType,
)
from inferry.errors import UnreadableReply
from inferry.vectors import FloatVector, JsonVector

REQUEST = InferenceRequest(
    Endpoint("e", TaskType.TEXT_EMBEDDING, "s", {}), Deadline.after(30, "30s"), ("a", "b")
)


def dense(width: int, element_type: ElementType = ElementType.FLOAT) -> DenseEmbeddings:
    return DenseEmbeddings((JsonVector(b"[]", width), FloatVector(b"", width)), element_type)


@pytest.mark.parametrize(
    ("width", "element_type"),
    [(16, ElementType.FLOAT), (16, ElementType.BYTE), (2, ElementType.BIT)],
)
def test_vectors_have_the_stored_width_and_bits_are_packed(width, element_type) -> None:
    embeddings = dense(width, element_type)

    assert check_result(embeddings, REQUEST, dimensions=16) is embeddings
    with pytest.raises(UnreadableReply):
        check_result(embeddings, REQUEST, dimensions=24)


def test_an_unknown_width_is_not_checked() -> None:
    check_result(dense(5), REQUEST, dimensions=None)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_are_as_many_sparse_results_as_inputs(count) -> None:
    with pytest.raises(UnreadableReply, match=rf"\[{count}\] does not equal .* \[2\]"):
        check_result(SparseEmbeddings(({},) * count), REQUEST, dimensions=None)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_ranking_names_documents_of_the_request(index) -> None:
    with pytest.raises(UnreadableReply, match="is not one of the"):
        check_result(Ranking((RankedDocument(index, 1.0),)), REQUEST, dimensions=None)


def test_a_ranking_keeps_its_texts_when_nobody_says_otherwise() -> None:
    ranking = Ranking((RankedDocument(0, 1.0, "text"),))

    assert check_result(ranking, REQUEST, dimensions=None) == ranking


def test_a_chat_answer_is_passed_on() -> None:
    chunk = ChatChunk("1", [])

    assert check_result(chunk, REQUEST, dimensions=None) is chunk
