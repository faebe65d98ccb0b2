"""The pages of the services are fresh, and their examples work."""

from __future__ import annotations

import json

import pytest

from tests.services.offers import OFFERS, endpoint_at, hosted_offer
from tests.services.pages import FOLDER, example_body, pages

every_page = pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)


@every_page
def test_a_page_is_what_the_declaration_says(path):
    assert path.read_text() == pages()[path], "run `make docs`"


def test_there_is_no_page_of_a_service_that_is_not_there():
    assert set(FOLDER.glob("*.md")) == {*pages(), FOLDER / "matrix.md"}


@pytest.mark.parametrize("offer", OFFERS, ids=str)
async def test_the_example_of_a_page_creates_an_endpoint(offer):
    text = example_body(offer)
    assert text in (FOLDER / f"{offer.service.name}.md").read_text()
    body = json.loads(text)

    async with hosted_offer(offer) as hosted:
        moved = endpoint_at(offer, hosted.provider.url)
        body["service_settings"] |= {**moved.service_settings, **moved.secrets}
        answer = await hosted.put(body)

    assert answer["service"] == offer.service.name
