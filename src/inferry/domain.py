"""The central types: what an endpoint is, what is asked of it, and what comes back.

Nothing here knows a dialect, a provider or a process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from inferry.errors import DeadlineExceeded

if TYPE_CHECKING:
    from inferry.vectors import Vector

Json: TypeAlias = "str | int | float | bool | None | list[Json] | dict[str, Json]"
Settings: TypeAlias = Mapping[str, Json]
NO_SETTINGS: Settings = MappingProxyType({})


def no_settings() -> Settings:
    """Give the empty settings, for defaults of dataclasses."""
    return NO_SETTINGS


class TaskType(StrEnum):
    """What an endpoint does; in the order in which the wire lists them."""

    TEXT_EMBEDDING = "text_embedding"
    SPARSE_EMBEDDING = "sparse_embedding"
    RERANK = "rerank"
    COMPLETION = "completion"
    CHAT_COMPLETION = "chat_completion"
    EMBEDDING = "embedding"

    @property
    def is_chunkable(self) -> bool:
        """Whether endpoints of this type carry chunking settings."""
        return self in (TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING, TaskType.EMBEDDING)

    @property
    def is_generative(self) -> bool:
        """Whether this type writes text, and so has the longer time limit."""
        return self in (TaskType.COMPLETION, TaskType.CHAT_COMPLETION)


class InputType(StrEnum):
    """What the inputs of an embedding call are for. The internal ones are never a caller's."""

    INGEST = "ingest"
    SEARCH = "search"
    CLASSIFICATION = "classification"
    CLUSTERING = "clustering"
    UNSPECIFIED = "unspecified"
    INTERNAL_INGEST = "internal_ingest"
    INTERNAL_SEARCH = "internal_search"


class Origin(StrEnum):
    """Where an endpoint comes from."""

    API = "api"
    FILE = "file"
    PRECONFIGURED = "preconfigured"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An inference endpoint. `secrets` are resolved, and present only where a call is made.

    dimensions_set_by_user: whether `dimensions` was asked for, not measured; only then is it sent.
    """

    inference_id: str
    task_type: TaskType
    service: str
    service_settings: Settings
    task_settings: Settings = field(default_factory=no_settings)
    chunking_settings: Settings | None = None
    origin: Origin = Origin.API
    revision: int = 0
    dimensions_set_by_user: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


class Deadline(msgspec.Struct, frozen=True):
    """A moment on the monotonic clock. Made once per request and passed down, never restarted."""

    at: float
    timeout: str
    inference_id: str = ""

    @classmethod
    def after(cls, timeout_s: float, timeout: str, inference_id: str = "") -> Deadline:
        """Start now. `timeout` is the limit as the caller wrote it, for the message."""
        return cls(time.monotonic() + timeout_s, timeout, inference_id)

    def left_s(self) -> float:
        """Give the seconds left; negative once it is over."""
        return self.at - time.monotonic()

    def exceeded(self) -> DeadlineExceeded:
        """Give the error to raise when it is over."""
        subject = f" for inference id [{self.inference_id}]" if self.inference_id else ""
        message = f"Request timed out after [{self.timeout}]{subject}"
        return DeadlineExceeded(message, timeout=self.timeout)


# --- chat --------------------------------------------------------------------------------------


class ContentPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a message's content: `text`, `image_url` or `file`, by `type`."""

    type: str
    text: str | None = None
    image_url: dict[str, Any] | None = None
    file: dict[str, Any] | None = None


class FunctionCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that the model asks for; `arguments` is JSON in a string, possibly a fragment."""

    arguments: str | None = None
    name: str | None = None


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call, or a piece of one in a stream (then `index` tells to which it belongs)."""

    index: int | None = None
    id: str | None = None
    function: FunctionCall | None = None
    type: str | None = None


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    tool_call_id: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None


