"""The error tree survives the way between our processes."""

import pytest

from inferry import errors


def every_class(root: type[errors.InferenceError]) -> list[type[errors.InferenceError]]:
    found = [root]
    for child in root.__subclasses__():
        found += every_class(child)
    return found


@pytest.mark.parametrize("cls", every_class(errors.InferenceError), ids=lambda cls: cls.__name__)
def test_every_error_survives_the_way_to_another_process(cls: type[errors.InferenceError]) -> None:
    error = cls("something [x] was wrong", retry_after_s=1.5)

    again = errors.error_from_wire(errors.error_to_wire(error))

    assert type(again) is cls
    assert vars(again) == vars(error)


def test_causes_travel_along_and_foreign_ones_keep_their_type_name() -> None:
    upstream = errors.UpstreamUnreachable("no answer", upstream_status=None)
    upstream.__cause__ = ConnectionRefusedError("connection refused")
    error = errors.ValidationCallFailed("validation call failed")
    error.__cause__ = upstream

    again = errors.error_from_wire(errors.error_to_wire(error))

    middle = errors.cause_of(again)
    assert isinstance(middle, errors.UpstreamUnreachable)
    inner = errors.cause_of(middle)
    assert isinstance(inner, errors.ForeignError)
    assert (inner.type_name, inner.message) == ("ConnectionRefusedError", "connection refused")


def test_the_retry_of_an_upstream_error_is_an_enumeration_again() -> None:
    error = errors.UpstreamError("busy", upstream_status=503, retry=errors.Retry.YES)

    again = errors.error_from_wire(errors.error_to_wire(error))

    assert isinstance(again, errors.UpstreamError)
    assert again.retry is errors.Retry.YES


def test_an_unknown_class_becomes_an_internal_error() -> None:
    again = errors.error_from_wire({"class": "FromTheFuture", "message": "new"})

    assert type(again) is errors.InternalError
    assert again.message == "new"


def test_problems_are_numbered_in_the_words_of_the_wire() -> None:
    error = errors.InvalidSettings.of(["first", "second"])

    assert error.message == "Validation Failed: 1: first;2: second;"


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    drawn = errors.__doc__ or ""

    missing = [
        cls.__name__
        for cls in every_class(errors.InferenceError)
        if cls.__module__ == errors.__name__
        and cls.__name__ not in drawn
        and cls is not errors.ForeignError
    ]

    assert missing == []
