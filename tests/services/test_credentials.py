"""Credentials show in no `repr` of what has them, so that no log or traceback tells them."""

from __future__ import annotations

from dataclasses import replace

from inferry.commands import PutEndpoint, UpdateEndpoint
from inferry.protocols import Exchange
from tests.services.credentials import every_credential, signed_endpoint

MARKER = "marker-7f3a"


@every_credential
def test_a_credential_is_in_no_repr(offer, field):
    endpoint = signed_endpoint(offer, field, "http://127.0.0.1:1", marker=MARKER)
    body = {"service_settings": {**endpoint.service_settings, **endpoint.secrets}}
    request = replace(offer.case.request, endpoint=endpoint)
    call = offer.task.build(request)
    assert offer.service.auth is not None
    signing = offer.service.auth(call, endpoint, 0.0)
    try:
        step: object = next(signing)  # the call for a token
    except StopIteration as signed:
        step = signed.value

    shown = [
        repr(endpoint),
        repr(PutEndpoint("mine", None, "", body)),
        repr(UpdateEndpoint("mine", None, body)),
        repr(request),
        repr(call),
        repr(Exchange(call, endpoint, offer.service.auth, request.deadline)),
        repr(step),
    ]

    assert MARKER in str(endpoint.secrets)
    assert not [text for text in shown if MARKER in text]
