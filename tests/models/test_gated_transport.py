"""Downloads connect where providers may be called, and nowhere else."""

from __future__ import annotations

import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from inferry.egress import EgressRules
from inferry.errors import BadRequest
from inferry.models.downloads import Site
from inferry.models.gated_transport import GatedTransport, open_site
from tests.addresses import NEVER, NO_HTTP, OF_THE_NETWORK, UNREADABLE
from tests.certificates import Certificate, make_certificate

OPEN = EgressRules(allow_private_networks=True)


class Names:
    """Answers each look-up of a name with the next of its answers, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    def __call__(self, host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
        self.asked.append(host)
        current = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ipaddress.ip_address(one) for one in current]


class EchoSite(http.server.BaseHTTPRequestHandler):
    """Answers with the name it was asked for, and leads elsewhere where the path says so."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host = self.headers["Host"].encode()
        self.send_response(302 if self.path.startswith("/to/") else 200)
        self.send_header("Location", self.path.removeprefix("/to/"))
        self.send_header("Content-Length", str(len(host)))
        self.end_headers()
        self.wfile.write(host)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(certificate: Certificate | None = None) -> Iterator[int]:
    """Serve a site on loopback and give its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EchoSite) as server:
        if certificate:
            server.socket = certificate.context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def open_client(names: Names, context: ssl.SSLContext | None = None) -> Iterator[httpx2.Client]:
    context = context or ssl.create_default_context()
    with httpx2.Client(transport=GatedTransport(OPEN, context, names)) as client:
        yield client


def refusal(url: str, *, allow_private_networks: bool) -> str:
    access = Site("http://hub", allow_private_networks=allow_private_networks)
    # What the library itself takes for no URL does not even come to the gate.
    refusals = (BadRequest, httpx2.InvalidURL, httpx2.UnsupportedProtocol)
    with open_site(access) as client, pytest.raises(refusals) as caught:
        client.get(url)
    return str(caught.value)


def test_a_download_goes_to_no_address_that_is_never_called():
    for host in NEVER:
        assert "never called" in refusal(f"https://{host}/f", allow_private_networks=True), host


def test_a_download_from_the_network_needs_the_setting_that_is_named():
    for host in filter(str.isascii, OF_THE_NETWORK):  # the library itself reads no others
        said = refusal(f"https://{host}/f", allow_private_networks=False)
        assert "[outbound.allow_private_networks] is not set" in said, host


def test_what_two_parsers_may_read_differently_is_not_downloaded():
    for url in [*(f"https://{host}/f" for host in UNREADABLE), *NO_HTTP]:
        refusal(url, allow_private_networks=True)


def test_a_hub_leads_to_no_address_that_is_never_called():
    access = Site("http://127.0.0.1", allow_private_networks=True)
    with serve() as port, open_site(access) as client:
        for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "metadata.google.internal"):
            with pytest.raises(BadRequest, match="is never called"):
                client.get(f"http://127.0.0.1:{port}/to/http://{host}/latest")


def test_a_name_that_changes_its_mind_is_checked_each_time():
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    with serve() as port, open_client(names) as client:
        url = f"http://rebound.example.org:{port}/"

        first = client.get(url)
        with pytest.raises(BadRequest, match=r"\[169.254.169.254\] is a link-local address"):
            client.get(url)

    assert first.text == f"rebound.example.org:{port}"
    assert names.asked == ["rebound.example.org"] * 2  # one look-up for each request


def test_of_several_addresses_the_first_that_is_allowed_and_answers_is_taken():
    names = Names(["169.254.169.254", "127.0.0.2", "127.0.0.1"])
    with serve() as port, open_client(names) as client:
        assert client.get(f"http://several.example.org:{port}/").status_code == 200


def test_a_name_without_an_address_cannot_be_reached():
    with open_client(Names([])) as client, pytest.raises(httpx2.ConnectError):
        client.get("http://nowhere.example.org/")


def test_the_certificate_is_that_of_the_name_and_not_of_the_address(tmp_path):
    """The site proves to be 127.0.0.1, which its name is not."""
    certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate.file))
    with serve(certificate) as port, open_client(Names(["127.0.0.1"]), context) as client:
        by_address = client.get(f"https://127.0.0.1:{port}/")
        with pytest.raises(httpx2.ConnectError, match=r"certificate is not valid for 'hub"):
            client.get(f"https://hub.example.org:{port}/")

    assert by_address.status_code == 200
