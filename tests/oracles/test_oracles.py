"""The vendors' SDKs and our services send the same requests, and read the same replies.

This proves our wire format against the SDKs that are installed, not the behaviour of the providers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from inferry.domain import TaskType
from tests.oracles.allowances import ALLOWANCES, NO_SDK, Allowance, reconciled
from tests.oracles.asking import as_text, ask_ours, ask_sdk, canned, sent, variations
from tests.oracles.oracle import Oracle, all_oracles, folded, tasks_without_oracle
from tests.providers import Provider, open_provider
from tests.services.cases import Case, cases, shown

ORACLES = all_oracles()
MAIN = {"vectors", "items", "documents", "texts", "choices", "text"}


def pairs_of(*, varied: bool) -> list[tuple[Oracle, Case]]:
    """Give every oracle with its cases; `varied`: with what is made from the first of each task."""
    found = []
    for oracle in ORACLES:
        for task in oracle.tasks:
            written = [
                case
                for kind in ("cases", "streams")
                for case in cases(kind)
                if (case.service.name, case.task_type) == (oracle.service, task)
                and oracle.covers(case)
            ]
            found += [
                (oracle, case)
                for case in ([*variations(written[0])] if varied and written else written)
            ]
    return found


WRITTEN = pairs_of(varied=False)
VARIED = pairs_of(varied=True)


def named(pairs: list[tuple[Oracle, Case]]) -> pytest.MarkDecorator:
    names = [f"{oracle} {case.task_type}: {case.written['name']}" for oracle, case in pairs]
    return pytest.mark.parametrize(("oracle", "case"), pairs, ids=names)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with open_provider() as opened:
        yield opened


async def requests_of(
    oracle: Oracle, case: Case, provider: Provider
) -> tuple[list[str], list[str], list[Allowance]]:
    """Give what we and the SDK sent, without what is allowed, and the allowances that were used."""
    provider.always(canned(case))
    await ask_sdk(case, oracle, provider)
    theirs = sorted(map(sent, provider.requests), key=as_text)
    provider.requests.clear()
    await ask_ours(case, oracle, provider)
    ours = sorted(map(sent, provider.requests), key=as_text)
    provider.requests.clear()
    assert ours
    assert len(ours) == len(theirs)
    found = [
        reconciled(one, other, service=oracle.service, package=oracle.package)
        for one, other in zip(ours, theirs, strict=True)
    ]
    return (
        [as_text(one) for one, _, _ in found],
        [as_text(other) for _, other, _ in found],
        [allowance for _, _, used in found for allowance in used],
    )


@named(WRITTEN + VARIED)
async def test_the_sdk_and_our_service_send_the_same_requests(oracle, case, provider):
    ours, theirs, _ = await requests_of(oracle, case, provider)

    assert ours == theirs


@named(WRITTEN)
async def test_the_sdk_and_our_service_read_the_same_from_an_answer(oracle, case, provider):
    provider.always(canned(case))

    theirs = oracle.read(await ask_sdk(case, oracle, provider), case)
    ours = await ask_ours(case, oracle, provider)

    read = folded(ours) if case.request.stream else shown(ours)
    if case.task_type is TaskType.COMPLETION:  # which knows no reason why a text ends
        theirs.pop("finish_reasons", None)
    assert MAIN & set(theirs)
    assert {name: read.get(name) for name in theirs} == theirs


@pytest.mark.parametrize(
    "allowance", ALLOWANCES, ids=lambda one: f"{one.service}, {one.package}: {one.why}"
)
async def test_every_allowance_is_needed(allowance, provider):
    for oracle, case in WRITTEN + VARIED:
        if (oracle.service, oracle.package) == (allowance.service, allowance.package):
            _, _, used = await requests_of(oracle, case, provider)
            if allowance in used:
                return
    raise AssertionError("nothing differs in this way")


def test_every_hosted_task_has_an_oracle_or_a_reason_why_not():
    assert tasks_without_oracle() == list(NO_SDK)
