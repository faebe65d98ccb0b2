"""The reviewed differences between what an SDK sends and what we send; nothing else may differ.

Every entry is used: a test fails on one that no request needs any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Sent: TypeAlias = dict[str, Any]
"""A request as a tree: `method`, `path`, `query`, `headers` and `body`."""
Reconcile: TypeAlias = Callable[[Sent, Sent], tuple[Sent, Sent]]
"""Takes what we and what the SDK sent, and gives both without one allowed difference."""

_ANY = object()


def only_ours(place: str, value: Any = _ANY) -> Reconcile:
    """Allow that we alone send `place`, with `value` if one is given."""
    return lambda ours, theirs: (_without(ours, theirs, place, value), theirs)


def only_theirs(place: str, value: Any = _ANY) -> Reconcile:
    """Allow that the SDK alone sends `place`, with `value` if one is given."""
    return lambda ours, theirs: (ours, _without(theirs, ours, place, value))


def theirs_read_as(rewrite: Callable[[Sent], Sent]) -> Reconcile:
    """Allow another form of the same: `rewrite` puts the SDK's request into ours."""
    return lambda ours, theirs: (ours, rewrite(theirs))


def apart_from(place: str) -> Reconcile:
    """Allow that `place` differs altogether; something else has to prove it."""

    def drop_both(ours: Sent, theirs: Sent) -> tuple[Sent, Sent]:
        return _without(ours, {}, place, _ANY), _without(theirs, {}, place, _ANY)

    return drop_both


@dataclass(frozen=True, slots=True)
class Allowance:
    """A difference that is allowed between a service and a package, and why."""

    service: str
    package: str
    why: str
    reconcile: Reconcile


def _rewritten(pattern: str, write: Callable[[re.Match[str]], str]) -> Reconcile:
    """Allow another spelling: what `pattern` finds in the JSON of the SDK's body."""

    def rewrite(sent: Sent) -> Sent:
        return {**sent, "body": json.loads(re.sub(pattern, write, json.dumps(sent["body"])))}

    return theirs_read_as(rewrite)


