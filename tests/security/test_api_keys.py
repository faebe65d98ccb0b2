"""API keys as values."""

from __future__ import annotations

import base64
import hashlib

import msgspec
import pytest

from inferry.commands import KeyCriteria
from inferry.errors import IllegalArgument, InvalidRequest
from inferry.records import ApiKeyRecord, RoleDescriptor
from inferry.security.api_keys import (
    Secret,
    belongs,
    check_criteria,
    check_derived,
    check_new_key,
    decode_secret,
    digest_of,
    end_of,
    new_secret,
    parse_expiration_ms,
    rights_of,
    select,
)

KEY = ApiKeyRecord(
    id="k1",
    name="ingest",
    digest=digest_of("secret"),
    owner="ann",
    role_descriptors={},
    limited_by={"inference_user": RoleDescriptor(cluster=["monitor_inference"])},
    creation_ms=1000,
)


def test_a_new_secret_has_an_id_of_20_characters_and_256_random_bits():
    made = new_secret()

    assert len(made.key_id) == 20
    assert made.key_id[0].isalnum()
    assert len(base64.urlsafe_b64decode(made.secret + "=")) == 32
    assert new_secret().secret != made.secret


def test_the_encoded_form_is_base64_of_id_and_secret():
    made = Secret("id", "a:b")

    assert base64.b64decode(made.encoded) == b"id:a:b"
    assert decode_secret(made.encoded) == made


def test_an_encoded_key_without_padding_is_read():
    assert decode_secret("aWQ6c2VjcmV0MQ") == Secret("id", "secret1")


@pytest.mark.parametrize("encoded", ["", "x", "!!!!", "aWQ=", "/////w==", "aWQ6c2VjcmV0MQ é"])
def test_what_is_no_encoded_key_gives_none(encoded):
    assert decode_secret(encoded) is None


def test_a_secret_does_not_show_in_its_repr():
    assert "hidden" not in repr(Secret("id", "hidden"))


def test_only_a_digest_is_kept():
    assert digest_of("secret") == hashlib.sha256(b"secret").digest()
    assert belongs(Secret("k1", "secret"), KEY)
    assert not belongs(Secret("k1", "Secret"), KEY)


def test_a_key_ends_when_it_expires_or_is_invalidated():
    expiring = msgspec.structs.replace(KEY, expiration_ms=2000)
    invalidated = msgspec.structs.replace(expiring, invalidation_ms=1500)

    assert end_of(KEY, 10**15) is None
    assert end_of(expiring, 1999) is None
    assert end_of(expiring, 2000) == "api key is expired"
    assert end_of(invalidated, 1) == "api key [k1] has been invalidated"


def test_a_key_without_limits_may_what_its_owner_could():
    rights = rights_of(KEY)

    assert rights.allow("cluster:monitor/xpack/inference/get")
    assert not rights.allow("cluster:admin/xpack/inference/put")


def test_a_key_wider_than_its_owner_may_no_more_than_the_owner():
    wide = {"all": RoleDescriptor(cluster=["all"])}

    rights = rights_of(msgspec.structs.replace(KEY, role_descriptors=wide))

    assert rights.allow("cluster:monitor/xpack/inference/get")
    assert not rights.allow("cluster:admin/xpack/inference/put")


def test_a_key_with_an_empty_limit_may_nothing():
    rights = rights_of(msgspec.structs.replace(KEY, role_descriptors={"no": RoleDescriptor()}))

    assert not rights.allow("cluster:monitor/xpack/inference/get")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, "api key name is required"),
        ("", "api key name is required"),
        ("  ", "api key name is required"),
        ("a" * 257, "api key name may not be more than 256 characters long"),
        (" a", "api key name may not begin or end with whitespace"),
        ("_a", "api key name may not begin with an underscore"),
    ],
)
def test_a_wrong_name_is_refused(name, problem):
    with pytest.raises(InvalidRequest) as refused:
        check_new_key(name, {})

    assert str(refused.value) == f"Validation Failed: 1: {problem};"


