"""Where the master key comes from."""

from __future__ import annotations

import base64
import os

import pytest

from inferry.errors import SecretsUnreadable
from inferry.security.master_key import keep_master_keys, load_master_keys

KEY = bytes(range(32))


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path):
    previous = os.umask(0)
    try:
        (key,) = load_master_keys(tmp_path, {})
    finally:
        os.umask(previous)

    file = tmp_path / "master.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert base64.b64decode(file.read_text()) == key
    assert len(key) == 32
    assert list(tmp_path.iterdir()) == [file]


def test_later_starts_read_it(tmp_path):
    assert load_master_keys(tmp_path, {}) == load_master_keys(tmp_path, {})


def test_the_variable_wins_and_no_file_is_made(tmp_path):
    variable = {"INFERRY_MASTER_KEY": base64.b64encode(KEY).decode() + "\n"}

    assert load_master_keys(tmp_path, variable) == [KEY]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["x", "c2hvcnQ=", base64.b64encode(bytes(33)).decode()])
def test_a_variable_of_another_length_is_refused_without_showing_it(tmp_path, text):
    with pytest.raises(SecretsUnreadable) as refused:
        load_master_keys(tmp_path, {"INFERRY_MASTER_KEY": text})

    assert str(refused.value) == (
        "[INFERRY_MASTER_KEY] must hold 32 bytes in base64; `openssl rand -base64 32` makes a new "
        "key"
    )


def test_a_damaged_file_is_refused_and_not_replaced(tmp_path):
    file = tmp_path / "master.key"
    for content in (b"", b"half", b"\xff\xff"):
        file.write_bytes(content)
        file.chmod(0o600)

        with pytest.raises(SecretsUnreadable, match=r"master\.key"):
            load_master_keys(tmp_path, {})

        assert file.read_bytes() == content


def test_a_file_that_others_may_read_is_refused(tmp_path):
    load_master_keys(tmp_path, {})
    (tmp_path / "master.key").chmod(0o640)

    with pytest.raises(SecretsUnreadable, match=r"others may read the master key .* `chmod 600"):
        load_master_keys(tmp_path, {})


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(SecretsUnreadable, match="cannot write the master key"):
        load_master_keys(tmp_path / "missing", {})


def test_several_keys_are_kept_in_their_order(tmp_path):
    former = load_master_keys(tmp_path, {})

    keep_master_keys(tmp_path, [KEY, *former])

    assert load_master_keys(tmp_path, {}) == [KEY, *former]


def test_the_variable_may_hold_the_former_key_behind_the_new_one(tmp_path):
    former = bytes(32)
    both = ", ".join(base64.b64encode(one).decode() for one in (KEY, former))

    assert load_master_keys(tmp_path, {"INFERRY_MASTER_KEY": both}) == [KEY, former]
