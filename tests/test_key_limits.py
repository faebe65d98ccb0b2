"""Limits of API keys, as their metadata has them."""

from __future__ import annotations

import pytest

from inferry.errors import IllegalArgument
from inferry.key_limits import KeyLimits, limits_in


@pytest.mark.parametrize("metadata", [{}, {"team": "search"}, {"limits": {"endpoints": []}}])
def test_other_metadata_sets_no_limits(metadata):
    assert limits_in(metadata) is None


def test_every_limit_is_optional():
    assert limits_in({"inferry_limits": {}}) == KeyLimits()
    assert limits_in({"inferry_limits": {"tokens_per_day": 5}}) == KeyLimits(tokens_per_day=5)


@pytest.mark.parametrize(
    "given",
    [
        "10",
        [],
        {"requests_per_hour": 1},
        {"requests_per_minute": 0},
        {"requests_per_minute": "10"},
        {"tokens_per_day": 1.5},
        {"tokens_per_day": 2**60},
        {"endpoints": "docs-*"},
        {"endpoints": ["Docs"]},
        {"endpoints": ["docs-[a]"]},
        {"endpoints": [""]},
    ],
)
def test_what_is_no_limit_is_refused_with_the_place(given):
    with pytest.raises(IllegalArgument, match=r"\[metadata\.inferry_limits"):
        limits_in({"inferry_limits": given})


@pytest.mark.parametrize(
    ("patterns", "inference_id", "allowed"),
    [
        (None, "anything", True),
        ([], "anything", False),
        (["docs"], "docs", True),
        (["docs"], "docs-2", False),
        (["docs-*"], "docs-2", True),
        (["docs-*", "chat"], "chat", True),
        (["*"], ".multilingual-e5-small", True),
        (["a.c"], "abc", False),
    ],
)
def test_a_pattern_says_which_endpoints_may_be_run(patterns, inference_id, allowed):
    assert KeyLimits(endpoints=patterns).allow(inference_id) is allowed
