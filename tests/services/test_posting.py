"""A call as most providers take it."""

from __future__ import annotations

import json

from inferry.services.posting import post_json


def test_members_that_are_none_are_left_out_and_others_stay():
    call = post_json("https://a", {"a": None, "b": False, "c": 0}, headers={"X-A": "1"})

    assert (call.method, call.url) == ("POST", "https://a")
    assert call.headers == {"Content-Type": "application/json", "X-A": "1"}
    assert json.loads(call.body) == {"b": False, "c": 0}
