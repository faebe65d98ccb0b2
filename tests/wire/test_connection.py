"""What goes over a connection that no client library would send."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest


def talk(wire, *parts: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Send raw bytes and give the answers until the server closes."""
    where = urlsplit(wire.server.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while part := connection.recv(65536):
            received += part
    return list(answers(received))


def answers(received: bytes):
    """Split what was received into status, headers and body."""
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = int(headers.get("content-length", 0))
        yield int(first.split(" ")[1]), headers, rest[:size]
        received = rest[size:]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_the_envelope(wire, request_bytes):
    [(status, headers, body)] = talk(wire, request_bytes)

    assert status == 400
    assert headers["x-elastic-product"] == "Elasticsearch"
    assert json.loads(body)["error"]["type"] == "illegal_argument_exception"


def test_an_unknown_method_is_a_wrong_method(wire):
    [(status, headers, body)] = talk(wire, b"FROB /_inference HTTP/1.1\r\nHost: x\r\n\r\n")

    assert status == 405
    assert headers["x-elastic-product"] == "Elasticsearch"
    assert json.loads(body)["error"].startswith(
        "Unexpected HTTP method [FROB] for uri [/_inference]"
    )


def test_a_head_above_the_limit_is_refused(wire):
    [(status, headers, body)] = talk(wire, b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 100_000)

    assert status == 431
    assert headers["x-elastic-product"] == "Elasticsearch"
    assert json.loads(body)["status"] == 431


def test_requests_in_one_packet_are_answered_in_order(wire):
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n"

    replies = talk(wire, (request + b"\r\n") * 2 + request + b"Connection: close\r\n\r\n")

    assert [status for status, _, _ in replies] == [200, 200, 200]


def test_rubbish_behind_a_request_does_not_hurt_its_answer(wire):
    replies = talk(wire, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nrubbish\r\n\r\n")

    assert replies[0][0] == 200
    assert replies[0][2] == b'{"status":"ok"}'


def test_a_broken_body_is_refused(wire):
    head = b"POST /_inference/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    authorization = f"Authorization: {wire.server.authorization}\r\n".encode()
    head += b"Content-Type: application/json\r\n" + authorization + b"\r\n"

    [(status, headers, _)] = talk(wire, head, b"zz\r\nno chunk\r\n")

    assert status == 400
    assert headers["x-elastic-product"] == "Elasticsearch"


def test_a_body_may_come_in_chunks(wire):
    body = b'{"input":"x"}'
    head = b"POST /_inference/nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    authorization = f"Authorization: {wire.server.authorization}\r\n".encode()
    head += b"Content-Type: application/json\r\nConnection: close\r\n" + authorization + b"\r\n"
    chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body)

    [(status, _, _)] = talk(wire, head, chunks, b"0\r\n\r\n")

    assert status == 404


def test_a_client_that_asks_first_is_told_to_go_on(wire):
    where = urlsplit(wire.server.url)
    head = (
        "POST /_inference/nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        f"Content-Length: 13\r\nContent-Type: application/json\r\n"
        f"Authorization: {wire.server.authorization}\r\n\r\n"
    )
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"input":"x"}')
        assert connection.recv(1000).startswith(b"HTTP/1.1 404 ")


def test_a_path_that_is_not_utf_8_is_refused(wire):
    request = (
        f"GET /_inference/%ff HTTP/1.1\r\nHost: x\r\nAuthorization: {wire.server.authorization}"
    )

    [(status, _, body)] = talk(wire, request.encode() + b"\r\nConnection: close\r\n\r\n")

    assert status == 400
    assert json.loads(body)["error"]["type"] == "illegal_argument_exception"


def test_a_client_that_offers_http_2_is_answered_with_its_body_read(wire):
    head = (
        "POST /_inference/text_embedding/nowhere HTTP/1.1\r\nHost: x\r\n"
        "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
        f"Authorization: {wire.server.authorization}\r\n"
        "Content-Type: application/json\r\nContent-Length: 13\r\n\r\n"
    )

    [(status, _, body)] = talk(wire, head.encode() + b'{"input":"x"}')

    assert status == 404, body
