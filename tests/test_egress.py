"""Which URLs and addresses may be called."""

from __future__ import annotations

import ipaddress

import pytest

from inferry.egress import EgressRules
from inferry.errors import BadRequest

CLOSED = EgressRules(allow_private_networks=False)
OPEN = EgressRules(allow_private_networks=True)


def refusal(rules: EgressRules, url: str) -> str:
    with pytest.raises(BadRequest) as caught:
        rules.check_url(url)
    return str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "https://1.1.1.1/", "https://bücher.example:444/x"]
)
def test_public_hosts_are_called_by_https(url) -> None:
    assert CLOSED.check_url(url).scheme == "https"
    assert OPEN.check_url(url).scheme == "https"


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.0.1", "[fe80::1]", "[fd00:ec2::254]", "100.100.100.200"]
    + ["224.0.0.1", "255.255.255.255", "[ff02::1]", "0.0.0.0", "0.1.2.3", "[::]"]
    + ["[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::169.254.169.254]"]
    + ["[2002:a9fe:a9fe::1]", "168.63.129.16", "192.0.0.192"],
)
@pytest.mark.parametrize("rules", [CLOSED, OPEN])
def test_metadata_link_local_multicast_and_unspecified_addresses_are_never_called(
    rules, host
) -> None:
    assert "is never called" in refusal(rules, f"https://{host}/")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "[::1]"]
    + ["[fc00::1]", "[::ffff:10.0.0.1]", "[::ffff:7f00:1]", "127.0.0.1."],
)
def test_private_addresses_are_called_only_if_the_operator_allows_it(host) -> None:
    assert "[outbound.allow_private_networks]" in refusal(CLOSED, f"https://{host}/")
    OPEN.check_url(f"https://{host}/")
    OPEN.check_url(f"http://{host}:8080/")


@pytest.mark.parametrize("url", ["http://api.openai.com/", "http://127.0.0.1/"])
def test_plain_http_needs_private_networks_to_be_allowed(url) -> None:
    assert "[outbound.allow_private_networks]" in refusal(CLOSED, url)


def test_plain_http_never_goes_to_a_public_address() -> None:
    assert "public address" in refusal(OPEN, "http://1.1.1.1/")


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.0.0.1", "017700000001", "1.2.3.4.5"],
)
def test_addresses_in_odd_notations_are_refused(host) -> None:
    assert "four decimal numbers" in refusal(OPEN, f"http://{host}/")


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "１２７.0.0.1"])
def test_digits_of_other_scripts_are_no_way_around(host) -> None:
    refusal(CLOSED, f"https://{host}/")


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    message = refusal(OPEN, "https://user:hunter2@example.org/")

    assert "user and password are not allowed" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org/", "file:///etc/passwd", "https://", "http://[::1/"],
)
def test_what_is_no_http_url_is_refused(url) -> None:
    assert "Invalid url" in refusal(OPEN, url)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/model/a%3A0%2Fb/invoke", "/model/a%3A0%2Fb/invoke"),
        ("/models/m:predict", "/models/m:predict"),
        ("/é", "/%C3%A9"),
        ("/%zz", "/%25zz"),
        ("", "/"),
    ],
)
def test_the_path_stays_as_it_is_written_where_http_can_carry_it(path, sent) -> None:
    assert OPEN.check_url(f"https://example.org{path}?a=b").raw_path_qs == f"{sent}?a=b"


@pytest.mark.parametrize(
    "host", ["api.example.org", "deep.api.example.org", "exact.test", "EXACT.test."]
)
def test_an_allow_list_lets_its_hosts_pass(host) -> None:
    EgressRules(False, ("*.example.org", "exact.test")).check_url(f"https://{host}/")


@pytest.mark.parametrize("host", ["example.org", "badexample.org", "sub.exact.test", "1.1.1.1"])
def test_an_allow_list_refuses_every_other_host(host) -> None:
    rules = EgressRules(False, ("*.example.org", "exact.test"))

    assert "[outbound.allow_hosts]" in refusal(rules, f"https://{host}/")


def test_an_address_that_a_name_resolves_to_is_held_against_the_same_rules() -> None:
    private = ipaddress.ip_address("10.1.1.1")

    OPEN.check_address(private, host="tei.internal", is_plain=True)
    with pytest.raises(BadRequest, match="private address"):
        CLOSED.check_address(private, host="tei.internal", is_plain=False)
    with pytest.raises(BadRequest, match="public address"):
        OPEN.check_address(ipaddress.ip_address("8.8.8.8"), host="tei.test", is_plain=True)
