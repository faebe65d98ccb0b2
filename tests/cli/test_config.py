"""`inferry config`."""

from __future__ import annotations

import json


def test_every_key_is_shown_with_its_origin(inferry, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inferry.toml").write_text("[server]\nworkers = 2\n")
    monkeypatch.setenv("INFERRY_SERVER__PORT", "9300")
    monkeypatch.setenv("ELASTIC_PASSWORD", "marker")

    ran = inferry("config", "show", "--origin", "--data-dir", "here")

    lines = ran.out.splitlines()
    assert "server.port\t9300\tINFERRY_SERVER__PORT" in lines
    assert f"server.workers\t2\t{tmp_path}/inferry.toml" in lines
    assert f'server.data_dir\t"{tmp_path}/here"\tcommand line' in lines
    assert "auth.admin_password\t********\tELASTIC_PASSWORD" in lines
    assert 'server.host\t"127.0.0.1"\tdefault' in lines


def test_without_origin_there_are_two_columns(inferry):
    ran = inferry("config", "show")

    assert "server.port\t9210" in ran.out.splitlines()


def test_the_configuration_as_json(inferry):
    rows = json.loads(inferry("config", "show", "--json", "--origin").out)

    assert {"key": "server.port", "value": "9210", "origin": "default"} in rows
