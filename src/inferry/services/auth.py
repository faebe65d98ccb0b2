"""How calls are signed: generators that yield the calls they need and return the headers to add.

Sources: RFC 6750 (bearer), RFC 6749 §2.3.1 and §4.4 (client credentials),
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow (Entra),
https://developers.google.com/identity/protocols/oauth2/service-account (Google),
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html (AWS).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote_plus, urlencode

import msgspec

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import Endpoint
from inferry.errors import BadRequest, Retry, UnreadableReply, UpstreamError
from inferry.redaction import redact
from inferry.service import Auth

_UNSTATED_LIFETIME_S = 300.0
_GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_GOOGLE_MARGIN_S = 300.0
_ASSERTION_LIFETIME_S = 3600


def header_key(header: str, *, setting: str = "api_key", prefix: str = "") -> Auth:
    """Send the secret `setting` behind `prefix` in `header`."""

    def key_in_header(
        call: HttpCall, endpoint: Endpoint, now: float
    ) -> Generator[HttpCall, HttpReply, Credential]:
        yield from ()
        return Credential({header: prefix + secret_for_header(endpoint, setting)}, math.inf)

    return key_in_header


def bearer_token(setting: str) -> Auth:
    """Send the secret `setting` as a bearer token."""
    return header_key("Authorization", setting=setting, prefix="Bearer ")


bearer = bearer_token("api_key")


def oauth2_client_credentials(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    """Exchange `client_id` and `client_secret` at `token_url` for a bearer token."""
    reply = yield _token_call(endpoint)
    return _token_credential(reply, endpoint, now, failed=_failed(endpoint))


def entra_client_credentials(title: str) -> Auth:
    """Exchange `client_id` and `client_secret` at the Entra tenant `tenant_id` for a bearer token.

    title: names the service when that fails.
    """

    def entra_token(
        call: HttpCall, endpoint: Endpoint, now: float
    ) -> Generator[HttpCall, HttpReply, Credential]:
        reply = yield _entra_call(endpoint)
        failed = (
            f"Failed attempting to retrieve access token for {title} request"
            f" for inference id: [{endpoint.inference_id}]"
        )
        return _token_credential(reply, endpoint, now, failed=failed)

    return entra_token


def aws_signature(name: str) -> Auth:
    """Sign calls of the AWS service `name` with `access_key` and `secret_key`, each anew.

    Nothing else is looked at: no environment, no profile file, no instance role.
    """

    def sign_for_aws(
        call: HttpCall, endpoint: Endpoint, now: float
    ) -> Generator[HttpCall, HttpReply, Credential]:
        yield from ()
        return Credential(_aws_headers(call, endpoint, now, name), None)

    return sign_for_aws


def google_service_account(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    """Exchange an assertion, signed with the key in `service_account_json`, for a bearer token.

    The token is renewed five minutes before it expires.
    """
    account = _service_account(endpoint.secrets["service_account_json"])
    reply = yield _assertion_call(account, now)
    signing = replace(endpoint, secrets={**endpoint.secrets, "private_key": account.private_key})
    credential = _token_credential(reply, signing, now, failed=_failed(endpoint))
    return replace(credential, expires_at=(credential.expires_at or now) - _GOOGLE_MARGIN_S)


def service_account_problem(secret: str) -> str | None:
    """Say what keeps `secret` from being a service account's key file, without showing it."""
    try:
        _service_account(secret)
    except BadRequest as error:
        return error.message
    return None


def secret_for_header(endpoint: Endpoint, setting: str = "api_key") -> str:
    """Give a secret that a header can carry. Raises `BadRequest`, without showing it."""
    secret = endpoint.secrets[setting]
    if not (secret.isascii() and secret.isprintable()):
        raise BadRequest(
            f"[secret_settings] Invalid value for [{setting}]. It must be printable ASCII without"
            " line ends, since it travels in an HTTP header"
        )
    return secret


class _Client(msgspec.Struct, frozen=True):
    client_id: str
    token_url: str
    scopes: list[str]


class _EntraClient(msgspec.Struct, frozen=True):
    client_id: str
    tenant_id: str
    scopes: list[str]


class _ServiceAccount(msgspec.Struct, frozen=True):
    client_email: str
    private_key: str
    token_uri: str
    private_key_id: str | None = None


class _Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float | None = None


class _Refusal(msgspec.Struct, frozen=True):
    error: str | None = None
    error_description: str | None = None


_TOKEN = msgspec.json.Decoder(_Token, strict=False)  # some servers write expires_in as a string
_REFUSAL = msgspec.json.Decoder(_Refusal)


