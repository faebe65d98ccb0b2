"""A server that speaks TLS."""

from __future__ import annotations

import http.client
import socket
import ssl
from urllib.parse import urlsplit

import pytest

from tests.certificates import make_certificate
from tests.processes.test_supervisor import refusal, run

pytestmark = pytest.mark.server


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path)


@pytest.fixture
def flags(certificate):
    return {
        "INFERRY_SERVER__TLS_CERT": str(certificate.file),
        "INFERRY_SERVER__TLS_KEY": str(certificate.key_file),
    }


def connect(server, certificate) -> http.client.HTTPSConnection:
    where = urlsplit(server.url)
    context = ssl.create_default_context(cafile=certificate.file)
    opened = http.client.HTTPSConnection("127.0.0.1", where.port, timeout=30, context=context)
    opened.connect()
    return opened


def status_of(connection: http.client.HTTPConnection, path: str = "/health") -> int:
    connection.request("GET", path)
    with connection.getresponse() as reply:
        reply.read()
        return reply.status


def test_every_process_shows_a_new_certificate_without_a_restart(
    serve, tmp_path, flags, certificate
):
    server = serve("--workers", "2", environment=flags, auth=True)
    assert server.url.startswith("https://")
    before = [connect(server, certificate) for _ in range(8)]
    renewed = make_certificate(tmp_path, number=2)

    def is_new_everywhere() -> bool:
        found = [fetched(server) for _ in range(8)]
        return set(found) == {renewed.der}

    server.wait_until(is_new_everywhere)

    assert [status_of(one) for one in before] == [200] * 8
    after = connect(server, renewed)
    assert status_of(after) == 200
    assert status_of(after, "/_inference") == 401
    for one in [*before, after]:
        one.close()


def fetched(server) -> bytes:
    where = urlsplit(server.url)
    pem = ssl.get_server_certificate(("127.0.0.1", where.port or 0), timeout=30)
    return ssl.PEM_cert_to_DER_cert(pem)


def test_who_speaks_no_tls_is_told_nothing(serve, flags):
    server = serve(environment=flags, auth=True)
    where = urlsplit(server.url)

    with socket.create_connection(("127.0.0.1", where.port), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        received = connection.recv(1000)

    assert not received.startswith(b"HTTP/")


def test_the_printed_command_works_with_tls_too(serve, flags):
    server = serve(environment=flags, auth=True)
    line = next(line for line in server.greeting.splitlines() if "curl " in line)

    answer = run(f"{line} --silent --fail")

    assert answer.returncode == 0, answer.stderr


def test_a_certificate_that_cannot_be_used_is_told_before_anything_starts(tmp_path, certificate):
    certificate.key_file.write_text("rubbish")

    refused = refusal(
        tmp_path, *("--config", str(_config(tmp_path, certificate))), *("--host", "0.0.0.0")
    )

    assert refused.returncode == 1
    assert f"[server.tls_cert] is [{certificate.file}]" in refused.stderr
    assert not (tmp_path / "data").exists()


def _config(tmp_path, certificate):
    file = tmp_path / "inferry.toml"
    file.write_text(
        f'[server]\ntls_cert = "{certificate.file}"\ntls_key = "{certificate.key_file}"\n'
    )
    return file
