"""Holds runs against the limits of the API key that they come with, in an API process.

What was used is counted by the supervisor, for all processes. Only keys with limits get here.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferry.commands import Admission, AdmitKey, SpendKeyTokens
from inferry.concurrency import Nursery
from inferry.core.asking import Ask
from inferry.core.runners.truncate import estimated_tokens
from inferry.domain import ChatChunk, Usage
from inferry.errors import LimitExceeded, NotAuthorized
from inferry.key_limits import KeyHolder
from inferry.protocols import Writer
from inferry.telemetry import Metrics

_CHARACTERS_PER_TOKEN = 3


class Governor:
    """Asks the supervisor before a run, and tells it afterwards what was used."""

    def __init__(self, writer: Writer, *, metrics: Metrics, nursery: Nursery) -> None:
        self._writer = writer
        self._metrics = metrics
        self._nursery = nursery

    async def admit(self, holder: KeyHolder, inference_id: str) -> None:
        """Let a run begin.

        Raises `NotAuthorized` for an endpoint that the key is not for, `LimitExceeded`.
        """
        limits = holder.limits
        who = f"API key id [{holder.key_id}] of user [{holder.owner}]"
        if not limits.allow(inference_id):
            self._metrics.count_key_request(holder.key_id, is_admitted=False)
            raise NotAuthorized(
                f"{who} may run the inference endpoints [{','.join(limits.endpoints or ())}] only"
            )
        if not limits.are_counted:
            return
        admission: Admission = await self._writer.submit(AdmitKey(holder.key_id, limits))
        self._metrics.count_key_request(holder.key_id, is_admitted=not admission.limit)
        if admission.limit:
            raise LimitExceeded(
                f"{who} has used its {admission.limit}, try again in [{admission.wait_s:.0f}s]",
                retry_after_s=admission.wait_s,
            )

    async def spend(self, holder: KeyHolder, tokens: int) -> None:
        """Count tokens, also when the caller has left."""
        if not tokens or not holder.limits.are_counted:
            return
        self._metrics.count_key_tokens(holder.key_id, tokens)
        await self._nursery.finish(self._writer.submit(SpendKeyTokens(holder.key_id, tokens)))


class StreamTally:
    """Counts the tokens of a stream: the provider's number, or an estimate if it never came.

    Else a client that leaves right before the end would pay for nothing.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._characters = 0
        self._usage: Usage | None = None

    def add(self, chunks: Sequence[ChatChunk]) -> None:
        """Take chunks into account."""
        for chunk in chunks:
            self._usage = chunk.usage or self._usage
            self._characters += sum(len(one.delta.content or "") for one in chunk.choices)

    @property
    def tokens(self) -> int:
        """The tokens so far; nothing before the provider has said anything."""
        if self._usage is not None:
            return self._usage.input_tokens + self._usage.output_tokens
        if not self._characters:
            return 0
        asked = sum(map(estimated_tokens, self._ask.inputs))
        if self._ask.chat is not None:
            contents = [message.content for message in self._ask.chat.messages]
            asked += sum(len(one) for one in contents if isinstance(one, str)) // (
                _CHARACTERS_PER_TOKEN
            )
        return asked + self._characters // _CHARACTERS_PER_TOKEN
