"""Settings and checks that many services share."""

from __future__ import annotations

import pytest

from inferry.domain import Endpoint, TaskType
from inferry.services.settings import digest, rate_limit, renamed, segment_problems


def endpoint(**settings: str) -> Endpoint:
    return Endpoint("mine", TaskType.COMPLETION, "any", settings)


def test_the_help_of_a_rate_limit_tells_the_default():
    assert rate_limit(50).help.endswith("below its rate limits. 50 when not set.")
    assert rate_limit(50, said="50 here").help.endswith(
        "below its rate limits. 50 here when not set."
    )


@pytest.mark.parametrize("value", ["us-east1", "my.project_1", "A"])
def test_a_name_may_stand_in_a_host_or_a_path(value):
    assert segment_problems(endpoint(region=value), ["region", "location"]) == []


@pytest.mark.parametrize(
    "value", ["a/b", "..", "a@evil", "a:1", "ä", "a b", "a?b", "a#b", "a%2f", "a\n"]
)
def test_what_would_change_the_url_is_refused(value):
    (problem,) = segment_problems(endpoint(region=value), ["region"])

    assert problem == (
        f"[service_settings] Invalid value [{value!a}]. [region] must consist of letters, digits,"
        " dots, underscores and hyphens, and not begin with a dot"
    )


def test_a_digest_tells_secrets_apart_and_shows_none():
    assert digest("a", "bc") != digest("ab", "c")
    assert digest("a", "bc") == digest("a", "bc")
    assert "secret" not in digest("secret")


def test_a_setting_under_its_older_name_keeps_its_place():
    assert list(renamed({"a": 1, "b": 2}, "a", "new").items()) == [("new", 1), ("b", 2)]
    assert renamed({"a": 1, "new": 2}, "a", "new") == {"a": 1, "new": 2}
