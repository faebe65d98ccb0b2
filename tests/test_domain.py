"""The central types: what callers may rely on."""

from inferry.domain import Deadline, Endpoint, TaskType


def test_secrets_never_show_in_the_repr_of_an_endpoint() -> None:
    endpoint = Endpoint("a", TaskType.COMPLETION, "openai", {}, secrets={"api_key": "marker"})

    assert "marker" not in repr(endpoint)


def test_a_deadline_speaks_of_the_limit_as_the_caller_wrote_it() -> None:
    deadline = Deadline.after(0.001, "1ms", "docs-e5")

    error = deadline.exceeded()

    assert error.message == "Request timed out after [1ms] for inference id [docs-e5]"
    assert error.timeout == "1ms"


def test_task_types_are_listed_in_the_order_of_the_wire() -> None:
    assert [task.value for task in TaskType] == [
        "text_embedding",
        "sparse_embedding",
        "rerank",
        "completion",
        "chat_completion",
        "embedding",
    ]
