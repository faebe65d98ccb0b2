"""Negotiation of media types with the clients of versions 8 and 9."""

from __future__ import annotations

import pytest

from inferry.api.http.media_types import MediaTypes, content_type_of
from inferry.errors import UnacceptableMediaType, UnsupportedMediaType

V8 = "application/vnd.elasticsearch+json; compatible-with=8"
V9 = "application/vnd.elasticsearch+json;compatible-with=9"
JSON = "application/json"


@pytest.mark.parametrize(
    ("accept", "content_type", "version"),
    [
        (None, None, None),
        ("*/*", None, None),
        (JSON, JSON, None),
        (f"{JSON}; charset=utf-8", f"{JSON};charset=UTF-8", None),
        (V8, V8, 8),
        (V9, V9, 9),
        (V9, None, 9),
        (f"text/html, {V9}", None, 9),
        ("text/html,*/*;q=0.8", None, None),
        ("text/event-stream", V9, 9),
        ("text/event-stream", JSON, None),
        (f"{V9}, text/plain", V9, 9),
        ("application/vnd.elasticsearch+json", None, None),
    ],
)
def test_headers_agree_on_a_version(accept, content_type, version):
    agreed = MediaTypes().negotiate(accept, content_type, has_body=content_type is not None)

    agreed.check()
    assert agreed.compatible_with == version


@pytest.mark.parametrize(
    ("accept", "content_type", "error"),
    [
        ("text/html", None, UnacceptableMediaType),
        ("application/vnd.elasticsearch+json;compatible-with=7", None, UnacceptableMediaType),
        (V8, V9, UnacceptableMediaType),
        (V8, JSON, UnacceptableMediaType),
        (JSON, V8, UnacceptableMediaType),
        (None, V8, UnacceptableMediaType),
        (JSON, "text/plain", UnsupportedMediaType),
        (JSON, f"{JSON}; charset=latin-1", UnsupportedMediaType),
    ],
)
def test_headers_that_do_not_agree_are_refused(accept, content_type, error):
    media_types = MediaTypes()
    for _ in range(2):  # the second time from memory
        agreed = media_types.negotiate(accept, content_type, has_body=content_type is not None)
        with pytest.raises(error):
            agreed.check()


def test_a_type_without_a_body_is_not_looked_at():
    MediaTypes().negotiate(JSON, "text/plain", has_body=False).check()


def test_hostile_headers_do_not_fill_the_memory():
    media_types = MediaTypes()

    for number in range(5000):
        media_types.negotiate(f"text/{number}", None, has_body=False)

    assert len(media_types._known) < 2000


def test_the_answer_repeats_the_version():
    assert content_type_of(8) == "application/vnd.elasticsearch+json;compatible-with=8"
    assert content_type_of(None) == "application/json"
