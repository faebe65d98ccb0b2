"""Requests as a caller might send them: well-meant ones that must succeed, and hostile ones.

What is generated are scenarios: one request, or several in order.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias
from urllib.parse import quote

from hypothesis import strategies as st

from tests.fuzz.endpoints import CHAT, COMPLETION, EMBEDDINGS, ENDPOINTS, LOCAL, UNREACHABLE

UNIQUE = "{unique}"
"""Stands for a number that no other scenario of the run has."""
PROVIDER = "{provider}"
"""Stands for the URL of the provider."""


class Kind(StrEnum):
    """What a request is for."""

    READ = "read"
    RUN = "run"
    WRITE = "write"
    SEQUENCE = "sequence"
    HEAD = "head"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    AIMED = "aimed"
    HOSTILE = "hostile"


@dataclass(frozen=True, repr=False)
class Sent:
    """A request. statuses: those that are right; empty: any that is no fault of the server.

    pieces: the body goes in that many chunks, 0 for one with its length.
    """

    kind: Kind
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    pieces: int = 0

    def __repr__(self) -> str:
        shown = f"{self.kind}: {self.method} {self.path} {self.headers} {self.body!r}"
        return f"{shown:.1000}" + f" expecting {self.statuses}" * bool(self.statuses)


Scenario: TypeAlias = list[Sent]
Requests: TypeAlias = st.SearchStrategy[Sent]
JSON: Mapping[str, str] = {"Content-Type": "application/json"}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _call(
    kind: Kind, method: str, path: str, body: Any = None, status: int = 200, **headers: str
) -> Sent:
    if body is None:
        return Sent(kind, method, path, None, headers, (status,))
    return Sent(kind, method, path, _json(body), {**JSON, **headers}, (status,))


# --- well-meant ----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
long_texts = st.builds(
    lambda word, times: word * times, texts, st.sampled_from([1, 1, 1, 1, 1, 50, 2000])
)
many_texts = st.builds(
    lambda some, times: some * times,
    st.lists(texts, min_size=1, max_size=5),
    st.sampled_from([1, 1, 1, 1, 50]),
)
names = st.from_regex(r"[a-z][a-z0-9_\-]{0,12}[a-z0-9]", fullmatch=True)
parameters = st.sampled_from(["", "?pretty", "?human=true", "?error_trace", "?filter_path=**"])
roles = st.sampled_from(["user", "assistant", "system"])
messages = st.lists(
    st.builds(lambda role, text: {"role": role, "content": text}, roles, texts),
    min_size=1,
    max_size=4,
)
media_types = st.sampled_from(
    ["application/json", "*/*"]
    + [f"application/vnd.elasticsearch+json; compatible-with={n}" for n in (8, 9)]
)
encodings = st.sampled_from([{}, {}, {"Accept-Encoding": "gzip"}])
readable = st.sampled_from(
    ["/", "/_inference", "/_inference/_all", "/_inference/*", "/_inference//_all", "/v1/models"]
    + ["/_inference/_services", "/_inference/_services/rerank", "/_inference/.diagnostics"]
    + ["/_security/_authenticate", "/_security/user", "/_security/role", "/_security/api_key"]
    + ["/_security/privilege/_builtin", "/_inferry/references", "/openapi.json", "/docs"]
    + ["/health", "/ready", "/metrics"]
)
endpoints = st.sampled_from([*ENDPOINTS, LOCAL, UNREACHABLE])

reads: Requests = st.builds(
    lambda path, accept, encoding: _call(Kind.READ, "GET", path, Accept=accept, **encoding),
    readable | endpoints.map("/_inference/{}".format) | st.sampled_from([f"/v1/models/{CHAT}"]),
    media_types,
    encodings,
)
heads: Requests = st.one_of(
    readable.map(lambda path: _call(Kind.HEAD, "HEAD", path)),
    endpoints.map(lambda one: _call(Kind.HEAD, "HEAD", f"/_inference/{one}", status=405)),
    st.sampled_from(["/_inference", f"/_inference/{CHAT}", "/v1/models", "/_security/user"]).map(
        lambda path: _call(Kind.HEAD, "OPTIONS", path)
    ),
)


def _embed(inputs: Any, query: str) -> Sent:
    path = f"/_inference/text_embedding/{EMBEDDINGS}{query}"
    return _call(Kind.RUN, "POST", path, {"input": inputs})


def _complete(text: str, stream: str) -> Sent:
    return _call(Kind.RUN, "POST", f"/_inference/{COMPLETION}{stream}", {"input": [text]})


def _chat(turns: Any, stream: str) -> Sent:
    path = f"/_inference/chat_completion/{CHAT}{stream}"
    return _call(Kind.RUN, "POST", path, {"messages": turns})


def _openai_embed(inputs: Any, encoding: str) -> Sent:
    body = {"model": EMBEDDINGS, "input": inputs, "encoding_format": encoding}
    return _call(Kind.RUN, "POST", "/v1/embeddings", body)


def _openai_chat(turns: Any, stream: bool, extra: Any) -> Sent:
    body = {"model": CHAT, "messages": turns, "stream": stream, **extra}
    return _call(Kind.RUN, "POST", "/v1/chat/completions", body)


streams = st.sampled_from(["", "/_stream"])
extras = st.dictionaries(
    st.sampled_from(["seed", "top_k", "x"]),
    st.integers() | texts | st.lists(st.integers(), max_size=3),
)


def _packed(sent: Sent, packed: bool, pieces: int) -> Sent:
    """Send a body with gzip, or in chunks."""
    if sent.body is not None and packed:
        headers = {**sent.headers, "Content-Encoding": "gzip"}
        sent = replace(sent, body=gzip.compress(sent.body, mtime=0), headers=headers)
    return replace(sent, pieces=pieces)


runs: Requests = st.builds(
    _packed,
    st.one_of(
        st.builds(_embed, long_texts | many_texts, parameters),
        st.builds(_complete, texts, streams),
        st.builds(_chat, messages, streams),
        st.builds(_openai_embed, long_texts | many_texts, st.sampled_from(["float", "base64"])),
        st.builds(_openai_chat, messages, st.booleans(), extras),
    ),
    st.sampled_from([False, False, True]),
    st.sampled_from([0, 0, 0, 1, 3]),
)


def _role(name: str) -> Sent:
    body = {"cluster": ["monitor_inference"], "metadata": {"made": name}}
    return _call(Kind.WRITE, "PUT", f"/_security/role/fuzz-{name}", body)


def _key(name: str) -> Sent:
    limits = {"a": {"cluster": ["monitor_inference"]}}
    body = {"name": name, "expiration": "1h", "role_descriptors": limits}
    return _call(Kind.WRITE, "POST", "/_security/api_key", body)


def _reference(name: str) -> Sent:
    body = {"inference_ids": [CHAT], "kind": "pipeline"}
    return _call(Kind.WRITE, "PUT", f"/_inferry/references/fuzz-{name}", body)


def _update(user: str) -> Sent:
    body = {"task_settings": {"user": user}}
    return _call(Kind.WRITE, "PUT", f"/_inference/{CHAT}/_update", body)


writes: Requests = st.one_of(
    names.map(_role), names.map(_key), names.map(_reference), names.map(_update)
)

# --- sequences: whatever is made is used, and removed once ----------------------------------------

chunkings = st.one_of(
    st.just({"strategy": "none"}),
    st.builds(
        lambda size, overlap: {"strategy": "word", "max_chunk_size": size, "overlap": overlap},
        st.integers(20, 300),
        st.integers(0, 10),
    ),
    st.builds(
        lambda size, overlap: {
            "strategy": "sentence",
            "max_chunk_size": size,
            "sentence_overlap": overlap,
        },
        st.integers(20, 300),
        st.integers(0, 1),
    ),
)
definitions = st.fixed_dictionaries(
    {},
    optional={
        "similarity": st.sampled_from(["cosine", "dot_product", "l2_norm", "COSINE"]),
        "organization_id": names,
        "max_input_tokens": st.integers(1, 8192),
    },
)


def _endpoint_life(
    name: str, settings: dict[str, Any], chunking: Any, in_url: bool, text: str
) -> Scenario:
    path = f"/_inference/fuzz-{name}-{UNIQUE}"
    typed = f"/_inference/text_embedding/fuzz-{name}-{UNIQUE}"
    body: dict[str, Any] = {
        "service": "openai",
        "service_settings": {
            "api_key": f"k-{name}",
            "model_id": name,
            "url": f"{PROVIDER}/v1/embeddings",
            "rate_limit": {"requests_per_minute": 10_000_000},
            **settings,
        },
        "chunking_settings": chunking,
    }
    if not in_url:
        body["task_type"] = "text_embedding"
    call = _sequence_call
    return [
        call("PUT", typed if in_url else path, body),
        call("PUT", typed, {**body, "task_type": "text_embedding"}, 400),
        call("GET", typed),
        call("POST", path, {"input": [text, name]}),
        call("PUT", f"{path}/_update", {"service_settings": {"api_key": "k-other"}}),
        call("POST", typed, {"input": text}),
        call("DELETE", f"{path}?dry_run"),
        call("DELETE", path),
        call("DELETE", typed, status=404),
        call("POST", path, {"input": "gone"}, 404),
        call("GET", path, status=404),
    ]


def _sequence_call(method: str, path: str, body: Any = None, status: int = 200) -> Sent:
    return _call(Kind.SEQUENCE, method, path, body, status)


def _user_life(name: str, roles: list[str]) -> Scenario:
    path, call = f"/_security/user/fuzz-{name}-{UNIQUE}", _sequence_call
    return [
        call("PUT", path, {"password": f"a password of {name}", "roles": roles}),
        call("GET", path),
        call("POST", path, {"roles": [], "full_name": name}),
        call("PUT", f"{path}/_disable"),
        call("DELETE", path),
        call("DELETE", path, status=404),
    ]


def _role_life(name: str, cluster: list[str]) -> Scenario:
    path, call = f"/_security/role/fuzz-{name}-{UNIQUE}", _sequence_call
    return [
        call("PUT", path, {"cluster": cluster, "description": name}),
        call("PUT", path, {"cluster": cluster}),
        call("GET", path),
        call("DELETE", path),
        call("GET", path, status=404),
    ]


def _reference_life(name: str, kind: str) -> Scenario:
    path, call = f"/_inferry/references/fuzz-{name}-{UNIQUE}", _sequence_call
    body = {"inference_ids": [COMPLETION], "kind": kind}
    return [
        call("PUT", path, body),
        call("GET", path),
        call("DELETE", f"/_inference/{COMPLETION}", status=409),
        call("DELETE", path),
        call("GET", path, status=404),
    ]


sequences: st.SearchStrategy[Scenario] = st.one_of(
    st.builds(_endpoint_life, names, definitions, chunkings, st.booleans(), texts),
    st.builds(_role_life, names, st.lists(st.sampled_from(["monitor", "manage_inference", "all"]))),
    st.builds(_reference_life, names, st.sampled_from(["pipeline", "index"])),
)
user_lives = st.builds(
    _user_life, names, st.lists(st.sampled_from(["inference_user", "superuser", "nobody"]))
)

# --- refused, in a way that is known -------------------------------------------------------------

broken_json = st.sampled_from(
    [b"{", b'{"a":1,"a":2}', b"[" * 3000, b'{"a":' * 3000, b"\xef\xbb\xbf{}", b"NaN", b'"\\ud800"']
    + [b'{"input":"\\ud800"}', b'{"input":["a"],}', b"{} {}", b'{"input":1e400}', b"\xff\xfe{}\x00"]
    + [b"[1]", b'"a"', b"null", b"{'input':'a'}", b'{"input":"a"', b"\x00", b"1" * 5000]
)
json_calls = st.sampled_from(
    [("PUT", "/_inference/text_embedding/fuzz-never"), ("PUT", f"/_inference/{CHAT}/_update")]
    + [("POST", f"/_inference/{EMBEDDINGS}"), ("POST", f"/_inference/chat_completion/{CHAT}")]
    + [("POST", f"/_inference/{COMPLETION}/_stream"), ("POST", "/v1/embeddings")]
    + [("POST", "/v1/chat/completions"), ("POST", "/_security/api_key")]
    + [("PUT", "/_security/role/fuzz-never"), ("PUT", "/_security/user/fuzz-never")]
    + [("PUT", "/_inferry/references/fuzz-never"), ("PUT", "/_inference/_region_policy")]
    + [("DELETE", "/_security/api_key"), ("PUT", "/_security/user/fuzz-never/_password")]
)


def _refused(
    status: int,
    call: tuple[str, str],
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Sent:
    sent = {**(JSON if body is not None else {}), **(headers or {})}
    return Sent(Kind.REFUSED, *call, body, sent, (status,))


def _unknown_member(target: tuple[str, dict[str, Any]], name: str, value: Any) -> Sent:
    path, body = target
    return _refused(400, ("POST", path), _json({**body, f"x{name}": value}))


runnable = st.sampled_from(
    [
        (f"/_inference/{EMBEDDINGS}", {"input": "a"}),
        (f"/_inference/{CHAT}", {"messages": [{"role": "user", "content": "a"}]}),
        ("/_security/api_key", {"name": "fuzz"}),
    ]
)
bad_ids = st.sampled_from(["A", "_a", "-a", "a b", "ä", "a/", "a" * 300, "a!", "*a", "a."]).map(
    lambda name: quote(name, safe="")
)
refused: Requests = st.one_of(
    st.builds(lambda call, body: _refused(400, call, body), json_calls, broken_json),
    st.builds(
        lambda call, name: _refused(406, call, b"{}", {"Content-Type": name}),
        json_calls.filter(lambda call: not call[1].startswith("/v1")),
        st.sampled_from(["text/plain", "application/cbor", "a/b/c", "multipart/form-data"]),
    ),
    st.builds(
        lambda call, junk: _refused(400, call, b"j" + junk, {"Content-Encoding": "gzip"}),
        json_calls,
        st.binary(max_size=40),
    ),
    st.builds(_unknown_member, runnable, names, st.integers() | texts | st.none()),
    st.builds(
        lambda one, name: _refused(400, ("GET", f"/_inference/{one}?x{name}=1")), endpoints, names
    ),
    names.map(lambda name: _refused(400, ("GET", f"/fuzz-{name}/{name}"))),
    names.map(lambda name: _refused(404, ("GET", f"/_inference/no-{name}"))),
    names.map(lambda name: _refused(404, ("POST", f"/_inference/no-{name}"), b'{"input":"a"}')),
    names.map(lambda name: _refused(404, ("DELETE", f"/_inference/no-{name}"))),
    names.map(lambda name: _refused(400, ("GET", f"/_inference/x{name}/{CHAT}"))),
    bad_ids.map(
        lambda name: _refused(400, ("PUT", f"/_inference/{name}"), b'{"service":"openai"}')
    ),
    st.builds(
        lambda path, method: _refused(405, (method, path)),
        st.sampled_from(["/_inference", "/_security/user", "/v1/models", "/", "/health"]),
        st.sampled_from(["PATCH", "TRACE", "PROPFIND", "LOCK"]),
    ),
    st.builds(
        lambda path, given: _refused(401, ("GET", path), None, {"Authorization": given}),
        readable.filter(lambda path: path not in ("/health", "/ready", "/docs")),
        st.sampled_from(["Basic", "Basic !!!", "ApiKey AAAA", "Bearer x", "Digest a", "Basic Og=="])
        | st.sampled_from(["ApiKey \xe9", "Basic ZWxhc3RpYzp3cm9uZw==", "bearer", "ApiKey Og=="]),
    ),
    endpoints.map(lambda one: _refused(400, ("GET", f"/_inference/{one}"), b"{}")),
    st.sampled_from(["x", "5", "1 s", "-2s", "1e3s", "٣s"]).map(
        lambda text: _refused(
            400, ("POST", f"/_inference/{CHAT}?timeout={quote(text)}"), b'{"messages":[]}'
        )
    ),
    st.just(_refused(431, ("GET", "/"), None, {"X-Long": "x" * 70_000})),
    st.just(_refused(413, ("PUT", "/_inference/fuzz-never"), b" " * (1024 * 1024 + 1))),
)
# After several failures in a row a provider is left alone for a while: 429.
unreachable: Requests = st.builds(
    lambda path, inputs: Sent(
        Kind.UNREACHABLE, "POST", path, _json({"input": inputs}), JSON, (502, 429)
    ),
    st.sampled_from(
        [
            f"/_inference/{UNREACHABLE}?timeout=200ms",
            f"/_inference/text_embedding/{UNREACHABLE}?timeout=200ms",
        ]
    ),
    texts | many_texts,
)

# --- hostile -------------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["", " ", "\x00", "-1", "1e999", "${env:HOME}", "${file:../master.key}", "*"])
)
any_json = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
known_keys = st.sampled_from(
    ["service", "service_settings", "task_settings", "chunking_settings", "task_type", "input"]
    + ["input_type", "query", "top_n", "return_documents", "timeout", "messages", "tools", "model"]
    + ["tool_choice", "temperature", "stop", "name", "role_descriptors", "expiration", "roles"]
    + ["password", "cluster", "metadata", "ids", "owner", "region_policy", "inference_ids", "kind"]
)
near_bodies = st.dictionaries(known_keys | st.text(max_size=8), any_json, max_size=5)
endpoint_bodies = st.fixed_dictionaries(
    {"service": st.sampled_from(["openai", "elasticsearch", "nope", ""]) | any_json},
    optional={
        "service_settings": st.dictionaries(
            st.sampled_from(
                ["api_key", "model_id", "url", "dimensions", "rate_limit", "similarity"]
            )
            | st.text(max_size=6),
            any_json,
            max_size=4,
        )
        | any_json,
        "task_settings": any_json,
        "chunking_settings": st.dictionaries(
            st.sampled_from(["strategy", "max_chunk_size", "overlap", "sentence_overlap"]),
            scalars | st.sampled_from(["word", "sentence", "recursive", "none"]),
        )
        | any_json,
        "task_type": any_json,
    },
)
bodies = st.one_of(
    st.none(),
    st.binary(max_size=60) | broken_json,
    any_json.map(_json),
    near_bodies.map(_json),
    endpoint_bodies.map(_json),
)
segments = st.one_of(
    st.sampled_from(
        ["_inference", "_security", "_inferry", "v1", "_stream", "_update", "_all", "*", "", ".."]
        + [".", "text_embedding", "completion", "chat_completion", "rerank", "embedding", "any"]
        + ["foo", LOCAL, *ENDPOINTS, "_services", "user", "role", "api_key", "references"]
        + ["_region_policy", "_password", "_has_privileges", "models"]
    ),
    st.text(max_size=10).map(lambda text: quote(text.encode("utf-8", "replace"), safe="")),
    st.sampled_from(["%", "%zz", "%00", "%2f", "%ff", "a" * 300]),
)
first_segments = (
    st.sampled_from(["_inference", "_inference", "_security", "_inferry", "v1"]) | segments
)
paths = st.builds(
    lambda first, rest: "/" + "/".join([first, *rest]),
    first_segments,
    st.lists(segments, max_size=4),
)
queries = st.lists(
    st.builds(
        lambda name, value: f"{name}={quote(value.encode('utf-8', 'replace'), safe='')}",
        st.sampled_from(["timeout", "dry_run", "force", "pretty", "filter_path", "format", "foo"]),
        st.sampled_from(["", "true", "1s", "-1", "0", "abc", "999999999d", "a.b,-c", "**"])
        | st.text(max_size=8),
    ),
    max_size=2,
).map("&".join)
hostile_headers = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.sampled_from(
            ["application/json", "text/plain", "application/cbor", "", "a/b/c"]
            + ["application/json;charset=utf-8", "multipart/form-data"]
            + ["application/vnd.elasticsearch+json; compatible-with=7"]
        ),
        "Accept": st.sampled_from(
            ["*/*", "text/html", "", "application/json;q=x", "text/event-stream"]
        ),
        "Accept-Encoding": st.sampled_from(["gzip", "br", "identity;q=0", "*", ""]),
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "identity"]),
        "X-Opaque-Id": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
        "Authorization": st.sampled_from(["Basic", "ApiKey AAAA", "Bearer x", "ApiKey \xe9"]),
    },
)
methods = st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])


def _hostile(
    method: str, path: str, query: str, body: bytes | None, headers: Mapping[str, str]
) -> Sent:
    if method == "DELETE" and any(one in path for one in ENDPOINTS):
        query = ""  # `force` would take away what others need
    return Sent(Kind.HOSTILE, method, f"{path}?{query}" if query else path, body, headers)


hostile: Requests = st.builds(
    _hostile,
    methods,
    paths,
    queries,
    bodies,
    st.one_of(st.just(JSON), st.just(JSON), hostile_headers),
)
aimed: Requests = st.builds(
    lambda method, path, body: Sent(Kind.AIMED, method, path, body, JSON),
    st.sampled_from(["PUT", "POST"]),
    st.sampled_from(
        ["/_inference/text_embedding/fuzz-new", "/_inference/fuzz-new", "/v1/embeddings"]
        + [f"/_inference/{CHAT}/_update", f"/_inference/{EMBEDDINGS}", "/v1/chat/completions"]
        + [f"/_inference/chat_completion/{CHAT}", f"/_inference/completion/{COMPLETION}/_stream"]
        + ["/_security/api_key", "/_inference/rerank/x", "/_inference/embedding/x"]
        + ["/_security/user/fuzz", "/_security/role/f", "/_inferry/references/fuzz"]
        + ["/_inference/_region_policy?force"]
    ),
    bodies,
)

# --- all together --------------------------------------------------------------------------------


def _alone(requests: Requests) -> st.SearchStrategy[Scenario]:
    return requests.map(lambda sent: [sent])


# How often each comes. A password costs tens of milliseconds by design, and a provider that cannot
# be reached costs retries, so that these come less often.
_plan: list[tuple[int, st.SearchStrategy[Scenario]]] = [
    (6, _alone(reads)),
    (12, _alone(runs)),
    (4, _alone(writes)),
    (2, _alone(heads)),
    (2, sequences),
    (12, _alone(refused)),
    (12, _alone(hostile)),
    (8, _alone(aimed)),
    (1, user_lives),
    (1, _alone(unreachable)),
]
scenarios = st.sampled_from([made for times, made in _plan for _ in range(times)]).flatmap(
    lambda made: made
)