def _token_call(endpoint: Endpoint) -> HttpCall:
    client = msgspec.convert(endpoint.service_settings, _Client)
    # Both are form-encoded before they are joined: RFC 6749 §2.3.1.
    pair = f"{quote_plus(client.client_id)}:{quote_plus(endpoint.secrets['client_secret'])}"
    form = {"grant_type": "client_credentials", "scope": " ".join(client.scopes)}
    return HttpCall(
        "POST",
        client.token_url,
        {
            "Accept": "application/json",
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
        urlencode(form).encode(),
    )


def _entra_call(endpoint: Endpoint) -> HttpCall:
    client = msgspec.convert(endpoint.service_settings, _EntraClient)
    form = {
        "client_id": client.client_id,
        "client_secret": endpoint.secrets["client_secret"],
        "scope": " ".join(client.scopes),
        "grant_type": "client_credentials",
    }
    return HttpCall(
        "POST",
        f"https://login.microsoftonline.com/{client.tenant_id}/oauth2/v2.0/token",
        {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
        urlencode(form).encode(),
    )


def _service_account(secret: str) -> _ServiceAccount:
    try:
        return msgspec.json.decode(secret, type=_ServiceAccount)
    except msgspec.MsgspecError:
        raise _not_a_service_account() from None


def _not_a_service_account() -> BadRequest:
    return BadRequest(
        "[secret_settings] Invalid value for [service_account_json]. It must be the JSON text of a"
        " service account's key file, with [client_email], [private_key] and [token_uri]"
    )


def _assertion_call(account: _ServiceAccount, now: float) -> HttpCall:
    header = {"typ": "JWT", "alg": "RS256", "kid": account.private_key_id}
    claims = {
        "iss": account.client_email,
        "scope": _GOOGLE_SCOPE,
        "aud": _GOOGLE_AUDIENCE,
        "iat": int(now),
        "exp": int(now) + _ASSERTION_LIFETIME_S,
    }
    if account.private_key_id is None:
        del header["kid"]
    signed = b".".join(_base64url(msgspec.json.encode(part)) for part in (header, claims))
    signature = _base64url(_sign_rs256(signed, account.private_key))
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": b".".join((signed, signature)).decode(),
    }
    return HttpCall(
        "POST",
        account.token_uri,
        {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
        urlencode(form).encode(),
    )


def _sign_rs256(message: bytes, private_key: str) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        # Testing the primes takes 80 ms; with wrong ones the signature is refused, no more.
        key = load_pem_private_key(
            private_key.encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
    except ValueError:
        raise _not_a_service_account() from None
    if not isinstance(key, RSAPrivateKey):
        raise _not_a_service_account()
    return key.sign(message, PKCS1v15(), SHA256())


def _base64url(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def _failed(endpoint: Endpoint) -> str:
    return f"Failed to retrieve access token for request for inference id [{endpoint.inference_id}]"


def _token_credential(
    reply: HttpReply, endpoint: Endpoint, now: float, *, failed: str
) -> Credential:
    """Read the reply to a token call. Raises `UpstreamError` that begins with `failed`."""
    if not 200 <= reply.status < 300:
        may_retry = reply.status == 429 or reply.status >= 500
        raise UpstreamError(
            failed + redact(_refusal(reply.body), endpoint.secrets.values()),
            upstream_status=reply.status,
            retry=Retry.YES if may_retry else Retry.NO,
        )
    try:
        token = _TOKEN.decode(reply.body)
    except msgspec.MsgspecError as error:
        raise UnreadableReply(failed, upstream_status=reply.status) from error
    if not (token.access_token.isascii() and token.access_token.isprintable()):
        raise UnreadableReply(failed, upstream_status=reply.status)
    lifetime_s = token.expires_in or _UNSTATED_LIFETIME_S
    return Credential({"Authorization": f"Bearer {token.access_token}"}, now + lifetime_s)


def _aws_headers(call: HttpCall, endpoint: Endpoint, now: float, name: str) -> dict[str, str]:
    try:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
    except ImportError as error:
        raise BadRequest(
            f"The service [{endpoint.service}] needs the extra [aws] of this server:"
            " pip install 'inferry[aws]'"
        ) from error
    keys = Credentials(secret_for_header(endpoint, "access_key"), endpoint.secrets["secret_key"])
    signer = SigV4Auth(keys, name, str(endpoint.service_settings["region"]))
    request = AWSRequest(call.method, call.url, dict(call.headers), call.body)
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = request.headers["X-Amz-Date"] = moment
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return {
        "X-Amz-Date": moment,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={signer.scope(request)},"
        f" SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))},"
        f" Signature={signer.signature(text, request)}",
    }


def _refusal(body: bytes) -> str:
    try:
        refusal = _REFUSAL.decode(body)
    except msgspec.MsgspecError:
        return ""
    if refusal.error is None:
        return ""
    return f": [{refusal.error}] {refusal.error_description or ''}".rstrip()
