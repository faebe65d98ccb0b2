"""The route table: literal segments first, and what is said where nothing fits."""

from __future__ import annotations

import pytest

from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.routes import Match, RouteTable
from inferry.errors import IllegalArgument, MethodNotAllowed, NoHandler


async def answer(_: Request) -> Answer:
    return Answer()


def route(method: str, path: str, *, answers_head: bool = True) -> Route:
    return Route(method, path, answer, None, render_error, path, answers_head=answers_head)


TABLE = RouteTable(
    [
        route("GET", "/"),
        route("GET", "/_inference"),
        route("GET", "/_inference/_all"),
        route("GET", "/_inference/{inference_id}", answers_head=False),
        route("POST", "/_inference/{inference_id}"),
        route("GET", "/_inference/{task_type}/_all"),
        route("GET", "/_inference/{task_type}/{inference_id}"),
        route("POST", "/_inference/{task_type}/{inference_id}"),
        route("POST", "/_inference/{inference_id}/_stream"),
        route("PUT", "/_inference/{inference_id}/_update"),
    ]
)


def find(method: str, path: str) -> tuple[str, dict[str, str]]:
    found = TABLE.find(method, path, path)
    assert isinstance(found, Match), found
    return found.route.path, dict(found.values)


@pytest.mark.parametrize(
    ("method", "path", "expected", "values"),
    [
        ("GET", "/", "/", {}),
        ("GET", "/_inference", "/_inference", {}),
        ("GET", "/_inference/", "/_inference", {}),
        ("GET", "/_inference//", "/_inference", {}),
        ("GET", "/_inference//_all", "/_inference/_all", {}),
        ("GET", "/_inference/_all", "/_inference/_all", {}),
        ("GET", "/_inference/a", "/_inference/{inference_id}", {"inference_id": "a"}),
        ("GET", "/_inference/t/_all/", "/_inference/{task_type}/_all", {"task_type": "t"}),
        ("POST", "/_inference/x/_stream", "/_inference/{inference_id}/_stream",
         {"inference_id": "x"}),
        ("PUT", "/_inference/x/_update", "/_inference/{inference_id}/_update",
         {"inference_id": "x"}),
        ("GET", "/_inference/x/_stream", "/_inference/{task_type}/{inference_id}",
         {"task_type": "x", "inference_id": "_stream"}),
        ("POST", "/_inference/a%2Fb%20c", "/_inference/{inference_id}",
         {"inference_id": "a/b c"}),
        ("POST", "/_inference/a%252F", "/_inference/{inference_id}", {"inference_id": "a%2F"}),
        ("HEAD", "/_inference", "/_inference", {}),
    ],
)  # fmt: skip
def test_a_path_leads_to_its_route(method, path, expected, values):
    assert find(method, path) == (expected, values)
    assert find(method, path) == (expected, values)  # remembered


@pytest.mark.parametrize("path", ["/x", "//", "/_inference/a/b/c", "//_inference", "/_inference2"])
def test_an_unknown_path_has_no_handler(path):
    found = TABLE.find("GET", path, f"{path}?q")

    assert isinstance(found, NoHandler)
    assert found.message == f"no handler found for uri [{path}?q] and method [GET]"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/_inference/a", "GET,POST"),
        ("HEAD", "/_inference/a", "GET,POST"),
        ("PATCH", "/_inference/x/_stream", "POST,GET"),
        ("OPTIONS", "/", "GET"),
    ],
)
def test_a_known_path_tells_its_methods(method, path, allowed):
    found = TABLE.find(method, path, path)

    assert isinstance(found, MethodNotAllowed)
    assert found.allowed == allowed
    shown = allowed.replace(",", ", ")
    assert found.message == (
        f"Incorrect HTTP method for uri [{path}] and method [{method}], allowed: [{shown}]"
    )


def test_empty_segments_of_other_methods_count():
    assert isinstance(TABLE.find("POST", "/_inference//a", ""), NoHandler)


def test_a_path_that_is_not_utf_8_is_an_illegal_argument():
    assert isinstance(TABLE.find("GET", "/_inference/%ff", ""), IllegalArgument)
