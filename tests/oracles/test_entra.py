"""Microsoft's own library asks Entra for a token the way we do."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from msal import ConfidentialClientApplication

from inferry.calls import HttpCall
from inferry.domain import Endpoint, TaskType
from inferry.services.auth import entra_client_credentials

TENANT = "https://login.microsoftonline.com/8eaef023"
ENDPOINT = Endpoint(
    "mine",
    TaskType.COMPLETION,
    "azureopenai",
    {
        "client_id": "my id",
        "tenant_id": "8eaef023",
        "scopes": ["https://cognitiveservices.azure.com/.default"],
    },
    secrets={"client_secret": "p+ss:wörd&x=1"},
)


class Answer:
    """A reply in the form that the library reads."""

    status_code = 200
    headers: dict[str, str] = {}  # noqa: RUF012  (an attribute as `requests` has it)

    def __init__(self, body: dict[str, Any]) -> None:
        self.text = json.dumps(body)


class Recorder:
    """Takes the place of the library's connections and keeps what is posted."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, dict[str, Any]]] = []

    def get(self, url: str, **_: Any) -> Answer:
        """Describe the tenant."""
        routes = {"authorization_endpoint": "authorize", "token_endpoint": "token"}
        found = {name: f"{TENANT}/oauth2/v2.0/{route}" for name, route in routes.items()}
        return Answer({**found, "issuer": f"{TENANT}/v2.0"})

    def post(self, url: str, *, data: dict[str, Any], **_: Any) -> Answer:
        """Give a token."""
        self.posted.append((url, data))
        return Answer({"access_token": "t1", "expires_in": 3599, "token_type": "Bearer"})


def test_the_library_of_microsoft_and_we_send_the_same_form() -> None:
    settings, secrets = ENDPOINT.service_settings, ENDPOINT.secrets
    recorder = Recorder()
    library = ConfidentialClientApplication(
        settings["client_id"],
        client_credential=secrets["client_secret"],
        authority=TENANT,
        http_client=recorder,
    )

    library.acquire_token_for_client(settings["scopes"])
    ours = next(
        entra_client_credentials("Azure")(HttpCall("POST", "https://a.example.org"), ENDPOINT, 0.0)
    )

    ((url, form),) = recorder.posted
    del form["client_info"]  # asks for the user behind the token; there is none
    assert ours.url == url
    assert parse_qs(ours.body.decode()) == {name: [value] for name, value in form.items()}
