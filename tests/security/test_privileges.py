"""Cluster privileges and what they imply."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.errors import IllegalArgument
from inferry.security.privileges import PRIVILEGES, Rights, _matches, granted_by, resolve

GET = "cluster:monitor/xpack/inference/get"
RUN = "cluster:monitor/xpack/inference/post"
PUT = "cluster:admin/xpack/inference/put"
DELETE = "cluster:admin/xpack/inference/delete"
PUT_USER = "cluster:admin/xpack/security/user/put"
GET_USER = "cluster:admin/xpack/security/user/get"
CREATE_KEY = "cluster:admin/xpack/security/api_key/create"
GET_KEY = "cluster:admin/xpack/security/api_key/get"
END_KEY = "cluster:admin/xpack/security/api_key/invalidate"
METRICS = "cluster:monitor/inferry/metrics"
EXTENSION = "cluster:admin/inferry/references/put"
GET_MODEL = "cluster:monitor/xpack/ml/inference/get"
INFER_MODEL = "cluster:monitor/xpack/ml/inference/infer"
PUT_MODEL = "cluster:admin/xpack/ml/inference/put"
START_MODEL = "cluster:admin/xpack/ml/inference/deployment/start"
EVERYTHING = {
    GET, RUN, PUT, DELETE, PUT_USER, GET_USER, CREATE_KEY, GET_KEY, END_KEY, METRICS, EXTENSION,
    GET_MODEL, INFER_MODEL, PUT_MODEL, START_MODEL,
}  # fmt: skip
SECURITY = {PUT_USER, GET_USER, CREATE_KEY, GET_KEY, END_KEY}

MATRIX = {
    "none": set(),
    "monitor_inference": {GET, RUN},
    "manage_inference": {GET, RUN, PUT, DELETE, START_MODEL},
    "monitor_ml": {GET_MODEL, INFER_MODEL},
    "manage_ml": {GET_MODEL, INFER_MODEL, PUT_MODEL, START_MODEL},
    "manage_own_api_key": {CREATE_KEY},
    "read_security": {GET_USER, GET_KEY},
    "manage_api_key": {CREATE_KEY, GET_KEY, END_KEY},
    "manage_security": SECURITY,
    "monitor": {GET, RUN, METRICS, GET_MODEL, INFER_MODEL},
    "manage": EVERYTHING - SECURITY,
    "all": EVERYTHING,
}


@pytest.mark.parametrize("privilege", MATRIX)
def test_a_privilege_allows_its_actions_and_no_other(privilege):
    allowed = {action for action in EVERYTHING if Rights([privilege]).allow(action)}

    assert allowed == MATRIX[privilege]


def test_the_matrix_names_every_privilege():
    assert set(MATRIX) == set(PRIVILEGES)


@pytest.mark.parametrize("weaker", MATRIX)
@pytest.mark.parametrize("stronger", MATRIX)
def test_a_privilege_covers_exactly_those_whose_actions_it_allows(weaker, stronger):
    own = {GET_KEY, END_KEY} if weaker == "manage_own_api_key" else set()

    covers = Rights([stronger]).cover(weaker)

    assert covers == (weaker == stronger or MATRIX[weaker] | own <= MATRIX[stronger])


def test_own_keys_may_be_seen_and_ended_with_the_privilege_for_own_keys():
    rights = Rights(["manage_own_api_key"])

    assert rights.allow(GET_KEY, on_own=True)
    assert rights.allow(END_KEY, on_own=True)
    assert not rights.allow(GET_USER, on_own=True)


@pytest.mark.parametrize(
    ("action", "privileges"),
    [
        (GET, "monitor_inference,manage_inference,monitor,manage,all"),
        (RUN, "monitor_inference,manage_inference,monitor,manage,all"),
        (PUT, "manage_inference,manage,all"),
        (METRICS, "monitor,manage,all"),
        (EXTENSION, "manage,all"),
        (INFER_MODEL, "monitor_ml,manage_ml,monitor,manage,all"),
        (PUT_MODEL, "manage_ml,manage,all"),
        (START_MODEL, "manage_inference,manage_ml,manage,all"),
        (CREATE_KEY, "manage_own_api_key,manage_api_key,manage_security,all"),
        (GET_KEY, "manage_own_api_key,read_security,manage_api_key,manage_security,all"),
        (PUT_USER, "manage_security,all"),
    ],
)
def test_a_refused_action_names_the_privileges_that_allow_it_weakest_first(action, privileges):
    assert ",".join(granted_by(action)) == privileges


def test_privilege_names_are_case_insensitive():
    assert Rights(["Monitor_Inference"]).allow(GET)


def test_a_raw_pattern_allows_what_it_matches():
    rights = Rights(["cluster:monitor/xpack/inference/*"])

    assert rights.allow(GET)
    assert rights.allow(RUN)
    assert not rights.allow(PUT)


def test_the_raw_action_of_8x_allows_the_actions_that_replaced_it():
    rights = Rights(["cluster:monitor/xpack/inference"])

    assert rights.allow(GET)
    assert rights.allow(RUN)


def test_a_raw_pattern_does_not_cover_the_exceptions_of_a_privilege():
    assert not Rights(["manage"]).cover("cluster:admin/xpack/security/user/put")
    assert not Rights(["manage"]).cover("cluster:admin/*")
    assert Rights(["manage"]).cover("cluster:monitor/*")


def test_an_unknown_privilege_is_refused_with_the_list_of_names():
    with pytest.raises(IllegalArgument) as refused:
        resolve("monitor_inferences")

    assert str(refused.value) == (
        "unknown cluster privilege [monitor_inferences]. a privilege must be either one of the "
        "predefined cluster privilege names [all,manage,manage_api_key,manage_inference,manage_ml,"
        "manage_own_api_key,manage_security,monitor,monitor_inference,monitor_ml,none,"
        "read_security] or a pattern over one of the available cluster actions"
    )


def test_rights_of_nothing_allow_nothing():
    assert not Rights().allow(GET)
    assert not Rights([]).allow(GET)
    assert not Rights().cover("monitor_inference")


def test_a_stored_privilege_that_is_no_longer_known_grants_nothing():
    rights = Rights(["monitor_inference", "manage_something_of_the_past"])

    assert rights.allow(GET)
    assert not rights.allow(PUT)


def test_several_unions_allow_only_what_each_of_them_allows():
    rights = Rights(["all"], ["monitor_inference", "read_security"])

    assert rights.allow(GET)
    assert rights.allow(GET_USER)
    assert not rights.allow(PUT)
    assert not rights.cover("all")


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_match_as_globs_do(pattern, text):
    assert _matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


@given(st.text("ab*", max_size=5), st.text("ab*", max_size=5), st.text("ab", max_size=5))
def test_a_pattern_that_contains_another_matches_whatever_that_one_matches(outer, inner, text):
    if _matches(outer, inner) and _matches(inner, text):
        assert _matches(outer, text)
