"""No setting but a URL, which the gate of outgoing connections checks, chooses who is called."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from yarl import URL

from inferry.core.definition import define_endpoint
from inferry.core.dry_run import sample_request
from inferry.domain import Deadline
from inferry.errors import BadRequest
from tests.services.cases import SERVICES
from tests.services.offers import OFFERS, Offer, body_of, unmeasured

HOSTILE = (
    *("evil.test/", "evil.test#", "evil.test?", "x@evil.test", "@evil.test", "evil.test:80/"),
    *("..", "../..", "a/../..", "%2e%2e", ".", "a b", "a\r\nHost: evil.test", "a\\", "é", "//x"),
)


def texts_of(offer: Offer) -> list[str]:
    """Name the settings of an offer that hold a text and are no URL."""
    settings = unmeasured(offer).service_settings
    return [
        name
        for name, value in settings.items()
        if isinstance(value, str) and not value.startswith("http")
    ]


@pytest.mark.parametrize("offer", [one for one in OFFERS if texts_of(one)], ids=str)
def test_no_setting_that_is_no_url_moves_a_call(offer):
    endpoint = unmeasured(offer)
    usual = called(offer, endpoint)

    for name, text in itertools.product(texts_of(offer), HOSTILE):
        changed = replace(endpoint, service_settings={**endpoint.service_settings, name: text})
        try:
            define_endpoint("mine", body_of(changed), SERVICES, task_type=offer.task_type)
        except BadRequest:
            continue
        found = called(offer, changed)
        assert (found.origin(), found.user) == (usual.origin(), None)
        assert len(found.parts) == len(usual.parts)


def called(offer: Offer, endpoint) -> URL:
    request = sample_request(endpoint, Deadline.after(60, "60s", "mine"))
    return URL(offer.task.build(request).url)
