"""Sockets with a path: private, and reachable however long the path is."""

import socket
import stat

import pytest

from inferry.unix_sockets import listen_at, short_address


@pytest.mark.parametrize("length", [1, 200])
def test_a_socket_is_reached_at_its_path_and_belongs_to_its_owner_only(tmp_path, length):
    path = tmp_path / ("d" * length) / "s"

    with listen_at(path), socket.socket(socket.AF_UNIX) as client:
        with short_address(path) as address:
            client.connect(address)

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_a_dead_process_left_behind_is_replaced(tmp_path):
    listen_at(tmp_path / "s").close()

    with listen_at(tmp_path / "s"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
