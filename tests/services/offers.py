"""Every task of every hosted service, ready to be called at a provider on loopback."""

from __future__ import annotations

import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest

from inferry.commands import PutEndpoint
from inferry.concurrency import Nursery
from inferry.core.dry_run import sample_request
from inferry.core.regions import region_of
from inferry.core.registry import Registry
from inferry.core.runners.compose import compose, compose_probe
from inferry.core.runners.runner import Runners
from inferry.domain import (
    Chat,
    ChatChunk,
    Deadline,
    Endpoint,
    InferenceRequest,
    Message,
    Result,
    TaskType,
)
from inferry.errors import Retry, UpstreamError
from inferry.outbound.client import Client, open_client
from inferry.protocols import Limiter
from inferry.records import Record
from inferry.sections import OutboundSection
from inferry.service import HttpTask, Service
from tests.clocks import FakeClock
from tests.core.registry_parts import (
    MemoryFiles,
    MemoryStore,
    OpenVault,
    ToldDeployments,
    ToldSupply,
)
from tests.providers import Behaviour, Connection, Provider, Received, open_provider
from tests.services import simulated
from tests.services.cases import SERVICES, Case, cases
from tests.services.driving import NoLimit

_PATHS = {
    TaskType.TEXT_EMBEDDING: "/embed",
    TaskType.SPARSE_EMBEDDING: "/embed_sparse",
    TaskType.RERANK: "/rerank",
}
_TLS = ssl.create_default_context()
_MEASURED = ("dimensions", "similarity")


@dataclass(frozen=True, slots=True)
class Offer:
    """A task that a service offers; `case`: the first of its file, whose endpoint is used."""

    service: Service
    task_type: TaskType
    case: Case

    @property
    def task(self) -> HttpTask:
        return self.case.task

    @property
    def batch(self) -> int | None:
        """How many inputs a call of its endpoint takes, None for any number."""
        return self.task.batch_size(self.case.request.endpoint)

    def __str__(self) -> str:
        return f"{self.service.name}-{self.task_type}"


def _offers() -> list[Offer]:
    first: dict[tuple[str, TaskType], Case] = {}
    for case in cases("cases"):
        first.setdefault((case.service.name, case.task_type), case)
    return [
        Offer(service, kind, first[service.name, kind])
        for service in SERVICES.values()
        for kind, task in service.tasks.items()
        if isinstance(task, HttpTask)
    ]


OFFERS = _offers()
STREAMED = [offer for offer in OFFERS if offer.task.decode is not None]
SPLIT = [offer for offer in OFFERS if offer.batch is not None]
RETRIED = [offer for offer in OFFERS if any(row.retry is Retry.YES for row in offer.service.errors)]
IN_REGION = [
    offer
    for offer in OFFERS
    if region_of(offer.service.name, offer.case.request.endpoint.service_settings)
]


def every(offers: Sequence[Offer] = OFFERS) -> pytest.MarkDecorator:
    """Run a test for each of `offers`."""
    return pytest.mark.parametrize("offer", offers, ids=str)


def endpoint_at(offer: Offer, url: str, inference_id: str = "mine") -> Endpoint:
    """Give the endpoint of the offer's case, whatever it names as an address moved to `url`."""
    endpoint = unmeasured(offer)
    settings = {
        name: _moved(value, url, offer) for name, value in endpoint.service_settings.items()
    }
    secrets = {name: _redirected(secret, url) for name, secret in endpoint.secrets.items()}
    return replace(endpoint, inference_id=inference_id, service_settings=settings, secrets=secrets)


def unmeasured(offer: Offer) -> Endpoint:
    """Give the endpoint of the offer's case as a caller would ask for it."""
    endpoint = offer.case.request.endpoint
    settings = {
        name: value for name, value in endpoint.service_settings.items() if name not in _MEASURED
    }
    return replace(endpoint, service_settings=settings, dimensions_set_by_user=False)


def _moved(value: Any, url: str, offer: Offer) -> Any:
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        return value
    parts = urlsplit(value)
    path = parts.path if len(parts.path) > 1 else _PATHS.get(offer.task_type, "")
    if offer.service.name == "hugging_face":
        path = _PATHS.get(offer.task_type, path)
    return f"{url}{path}{'?' if parts.query else ''}{parts.query}"


def _redirected(secret: str, url: str) -> str:
    """Have a key file name the provider as the place for tokens."""
    if not secret.startswith("{"):
        return secret
    return json.dumps({**json.loads(secret), "token_uri": f"{url}/token"})


