"""Every field of every hosted service that is secret, with an endpoint that it signs for."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from inferry.domain import Endpoint, Json
from inferry.fields import Field
from tests.services.offers import OFFERS, Offer, endpoint_at

CREDENTIALS = [
    (offer, field)
    for offer in OFFERS
    for field in (*offer.task.service_settings, *offer.task.task_settings)
    if field.secret
]
every_credential = pytest.mark.parametrize(
    ("offer", "field"), CREDENTIALS, ids=[f"{offer}-{field.name}" for offer, field in CREDENTIALS]
)


def signed_endpoint(offer: Offer, field: Field, url: str, *, marker: str) -> Endpoint:
    """Give the endpoint of an offer, signed with `field` and what has to be given along with it.

    Addresses are moved to `url`, and `marker` stands in each secret.
    """
    declared = offer.task.service_settings
    secrets = {
        one.name: _secret(offer, one, marker)
        for one in declared
        if one.secret and (one.required or one is field)
    }
    endpoint = replace(endpoint_at(offer, url), secrets=secrets)
    check = offer.service.check
    # What is missing for this credential, the service says itself.
    named = re.findall(r"\w+", str(check(endpoint))) if check else []
    samples: dict[str, Json] = {"str": "sample", "url": f"{url}/token", "list": ["sample"]}
    missing = {
        one.name: samples[one.type]
        for one in declared
        if one.name in named and one.name not in endpoint.service_settings and not one.secret
    }
    return replace(endpoint, service_settings={**endpoint.service_settings, **missing})


def _secret(offer: Offer, field: Field, marker: str) -> str:
    """Make a secret; where the file of the offer has a document it stays one."""
    written = offer.case.request.endpoint.secrets.get(field.name, "")
    if written.startswith("{"):
        return json.dumps({**json.loads(written), "private_key_id": marker})
    return f'k"/+ {marker} %&'
