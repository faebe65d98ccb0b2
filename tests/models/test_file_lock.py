"""A lock by a file, which is there only while somebody has it."""

from __future__ import annotations

import threading

import pytest

from inferry.models.file_lock import locked_by


def test_nothing_remains_of_a_lock(tmp_path):
    file = tmp_path / "new/one.lock"

    with locked_by(file):
        assert file.exists()

    assert not file.exists()


def test_it_is_held_by_one_at_a_time_whoever_removes_its_file(tmp_path):
    inside, most = 0, 0
    guard = threading.Lock()

    def take() -> None:
        nonlocal inside, most
        for _ in range(50):
            with locked_by(tmp_path / "one.lock"):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_who_does_not_want_to_wait_is_told(tmp_path):
    file = tmp_path / "one.lock"

    with locked_by(file), pytest.raises(BlockingIOError), locked_by(file, waits=False):
        pass
    with locked_by(file, waits=False):
        assert file.exists()

    assert not file.exists()