@dataclass
class Hosted:
    """A provider, a client whose clock does not wait, and an endpoint of an offer."""

    offer: Offer
    provider: Provider
    client: Client
    clock: FakeClock
    endpoint: Endpoint
    statuses: list[int | None] = field(default_factory=list)
    _next: deque[Behaviour] = field(default_factory=deque)
    _always: Behaviour = simulated.answer

    def then(self, *behaviours: Behaviour) -> None:
        """Answer the next calls with `behaviours`, one each; then as usual again."""
        self._next.extend(behaviours)

    def always(self, behaviour: Behaviour) -> None:
        """Answer every call with `behaviour`."""
        self._always = behaviour

    async def answer(self, connection: Connection, received: Received) -> None:
        """Answer as the provider; tokens are given whatever is the matter."""
        if is_for_token(received):
            await simulated.answer(connection, received)
            return
        behaviour = self._next.popleft() if self._next else self._always
        await behaviour(connection, received)

    def runners(
        self, endpoint: Endpoint | None = None, *, limiter: Limiter | None = None
    ) -> Runners:
        """Compose the runners of an endpoint, ours unless another is given."""
        return compose(
            endpoint or self.endpoint,
            self.offer.service,
            self.offer.task,
            outbound=self.client,
            limiter=limiter or NoLimit(),
            count=lambda _, status: self.statuses.append(status),
        )

    def request(self, *texts: str, timeout_s: float = 60.0, **options: Any) -> InferenceRequest:
        """Ask for something about `texts`; chats and completions take the last."""
        task_type, endpoint = self.offer.task_type, self.endpoint
        deadline = Deadline.after(timeout_s, "60s", "mine")
        request = InferenceRequest(
            endpoint, deadline, texts, task_settings=endpoint.task_settings, **options
        )
        if task_type is TaskType.CHAT_COMPLETION:
            return replace(request, inputs=(), chat=Chat([Message("user", texts[-1])]))
        if task_type is TaskType.COMPLETION:
            return replace(request, inputs=texts[-1:])
        return replace(request, query="q") if task_type is TaskType.RERANK else request

    async def run(self, *texts: str, timeout_s: float = 60.0) -> Result:
        """Ask, and give the whole answer."""
        return await self.runners().run(self.request(*texts, timeout_s=timeout_s))

    async def stream(self, text: str) -> list[ChatChunk]:
        """Ask, and give every chunk of the answer."""
        stream = self.runners().stream
        assert stream is not None
        return [chunk async for chunks in stream(self.request(text)) for chunk in chunks]

    async def failure(self, *texts: str) -> UpstreamError:
        """Ask for what must fail at the provider."""
        with pytest.raises(UpstreamError) as caught:
            await self.run(*(texts or ("one", "two")))
        return caught.value

    async def probe(self, endpoint: Endpoint, deadline: Deadline) -> Result:
        """Prove a new endpoint as the supervisor does."""
        run = compose_probe(endpoint, self.offer.service, self.offer.task, outbound=self.client)
        return await run(sample_request(endpoint, deadline))

    async def put(self, body: dict[str, Any], *records: Record) -> dict[str, Any]:
        """Create an endpoint by a registry that has `records`, and give its answer."""
        command = PutEndpoint("mine", self.offer.task_type, "/_inference/mine", body)
        async with Nursery() as nursery:
            registry = Registry(
                MemoryStore(),
                OpenVault(),
                SERVICES,
                self.probe,
                _tell_nobody,
                deployments=ToldDeployments(_tell_nobody),
                files=MemoryFiles(),
                incoming=MemoryFiles(),
                supply=ToldSupply(),
                nursery=nursery,
                starts=nursery,
            )
            registry.load(records)
            answer: dict[str, Any] = json.loads(await registry.put_endpoint(command))
        return answer

    @property
    def calls(self) -> list[Received]:
        """What was asked, without what was sent for tokens."""
        return [one for one in self.provider.requests if not is_for_token(one)]


def is_for_token(received: Received) -> bool:
    """Tell what is sent for a token from a call."""
    return received.path.endswith("/token")


@asynccontextmanager
async def hosted_offer(offer: Offer, **outbound: Any) -> AsyncIterator[Hosted]:
    """Open a provider that speaks the format of the offer's vendor. outbound: of its section."""
    clock = FakeClock()
    async with open_provider() as provider, AsyncExitStack() as stack:
        section = OutboundSection(base_urls={offer.service.name: provider.url}, **outbound)
        with patch("ssl.create_default_context", return_value=_TLS):  # 40 ms that no test needs
            client = await stack.enter_async_context(
                open_client(section, allow_private_networks=True, clock=clock)
            )
        hosted = Hosted(offer, provider, client, clock, endpoint_at(offer, provider.url))
        provider.always(hosted.answer)
        yield hosted


def body_of(endpoint: Endpoint) -> dict[str, Any]:
    """Give the body of a PUT that creates `endpoint`."""
    return {
        "service": endpoint.service,
        "service_settings": {**endpoint.service_settings, **endpoint.secrets},
        "task_settings": dict(endpoint.task_settings),
    }


async def _tell_nobody(_: object) -> None:
    """Stand for the other processes."""
