"""An allowance takes away one difference, and no other."""

from __future__ import annotations

import pytest

from tests.oracles.allowances import apart_from, only_ours, only_theirs, theirs_read_as


def test_what_only_we_send_is_left_out():
    ours, theirs = only_ours("body.stream", False)({"body": {"stream": False, "a": 1}}, {})

    assert (ours, theirs) == ({"body": {"a": 1}}, {})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"body": {"stream": True}}, {"body": {}}),
        ({"body": {"stream": 0}}, {"body": {}}),
        ({"body": {"stream": False}}, {"body": {"stream": True}}),
        ({"body": "stream"}, {}),
    ],
)
def test_another_value_or_one_that_both_send_stays(ours, theirs):
    assert only_ours("body.stream", False)(ours, theirs) == (ours, theirs)


def test_what_only_the_sdk_sends_is_left_out_of_every_item_of_a_list():
    ours = {"body": {"rows": [{"text": "a"}, {"role": "user"}]}}
    theirs = {"body": {"rows": [{"text": "a", "role": "user"}, {"role": "user"}, {"role": "x"}]}}

    _, found = only_theirs("body.rows.*.role", "user")(ours, theirs)

    assert found == {"body": {"rows": [{"text": "a"}, {"role": "user"}, {"role": "x"}]}}


def test_a_place_may_differ_altogether():
    given = {"headers": {"authorization": "a", "x": "1"}}, {"headers": {"authorization": "b"}}

    assert apart_from("headers.authorization")(*given) == ({"headers": {"x": "1"}}, {"headers": {}})


def test_the_form_of_the_sdk_can_be_put_into_ours():
    allowed = theirs_read_as(lambda one: {"body": {"inputs": [one["body"]["inputs"]]}})

    assert allowed({}, {"body": {"inputs": "a"}}) == ({}, {"body": {"inputs": ["a"]}})
