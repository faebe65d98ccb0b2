"""`filter_path`, path by path."""

from __future__ import annotations

import pytest

from inferry.api.http.filter_path import FilterPath
from inferry.domain import Json

VALUE: Json = {
    "endpoints": [
        {"inference_id": "a", "service_settings": {"model_id": "m", "rate": {"x": 1}}},
        {"inference_id": "b", "service": "s"},
    ],
    "took": 3,
    "empty": {},
}


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("endpoints.inference_id", {"endpoints": [{"inference_id": "a"}, {"inference_id": "b"}]}),
        ("nope", {}),
        ("took,nope", {"took": 3}),
        ("endpoints.*_id", {"endpoints": [{"inference_id": "a"}, {"inference_id": "b"}]}),
        ("**.x", {"endpoints": [{"service_settings": {"rate": {"x": 1}}}]}),
        ("endpoints.**.x", {"endpoints": [{"service_settings": {"rate": {"x": 1}}}]}),
        ("endpoints.s*.m*", {"endpoints": [{"service_settings": {"model_id": "m"}}]}),
        ("t*k", {"took": 3}),
        ("t**k", {"took": 3}),
        ("-endpoints", {"took": 3, "empty": {}}),
        ("-endpoints,-empty,-took", {}),
        ("endpoints,-endpoints.service*", {"endpoints": [{"inference_id": "a"},
                                                         {"inference_id": "b"}]}),
        ("-**.inference_id,-**.service_settings,-took,-empty", {"endpoints": [{"service": "s"}]}),
        ("**", VALUE),
        ("*", VALUE),
        ("", VALUE),
    ],
)  # fmt: skip
def test_a_path_keeps_what_it_names(path, left):
    assert FilterPath(path).apply(VALUE) == left


def test_a_root_array_is_transparent():
    assert FilterPath("service").apply([{"service": "a", "name": "A"}]) == [{"service": "a"}]


def test_hostile_patterns_end_soon():
    path = ",".join(["**.*a*a*a*a*a*a*a*a*b"] * 50)

    assert FilterPath(path).apply({"a" * 200: {"a" * 200: 1}}) == {}
