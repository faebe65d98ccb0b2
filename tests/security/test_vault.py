"""Sealed secrets."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.errors import IllegalArgument, SecretsUnreadable, StoreFailure
from inferry.security.secret_references import SecretReferences
from inferry.security.vault import SecretVault, open_vault

KEY = bytes(range(32))
SECRETS = {"api_key": "sk-marker-é", "secret_key": "x"}


def vault_with(key: bytes = KEY, environment: dict[str, str] | None = None) -> SecretVault:
    return SecretVault([key], SecretReferences(environment or {}))


def test_what_is_sealed_opens_again():
    vault = vault_with()

    assert vault.open(vault.seal(SECRETS, owner="docs"), owner="docs") == SECRETS


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
)
def test_any_text_is_a_secret(secrets):
    vault = vault_with()
    secrets = {name: value.replace("${", "") for name, value in secrets.items()}

    assert vault.open(vault.seal(secrets, owner="docs"), owner="docs") == secrets


def test_a_sealed_value_shows_nothing_and_never_repeats():
    vault = vault_with()

    first, second = (vault.seal(SECRETS, owner="docs") for _ in range(2))

    assert b"marker" not in first
    assert b"api_key" not in first
    assert first[:9] == second[:9]  # version and key id
    assert first[9:] != second[9:]


def test_a_sealed_value_does_not_open_in_the_place_of_another():
    vault = vault_with()
    sealed = vault.seal(SECRETS, owner="docs")

    with pytest.raises(SecretsUnreadable, match=r"stored secrets of \[other\] are damaged"):
        vault.open(sealed, owner="other")


@pytest.mark.parametrize("place", [10, 25, -1])
def test_a_damaged_value_does_not_open(place):
    vault = vault_with()
    damaged = bytearray(vault.seal(SECRETS, owner="docs"))
    damaged[place] ^= 1

    with pytest.raises(SecretsUnreadable, match=r"\[docs\] are damaged"):
        vault.open(bytes(damaged), owner="docs")


@pytest.mark.parametrize("length", [0, 5, 9, 15, 21])
def test_a_value_that_was_cut_off_does_not_open(length):
    vault = vault_with()

    with pytest.raises(SecretsUnreadable):
        vault.open(vault.seal(SECRETS, owner="docs")[:length], owner="docs")


def test_another_master_key_is_named_with_what_to_do():
    sealed = vault_with().seal(SECRETS, owner="docs")

    with pytest.raises(SecretsUnreadable) as refused:
        vault_with(bytes(32)).open(sealed, owner="docs")

    assert isinstance(refused.value, StoreFailure)
    assert str(refused.value) == (
        "the secrets of [docs] were sealed with another master key: restore that key (file "
        "[master.key] of the data directory, or INFERRY_MASTER_KEY), or give the endpoint its "
        "secrets again with PUT _update"
    )


def test_new_secrets_are_laid_over_the_stored_ones():
    vault = vault_with()
    sealed = vault.seal(SECRETS, owner="docs")

    merged = vault.merge(sealed, {"api_key": "new"}, owner="docs")

    assert vault.open(merged, owner="docs") == {"api_key": "new", "secret_key": "x"}


def test_a_reference_is_stored_as_it_is_and_resolved_on_open():
    reference = {"api_key": "${env:INFERRY_SECRET_OPENAI}"}
    sealed = vault_with().seal(reference, owner="docs")
    first = vault_with(environment={"INFERRY_SECRET_OPENAI": "one"})
    second = vault_with(environment={"INFERRY_SECRET_OPENAI": "two"})

    merged = first.merge(sealed, {"other": "x"}, owner="docs")

    assert first.open(sealed, owner="docs") == {"api_key": "one"}
    assert second.open(sealed, owner="docs") == {"api_key": "two"}
    assert second.open(merged, owner="docs") == {"api_key": "two", "other": "x"}


@pytest.mark.parametrize("call", ["seal", "merge"])
def test_a_reference_that_breaks_a_rule_is_refused_before_it_is_stored(call):
    vault = vault_with()
    sealed = vault.seal(SECRETS, owner="docs")
    secrets = {"api_key": "${env:INFERRY_MASTER_KEY}"}

    with pytest.raises(IllegalArgument, match=r"\[api_key\] holds a reference"):
        if call == "seal":
            vault.seal(secrets, owner="docs")
        else:
            vault.merge(sealed, secrets, owner="docs")


def test_too_large_secrets_are_refused():
    with pytest.raises(IllegalArgument, match=r"the limit is \[262144\]"):
        vault_with().seal({"api_key": "x" * 300_000}, owner="docs")


def test_a_vault_opens_again_what_it_sealed_before_a_restart(tmp_path):
    sealed = open_vault(tmp_path, {}, secrets_path=None).seal(SECRETS, owner="docs")

    assert open_vault(tmp_path, {}, secrets_path=None).open(sealed, owner="docs") == SECRETS


def test_no_reference_reaches_the_data_directory(tmp_path):
    vault = open_vault(tmp_path, {}, secrets_path=tmp_path)
    sealed = vault.seal({"api_key": "${file:master.key}"}, owner="docs")

    with pytest.raises(IllegalArgument, match=r"leads out of \[secrets.path\]"):
        vault.open(sealed, owner="docs")


def test_after_a_renewal_new_values_are_sealed_with_the_new_key_and_old_ones_open(tmp_path):
    vault = open_vault(tmp_path, {}, secrets_path=None)
    before = vault.seal(SECRETS, owner="docs")

    vault.renew()
    after = vault.seal(SECRETS, owner="docs")

    assert after[:9] != before[:9]
    assert vault.open(before, owner="docs") == vault.open(after, owner="docs") == SECRETS
    restarted = open_vault(tmp_path, {}, secrets_path=None)
    assert restarted.has_former
    assert restarted.open(before, owner="docs") == restarted.open(after, owner="docs") == SECRETS


def test_what_is_sealed_anew_outlives_the_former_key(tmp_path):
    vault = open_vault(tmp_path, {}, secrets_path=None)
    before = vault.seal(SECRETS, owner="docs")
    vault.renew()

    after = vault.reseal(before, owner="docs")
    assert after is not None
    assert vault.reseal(after, owner="docs") is None
    vault.retire()

    restarted = open_vault(tmp_path, {}, secrets_path=None)
    assert not restarted.has_former
    assert restarted.open(after, owner="docs") == SECRETS
    with pytest.raises(SecretsUnreadable):
        restarted.open(before, owner="docs")


def test_a_key_of_the_environment_is_replaced_by_whoever_set_it(tmp_path):
    new, former = base64.b64encode(KEY).decode(), base64.b64encode(bytes(32)).decode()
    sealed = open_vault(tmp_path, {"INFERRY_MASTER_KEY": former}, secrets_path=None).seal(
        SECRETS, owner="docs"
    )

    with pytest.raises(SecretsUnreadable, match="the new key and the former one"):
        open_vault(tmp_path, {"INFERRY_MASTER_KEY": new}, secrets_path=None).renew()

    both = open_vault(tmp_path, {"INFERRY_MASTER_KEY": f"{new},{former}"}, secrets_path=None)
    both.renew()
    resealed = both.reseal(sealed, owner="docs")
    assert resealed is not None
    alone = open_vault(tmp_path, {"INFERRY_MASTER_KEY": new}, secrets_path=None)
    assert alone.open(resealed, owner="docs") == SECRETS
    assert list(tmp_path.iterdir()) == []
