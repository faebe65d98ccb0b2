"""Settings and checks that many services share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace

from inferry.domain import Endpoint, Settings
from inferry.fields import Field

API_KEY = Field(
    "api_key",
    "str",
    label="API Key",
    help="Key used to authenticate against the provider's API.",
    required=True,
    secret=True,
    updatable=True,
)
CLIENT_ID = Field(
    "client_id",
    "str",
    label="Client ID",
    help="Application (client) id for the OAuth 2.0 client credentials flow; set together with"
    " the other OAuth fields.",
)
CLIENT_SECRET = Field(
    "client_secret",
    "str",
    label="Client Secret",
    help="Client secret for the OAuth 2.0 client credentials flow; use instead of an API key.",
    secret=True,
    updatable=True,
)
SCOPES = Field("scopes", "list", label="Scopes", help="OAuth 2.0 scopes requested with the token.")
MODEL_ID = Field(
    "model_id",
    "str",
    label="Model ID",
    help="Model that serves the requests of this endpoint.",
    required=True,
)
SIMILARITY = Field(
    "similarity",
    "str",
    help="How the vectors are to be compared; stored for those who search them.",
    choices=("cosine", "dot_product", "l2_norm"),
    listed=False,
)
DIMENSIONS = Field(
    "dimensions",
    "int",
    label="Dimensions",
    help="Length of the vectors the provider is asked to return.",
    at_least=1,
)
MAX_INPUT_TOKENS = Field(
    "max_input_tokens",
    "int",
    label="Maximum Input Tokens",
    help="Longest input, in tokens, that is sent to the model.",
    at_least=1,
    listed=False,
)
DIMENSIONS_SET_BY_USER = Field("dimensions_set_by_user", "bool", derived=True, listed=False)
EMBEDDING = (
    SIMILARITY,
    replace(DIMENSIONS, listed=False),
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
)
"""What embedding tasks have beside their own, `dimensions` unlisted."""
INPUT_TYPE = Field(
    "input_type",
    "str",
    help="What the inputs are for, where a request does not say.",
    choices=("ingest", "search", "classification", "clustering"),
    updatable=True,
    listed=False,
)
TOP_N = Field(
    "top_n",
    "int",
    help="How many of the best documents are returned.",
    at_least=1,
    updatable=True,
    listed=False,
)
RETURN_DOCUMENTS = Field(
    "return_documents",
    "bool",
    help="Whether the texts of the documents are returned.",
    updatable=True,
    listed=False,
)
MAX_NEW_TOKENS = Field(
    "max_new_tokens",
    "int",
    help="Most tokens to generate for one answer.",
    at_least=1,
    updatable=True,
    listed=False,
)
TEMPERATURE = Field(
    "temperature",
    "float",
    help="How free the answers are.",
    at_least=0,
    updatable=True,
    listed=False,
)
TOP_P = Field(
    "top_p",
    "float",
    help="Mass of the tokens that are drawn from.",
    at_least=0,
    updatable=True,
    listed=False,
)
TRUNCATE = Field(
    "truncate",
    "str",
    help="Where the provider cuts texts that are too long.",
    choices=("NONE", "START", "END"),
    updatable=True,
    listed=False,
)

_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def rate_limit(requests_per_minute: int, *, said: str = "") -> Field:
    """Give the setting `rate_limit`. said: what the help tells of defaults where tasks differ."""
    return Field(
        "rate_limit.requests_per_minute",
        "long",
        label="Rate Limit",
        help="Upper bound on requests per minute sent to the provider, to stay below its rate"
        f" limits. {said or requests_per_minute} when not set.",
        default=requests_per_minute,
        at_least=1,
    )


def renamed(settings: Settings, old: str, new: str) -> Settings:
    """Give `settings` with `old` under its name of today, unless that is there too."""
    if old not in settings or new in settings:
        return settings
    return {new if name == old else name: value for name, value in settings.items()}


def digest(*secrets: str) -> str:
    """Stand for `secrets` in the name of a rate-limit group."""
    return hashlib.blake2b("\0".join(secrets).encode(), digest_size=8).hexdigest()


def segment_problems(endpoint: Endpoint, names: Iterable[str]) -> list[str]:
    """Find the settings among `names` that may not stand in a host name or a path."""
    problems = []
    for name in names:
        value = endpoint.service_settings.get(name)
        if isinstance(value, str) and not _SEGMENT.fullmatch(value):
            problems.append(
                f"[service_settings] Invalid value [{value!a}]."
                f" [{name}] must consist of letters, digits, dots, underscores and hyphens,"
                " and not begin with a dot"
            )
    return problems


def step_problems(endpoint: Endpoint, names: Iterable[str]) -> list[str]:
    """Find the settings among `names` that a path would take for a step upwards, quoted or not."""
    return [
        f"[service_settings] Invalid value [{value}]. [{name}] must be a name"
        for name in names
        if (value := endpoint.service_settings.get(name)) in (".", "..")
    ]
