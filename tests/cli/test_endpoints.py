"""`inferry endpoints`."""

from __future__ import annotations

import io
import json

import pytest

ENDPOINT = {
    "inference_id": "e1",
    "task_type": "text_embedding",
    "service": "openai",
    "service_settings": {"model_id": "small", "rate_limit": {"requests_per_minute": 3000}},
}


def test_a_list_in_a_pipe_is_tab_separated(inferry, server):
    server.answer("GET", "/_inference/_all", {"endpoints": [ENDPOINT]})

    ran = inferry("endpoints", "list", "--url", server.url)

    assert ran.out == "e1\ttext_embedding\topenai\tsmall\n"


def test_a_list_on_a_terminal_is_a_table(inferry, server, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    server.answer("GET", "/_inference/_all", {"endpoints": [ENDPOINT]})

    ran = inferry("endpoints", "list", "--url", server.url)

    assert "task type" in ran.out
    assert "text_embedding" in ran.out


def test_a_list_can_be_limited_to_a_task(inferry, server):
    server.answer("GET", "/_inference/rerank/_all", {"endpoints": []})

    assert inferry("endpoints", "list", "--task", "rerank", "--url", server.url).exit_code == 0


def test_json_is_the_answer_as_it_came(inferry, server):
    server.answer("GET", "/_inference/e1", {"endpoints": [ENDPOINT]} | ENDPOINT)

    ran = inferry("endpoints", "get", "e1", "--json", "--url", server.url)

    assert json.loads(ran.out) == {"endpoints": [ENDPOINT]} | ENDPOINT


def test_one_endpoint_is_shown_setting_by_setting(inferry, server):
    server.answer("GET", "/_inference/e1", {"endpoints": [ENDPOINT]})

    ran = inferry("endpoints", "get", "e1", "--url", server.url)

    assert "service_settings.rate_limit.requests_per_minute\t3000\n" in ran.out


@pytest.mark.parametrize("form", ["literal", "file", "stdin"])
def test_settings_come_as_json_from_a_file_or_from_standard_input(
    inferry, server, tmp_path, monkeypatch, form
):
    settings = {"service": "openai", "service_settings": {"api_key": "k"}}
    (tmp_path / "body.json").write_text(json.dumps(settings))
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(settings).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    body = {"literal": json.dumps(settings), "file": f"@{tmp_path}/body.json", "stdin": "-"}[form]
    server.answer("PUT", "/_inference/text_embedding/e1", ENDPOINT)

    ran = inferry("endpoints", "put", "e1", "text_embedding", "--body", body, "--url", server.url)

    assert ran.exit_code == 0
    assert server.received[0].body == settings
    assert ran.err == "created e1\n"


@pytest.mark.parametrize("body", ["{", "@/absent.json"])
def test_settings_that_cannot_be_read_are_a_usage_error(inferry, server, body):
    ran = inferry("endpoints", "put", "e1", "rerank", "--body", body, "--url", server.url)

    assert ran.exit_code == 2
    assert server.received == []


def test_a_dry_run_prints_what_would_be_stored(inferry, server):
    server.answer("PUT", "/_inference/rerank/e1?dry_run=true", {"resolved": 1})

    ran = inferry(
        "endpoints", "put", "e1", "rerank", "--dry-run", "--body", "{}", "--url", server.url
    )

    assert json.loads(ran.out) == {"resolved": 1}
    assert ran.err == ""


def test_an_endpoint_is_deleted(inferry, server):
    server.answer("DELETE", "/_inference/e1?force=true", {"acknowledged": True})

    ran = inferry("endpoints", "delete", "e1", "--force", "--url", server.url)

    assert ran.exit_code == 0
    assert ran.err == "deleted e1\n"