class ToolFunction(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool the model may use."""

    type: str
    function: ToolFunction


class ToolChoiceFunction(msgspec.Struct, frozen=True):
    """The name of the tool that the model must use."""

    name: str


class ToolChoice(msgspec.Struct, frozen=True):
    """The one tool that the model must use."""

    type: str
    function: ToolChoiceFunction


class Reasoning(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much the model shall think, and what of it is returned."""

    effort: str | None = None
    enabled: bool | None = None
    exclude: bool | None = None
    summary: str | None = None


class Chat(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chat completion request in unified form."""

    messages: list[Message]
    model: str | None = None
    max_completion_tokens: int | None = None
    stop: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    reasoning: Reasoning | None = None


# --- requests ----------------------------------------------------------------------------------


class ContentItem(msgspec.Struct, frozen=True):
    """One non-plain input: `type` text, image, audio, video or pdf; `format` text or base64."""

    type: str
    format: str
    value: str


Input: TypeAlias = "str | tuple[ContentItem, ...]"
"""What gives one result: a text, or the items that together give one vector."""


@dataclass(slots=True)
class Receipt:
    """What happened to a request on its way, filled in meanwhile. queued_s: for a permit."""

    queued_s: float = 0.0


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One call of an endpoint, whatever the dialect.

    inputs: one result each, in this order; empty for chat.
    task_settings: stored and request settings, already merged and validated.
    extra: parameters outside the unified schema; OpenAI-compatible services forward them.
    """

    endpoint: Endpoint
    deadline: Deadline
    inputs: tuple[Input, ...] = ()
    task_settings: Settings = field(default_factory=no_settings)
    query: Input | None = None
    input_type: InputType = InputType.UNSPECIFIED
    top_n: int | None = None
    return_documents: bool | None = None
    chat: Chat | None = None
    stream: bool = False
    extra: Settings = field(default_factory=no_settings)
    receipt: Receipt | None = None


# --- results -----------------------------------------------------------------------------------


class Usage(msgspec.Struct, frozen=True):
    """Tokens counted by the provider, or by us when `estimated`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False


class ElementType(StrEnum):
    """What one element of a dense vector is; `bit` vectors are packed into signed bytes."""

    FLOAT = "float"
    BYTE = "byte"
    BIT = "bit"


@dataclass(frozen=True, slots=True)
class DenseEmbeddings:
    """One vector per input, in input order. `truncated`: indices of the inputs that were cut."""

    vectors: tuple[Vector, ...]
    element_type: ElementType = ElementType.FLOAT
    usage: Usage | None = None
    truncated: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SparseEmbeddings:
    """One token → weight map per input, weights positive and descending."""

    items: tuple[Mapping[str, float], ...]
    usage: Usage | None = None
    truncated: tuple[int, ...] = ()


class RankedDocument(msgspec.Struct, frozen=True):
    """A document's place: `index` in the request, and `text` when documents are returned."""

    index: int
    relevance_score: float
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Documents by descending relevance score."""

    documents: tuple[RankedDocument, ...]
    usage: Usage | None = None
    truncated: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The texts written for a completion call."""

    texts: tuple[str, ...]
    usage: Usage | None = None


class ChatDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message, or a piece of one in a stream. Absent members are None."""

    content: str | None = None
    refusal: str | None = None
    role: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning_details: list[dict[str, Any]] | None = None


class ChatChoice(msgspec.Struct, frozen=True):
    """One alternative of the answer."""

    delta: ChatDelta
    finish_reason: str | None = None
    index: int = 0


class ChatChunk(msgspec.Struct, frozen=True):
    """A whole chat answer (each delta is the whole message), or one chunk of a stream.

    `finish_reason` has OpenAI's words: stop, length, tool_calls, content_filter.
    """

    id: str
    choices: list[ChatChoice]
    model: str | None = None
    usage: Usage | None = None
    created: int | None = None


@dataclass(frozen=True, slots=True)
class TaskAnswers:
    """What a model that only `_infer` knows says of each text: the members of its answer."""

    items: tuple[Mapping[str, Any], ...]
    usage: Usage | None = None
    truncated: tuple[int, ...] = ()


Result: TypeAlias = "DenseEmbeddings | SparseEmbeddings | Ranking | Completion | ChatChunk"
LocalResult: TypeAlias = "DenseEmbeddings | SparseEmbeddings | Ranking | TaskAnswers"
"""What local models give."""
