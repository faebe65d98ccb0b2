"""The certificate that is shown, and when another takes its place."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from inferry.sections import TelemetrySection
from inferry.telemetry import configure_logging
from inferry.tls import Certificate, CertificateUnusable
from tests.certificates import make_certificate


def open_certificate(made) -> Certificate:
    return Certificate(str(made.file), str(made.key_file))


async def shown(certificate: Certificate) -> bytes | None:
    """Give the certificate that a client sees."""
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificate.context
    )
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        der: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
    return der


async def test_a_certificate_that_was_replaced_is_shown_from_then_on(tmp_path):
    certificate = open_certificate(first := make_certificate(tmp_path))
    assert await shown(certificate) == first.der

    second = make_certificate(tmp_path, number=2)
    assert await shown(certificate) == first.der
    certificate.refresh()

    assert await shown(certificate) == second.der != first.der


@pytest.mark.parametrize("damage", ["other key", "no key", "no certificate", "rubbish"])
async def test_what_cannot_be_used_leaves_the_former_until_it_can(tmp_path, capfd, damage):
    configure_logging(TelemetrySection(log_format="json"))
    certificate = open_certificate(first := make_certificate(tmp_path))
    (other := tmp_path / "other").mkdir()
    second = make_certificate(other, number=2)
    match damage:
        case "other key":
            first.key_file.write_bytes(second.key_file.read_bytes())
        case "no key":
            first.key_file.unlink()
        case "no certificate":
            first.file.unlink()
        case "rubbish":
            first.file.write_text("rubbish")

    certificate.refresh()
    certificate.refresh()

    assert await shown(certificate) == first.der
    assert capfd.readouterr().err.count("the new certificate is not used") == 1
    first.key_file.write_bytes(second.key_file.read_bytes())
    first.file.write_bytes(second.file.read_bytes())
    certificate.refresh()
    assert await shown(certificate) == second.der


@pytest.mark.parametrize("damage", ["password", "missing", "rubbish"])
def test_a_start_with_a_certificate_that_cannot_be_used_says_why(tmp_path, damage):
    made = make_certificate(tmp_path, password=b"hunter2" if damage == "password" else None)
    if damage == "missing":
        made.file.unlink()
    if damage == "rubbish":
        made.key_file.write_text("rubbish")

    with pytest.raises(CertificateUnusable) as caught:
        open_certificate(made)

    assert str(caught.value).startswith(f"[server.tls_cert] is [{made.file}] and [server.tls_key]")
    assert "without a password" in str(caught.value)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions_of_the_protocol_are_not_spoken(tmp_path, version):
    certificate = open_certificate(make_certificate(tmp_path))

    assert certificate.context.minimum_version > ssl.TLSVersion[version]
    assert certificate.context.options & ssl.OP_NO_RENEGOTIATION
