"""How client commands reach the server, and what they say when it refuses."""

from __future__ import annotations

import socket

import pytest

from inferry.cli.connection import find_api_key, path_of, reason_of


@pytest.mark.parametrize(
    ("status", "exit_code"), [(400, 1), (401, 4), (403, 4), (404, 3), (409, 1), (500, 1)]
)
def test_a_refusal_ends_with_its_exit_code_and_the_reason(inferry, server, status, exit_code):
    body = {"error": {"type": "x", "reason": "because"}, "status": status}
    server.answer("GET", "/_inference/_all", body, status=status)

    ran = inferry("endpoints", "list", "--url", server.url)

    assert ran.exit_code == exit_code
    assert ran.err == "inferry: because\n"
    assert ran.out == ""


def test_a_server_that_is_not_there_is_unreachable(inferry):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        ran = inferry("endpoints", "list", "--url", url)

    assert ran.exit_code == 5
    assert ran.err == f"inferry: cannot reach {url}: Connection refused\n"


def test_an_address_that_is_no_url_is_a_usage_error(inferry):
    assert inferry("endpoints", "list", "--url", "localhost:9210").exit_code == 2


def test_the_key_comes_from_the_option_or_the_variable(inferry, server, monkeypatch):
    server.answer("GET", "/_inference/_all", {"endpoints": []})
    monkeypatch.setenv("INFERRY_URL", server.url)
    monkeypatch.setenv("INFERRY_API_KEY", "from-variable")

    inferry("endpoints", "list")
    inferry("endpoints", "list", "--api-key", "from-option")

    sent = [request.authorization for request in server.received]
    assert sent == ["ApiKey from-variable", "ApiKey from-option"]


def test_without_either_the_local_key_of_the_data_directory_is_used(inferry, server, tmp_path):
    (tmp_path / "local-api-key").write_text("local\n")
    server.answer("GET", "/_inference/_all", {"endpoints": []})

    inferry("endpoints", "list", "--url", server.url, "--data-dir", str(tmp_path))

    assert server.received[0].authorization == "ApiKey local"


def test_the_local_key_never_leaves_this_machine(tmp_path):
    (tmp_path / "local-api-key").write_text("local")

    assert find_api_key("http://127.0.0.1:9210", tmp_path) == "local"
    assert find_api_key("http://localhost:9210", tmp_path) == "local"
    assert find_api_key("https://inferry.example.org", tmp_path) is None


def test_ids_in_paths_are_quoted():
    assert path_of("_inference", "a/b c") == "/_inference/a%2Fb%20c"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"reason": "a", "caused_by": {"reason": "b"}}}, "a: b"),
        ({"error": {"message": "openai's form"}}, "openai's form"),
        ({"error": "just text"}, "just text"),
        ([1], "[1]"),
    ],
)
def test_the_reason_is_found_in_every_form_of_error(body, reason):
    assert reason_of(body) == reason


def test_an_answer_that_is_not_json_is_a_failure(inferry, server):
    server.answer("GET", "/_inference/_all", b"<html>")

    ran = inferry("endpoints", "list", "--url", server.url)

    assert ran.exit_code == 1
    assert "not JSON" in ran.err
