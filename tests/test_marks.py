"""What the suites look for in all that servers say and leave is found."""

import base64
from pathlib import Path

import pytest

from tests.marks import MARK, check_left
from tests.server import Reply

SECRETS = [
    MARK.encode(),
    f"a key, {MARK}, and more".encode(),
    base64.b64encode(f"elastic:{MARK}".encode()),
    base64.b64encode(f"someone:a password, {MARK}, and more".encode()),
]


@pytest.mark.parametrize("shown", SECRETS)
def test_no_answer_of_a_server_may_show_a_secret(shown: bytes) -> None:
    with pytest.raises(AssertionError, match="a secret shows in an answer"):
        Reply(500, {}, b'{"reason":"' + shown + b'"}')
    with pytest.raises(AssertionError, match="a secret shows in an answer"):
        Reply(200, {"warning": shown.decode()}, b"{}")


@pytest.mark.parametrize("shown", SECRETS)
def test_no_log_and_no_file_that_a_server_leaves_may_show_a_secret(
    tmp_path: Path, shown: bytes
) -> None:
    log, data_dir = tmp_path / "log", tmp_path / "data"
    (data_dir / "below").mkdir(parents=True)
    log.write_bytes(b"a line")
    check_left(log, data_dir)

    (data_dir / "below" / "file").write_bytes(b"SQLite" + shown)
    with pytest.raises(AssertionError, match=r"a secret shows in .*below/file"):
        check_left(log, data_dir)
    (data_dir / "below" / "file").unlink()

    log.write_bytes(b"a line\n" + shown)
    with pytest.raises(AssertionError, match=r"a secret shows in .*log"):
        check_left(log, data_dir)