ALLOWANCES = (
    Allowance(
        "amazonbedrock",
        "boto3",
        "a signature covers the second in which it is made; a test of its own compares it",
        apart_from("headers.authorization"),
    ),
    Allowance("amazonbedrock", "boto3", "that second", apart_from("headers.x-amz-date")),
    Allowance(
        "azureaistudio",
        "azure-ai-inference",
        "the SDK is for another route of the same models; that of ours is in the files",
        apart_from("path"),
    ),
    Allowance(
        "azureaistudio",
        "azure-ai-inference",
        "that route has a version",
        apart_from("query"),
    ),
    Allowance(
        "azureaistudio",
        "azure-ai-inference",
        "on that route, what is not of all models goes along when a header says so",
        only_theirs("headers.extra-parameters", "pass-through"),
    ),
    Allowance(
        "azureaistudio",
        "azure-ai-inference",
        "the SDK sends the key in two headers; deployments take it as the files say",
        apart_from("headers.authorization"),
    ),
    Allowance(
        "azureaistudio",
        "azure-ai-inference",
        "the other one of the two",
        only_theirs("headers.api-key"),
    ),
    Allowance(
        "azureaistudio",
        "cohere",
        "deployments take the key alone, and as a bearer token where that is refused",
        apart_from("headers.authorization"),
    ),
    Allowance(
        "azureopenai",
        "openai",
        "the SDK repeats the deployment as a model, which Azure does not read",
        only_theirs("body.model"),
    ),
    Allowance(
        "azureopenai",
        "openai",
        "the SDK asks for base64 by default; we ask it of Azure only, not of another origin",
        only_theirs("body.encoding_format", "base64"),
    ),
    Allowance(
        "azureopenai",
        "openai",
        "we always say whether we want a stream",
        only_ours("body.stream", False),
    ),
    Allowance("azureopenai", "openai", "we always ask for one choice", only_ours("body.n", 1)),
    Allowance(
        "openai",
        "openai",
        "the SDK asks for base64 by default; we ask it of OpenAI only, not of another url",
        only_theirs("body.encoding_format", "base64"),
    ),
    Allowance(
        "openai",
        "openai",
        "we always say whether we want a stream",
        only_ours("body.stream", False),
    ),
    Allowance("openai", "openai", "we always ask for one choice", only_ours("body.n", 1)),
    Allowance(
        "cohere",
        "cohere",
        "we name ourselves as the source",
        only_ours("headers.request-source", "unspecified:inferry"),
    ),
    Allowance(
        "googleaistudio",
        "google-genai",
        "the SDK says of every text to embed that the user wrote it",
        only_theirs("body.requests.*.content.role", "user"),
    ),
    Allowance(
        "googlevertexai",
        "google-genai",
        "the SDK sends an empty configuration where there is none",
        only_theirs("body.generationConfig", {}),
    ),
    Allowance(
        "googlevertexai",
        "google-genai",
        "the SDK says of the instruction that the user wrote it",
        only_theirs("body.systemInstruction.role", "user"),
    ),
    Allowance(
        "googlevertexai",
        "google-genai",
        "the SDK writes some names with underscores, which the service takes too",
        _rewritten(
            '(include_thoughts|thinking_(level|budget)|allowed_function_names)(?=":)',
            lambda it: re.sub("_(.)", lambda letter: letter[1].upper(), it[0]),
        ),
    ),
    Allowance(
        "googlevertexai",
        "google-genai",
        "the SDK writes the types of a schema in capitals",
        _rewritten('"type": "[A-Z]+"', lambda it: it[0].lower()),
    ),
    Allowance(
        "googlevertexai",
        "openai",
        "we always say whether we want a stream",
        only_ours("body.stream", False),
    ),
    Allowance("googlevertexai", "openai", "we always ask for one choice", only_ours("body.n", 1)),
    Allowance(
        "googlevertexai", "mistralai", "we always ask for one choice", only_ours("body.n", 1)
    ),
    Allowance(
        "googlevertexai",
        "google-cloud-discoveryengine",
        "the SDK asks for numbers in place of names of enumerations, of which there are none",
        only_theirs("query.$alt", ["json;enum-encoding=int"]),
    ),
    Allowance("mistral", "mistralai", "we always ask for one choice", only_ours("body.n", 1)),
    Allowance("groq", "groq", "we always ask for one choice", only_ours("body.n", 1)),
    Allowance(
        "groq", "groq", "we always say whether we want a stream", only_ours("body.stream", False)
    ),
    Allowance(
        "groq",
        "groq",
        "the SDK cannot ask for the usage of a stream, which we do",
        only_ours("body.stream_options", {"include_usage": True}),
    ),
    Allowance(
        "hugging_face", "huggingface_hub", "we always ask for one choice", only_ours("body.n", 1)
    ),
    Allowance(
        "hugging_face",
        "huggingface_hub",
        "the SDK makes up a model where the endpoint names none",
        only_theirs("body.model", "dummy"),
    ),
    Allowance(
        "mistral",
        "mistralai",
        "the SDK says of every earlier answer that it is no prefix",
        only_theirs("body.messages.*.prefix", False),
    ),
    Allowance(
        "mistral",
        "mistralai",
        "the SDK counts the tool calls of earlier answers",
        only_theirs("body.messages.*.tool_calls.*.index", 0),
    ),
)

NO_SDK: dict[str, str] = {
    "hugging_face sparse_embedding": "huggingface_hub has no call for the weights of tokens",
    "hugging_face rerank": "huggingface_hub has no call for the scores of documents",
}
"""Tasks, as `service task`, for which no SDK can be asked, and why."""


def reconciled(
    ours: Sent, theirs: Sent, *, service: str, package: str
) -> tuple[Sent, Sent, list[Allowance]]:
    """Give both requests without what is allowed, and the allowances that changed something."""
    used = []
    for allowance in ALLOWANCES:
        if (allowance.service, allowance.package) == (service, package):
            before = (ours, theirs)
            ours, theirs = allowance.reconcile(ours, theirs)
            used += [allowance] if (ours, theirs) != before else []
    return ours, theirs, used


def _without(tree: Any, other: Any, place: str, value: Any) -> Any:
    """Leave `place` out of `tree` where `other` lacks it; `*` stands for every item of a list."""
    name, _, rest = place.partition(".")
    if name == "*":
        if not isinstance(tree, list):
            return tree
        others = other if isinstance(other, list) else []
        others = [*others, *[{}] * (len(tree) - len(others))]
        return [_without(one, others[n], rest, value) for n, one in enumerate(tree)]
    if not isinstance(tree, dict) or name not in tree:
        return tree
    if rest:
        below = other.get(name, {}) if isinstance(other, dict) else {}
        return {**tree, name: _without(tree[name], below, rest, value)}
    is_allowed = value is _ANY or (tree[name] == value and type(tree[name]) is type(value))
    if not is_allowed or (isinstance(other, dict) and name in other):
        return tree
    return {key: item for key, item in tree.items() if key != name}