def test_all_problems_of_a_new_key_are_reported_together():
    with pytest.raises(InvalidRequest) as refused:
        check_new_key("_a ", {"_x": 1})

    assert str(refused.value) == (
        "Validation Failed: 1: api key name may not begin or end with whitespace;"
        "2: api key name may not begin with an underscore;"
        "3: API key metadata keys may not start with [_];"
    )


@pytest.mark.parametrize(
    ("text", "duration_ms"), [("30d", 30 * 86_400_000), ("1h", 3_600_000), ("1500ms", 1500)]
)
def test_an_expiration_is_a_duration(text, duration_ms):
    assert parse_expiration_ms(text) == duration_ms


@pytest.mark.parametrize("text", ["", "1", "d", "1 week", "-1d", "1.5h", "0s", "1nanos", "9" * 99])
def test_an_impossible_expiration_is_refused(text):
    with pytest.raises(IllegalArgument, match="expiration"):
        parse_expiration_ms(text)


def test_a_derived_key_must_be_one_that_may_nothing():
    check_derived({"none": RoleDescriptor()})

    for limits in ({}, {"some": RoleDescriptor(cluster=["monitor"])}):
        with pytest.raises(IllegalArgument) as refused:
            check_derived(limits)
        assert str(refused.value) == (
            "creating derived api keys requires an explicit role descriptor that is empty "
            "(has no privileges)"
        )


@pytest.mark.parametrize(
    ("criteria", "problem"),
    [
        (
            KeyCriteria(),
            "One of [api key id(s), api key name, username, realm name] must be specified if "
            "[owner] flag is false",
        ),
        (KeyCriteria(ids=[]), "Field [ids] cannot be an empty array"),
        (
            KeyCriteria(ids=["a", " "]),
            "Field [ids] must not contain blank id, but got blank id(s) at index position(s): [1]",
        ),
        (
            KeyCriteria(ids=["a"], username="ann"),
            "username or realm name must not be specified when the api key id(s) or api key name "
            "are specified",
        ),
        (
            KeyCriteria(owned_by="ann", realm_name="x"),
            "neither username nor realm-name may be specified when invalidating owned API keys",
        ),
        (
            KeyCriteria(ids=["a"], name="b"),
            "only one of [api key id(s), api key name] can be specified",
        ),
    ],
)
def test_criteria_that_name_no_keys_or_contradict_each_other_are_refused(criteria, problem):
    with pytest.raises(InvalidRequest) as refused:
        check_criteria(criteria)

    assert str(refused.value) == f"Validation Failed: 1: {problem};"


@pytest.mark.parametrize(
    ("criteria", "chosen"),
    [
        (KeyCriteria(), ["k1", "k2", "k3"]),
        (KeyCriteria(ids=["k3", "k9"]), ["k3"]),
        (KeyCriteria(name="ingest"), ["k1"]),
        (KeyCriteria(name="ing*"), ["k1", "k2"]),
        (KeyCriteria(name="*"), ["k1", "k2", "k3"]),
        (KeyCriteria(username="bob"), ["k3"]),
        (KeyCriteria(owned_by="ann"), ["k1", "k2"]),
        (KeyCriteria(owned_by="ann", ids=["k3"]), []),
        (KeyCriteria(realm_name="reserved"), ["k3"]),
    ],
)
def test_keys_are_chosen_by_every_criterion_that_is_given(criteria, chosen):
    replace = msgspec.structs.replace
    keys = [
        replace(KEY, id="k3", name="other", owner="bob", creation_ms=3000),
        replace(KEY, id="k2", name="ingest-2", creation_ms=2000),
        KEY,
    ]

    found = select(keys, criteria, lambda user: "reserved" if user == "bob" else "default_native")

    assert [key.id for key in found] == chosen
