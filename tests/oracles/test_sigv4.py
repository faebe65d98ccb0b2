"""The signer of AWS's SDK signs what we send the way we do, and what the SDK sends, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.oracles.asking import ask_ours, ask_sdk, canned
from tests.oracles.oracle import all_oracles
from tests.providers import Provider, Received, open_provider
from tests.services.cases import Case, cases

ORACLE = next(oracle for oracle in all_oracles() if oracle.package == "boto3")
CASES = [
    case
    for kind in ("cases", "streams")
    for case in cases(kind)
    if case.service.name == ORACLE.service
]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with open_provider() as opened:
        yield opened


def signature_of(received: Received, case: Case, origin: str) -> str:
    """Sign a request again, in the second of its own signature and with the headers it covers."""
    _, _, covered = received.headers["authorization"].partition("SignedHeaders=")
    names = covered.partition(",")[0].split(";")
    headers = {name: received.headers[name] for name in names if name not in {"host", "x-amz-date"}}
    secrets = case.request.endpoint.secrets
    signer: Any = SigV4Auth(
        Credentials(secrets["access_key"], secrets["secret_key"]),
        "bedrock",
        case.request.endpoint.service_settings["region"],
    )
    request = AWSRequest(received.method, origin + received.path, headers, received.body)
    moment = datetime.strptime(received.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    with patch("botocore.auth.get_current_datetime", return_value=moment):
        signer.add_auth(request)
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("ask", [ask_ours, ask_sdk], ids=["ours", "the SDK"])
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_request_has_the_signature_of_the_vendors_signer(case, ask, provider):
    provider.always(canned(case))

    await ask(case, ORACLE, provider)

    (received,) = provider.requests
    assert received.headers["authorization"] == signature_of(received, case, provider.url)
    assert "content-type;host;x-amz-date" in received.headers["authorization"]
