"""Inputs that are known to be too long are cut before they are sent, and the result says which."""

from __future__ import annotations

import pytest

from inferry.core.runners.truncate import cut_to_tokens, estimated_tokens, halve, mark_truncated
from inferry.domain import (
    Completion,
    ContentItem,
    Deadline,
    Endpoint,
    InferenceRequest,
    SparseEmbeddings,
    TaskType,
)

TEXT = ContentItem("text", "text", "x" * 100)
IMAGE = ContentItem("image", "base64", "y" * 100)


def request_for(*inputs, task_type=TaskType.TEXT_EMBEDDING) -> InferenceRequest:
    return InferenceRequest(Endpoint("e", task_type, "s", {}), Deadline.after(30, "30s"), inputs)


def test_a_token_is_taken_to_be_three_characters() -> None:
    assert estimated_tokens("x" * 30) == 11
    assert estimated_tokens((TEXT, IMAGE)) == 34


def test_only_inputs_above_the_limit_are_cut() -> None:
    request, cut = cut_to_tokens(request_for("x" * 30, "y" * 31, (TEXT, IMAGE)), 10)

    assert cut == (1, 2)
    assert request.inputs[0] == "x" * 30
    assert request.inputs[1] == "y" * 30
    assert request.inputs[2] == (ContentItem("text", "text", "x" * 30), IMAGE)


def test_a_request_within_the_limit_stays_itself() -> None:
    request = request_for("x" * 30)

    assert cut_to_tokens(request, 10) == (request, ())


def test_halving_cuts_every_text_and_no_image() -> None:
    request = halve(request_for("x" * 9, "y", (TEXT, IMAGE)))

    assert request is not None
    assert request.inputs == ("xxxx", "y", (ContentItem("text", "text", "x" * 50), IMAGE))


@pytest.mark.parametrize("inputs", [(), ("",), ("x", "y"), ((IMAGE,),)])
def test_what_cannot_be_shorter_is_not_halved(inputs) -> None:
    assert halve(request_for(*inputs)) is None


@pytest.mark.parametrize("task_type", [TaskType.RERANK, TaskType.COMPLETION])
def test_only_inputs_of_embeddings_are_halved(task_type) -> None:
    assert halve(request_for("x" * 100, task_type=task_type)) is None


def test_a_result_collects_what_was_truncated_by_whom() -> None:
    result = mark_truncated(SparseEmbeddings(({}, {}, {}), truncated=(2,)), [0, 2])

    assert result.truncated == (0, 2)


def test_a_completion_has_no_place_for_truncation() -> None:
    assert mark_truncated(Completion(("a",)), [0]) == Completion(("a",))
