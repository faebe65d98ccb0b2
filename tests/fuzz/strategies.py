"""Requests as a caller might send them: well-meant ones that must succeed, and hostile ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

EMBEDDINGS, SPARSE, COMPLETION, CHAT = (
    "fuzz-embeddings",
    "fuzz-sparse",
    "fuzz-completion",
    "fuzz-chat",
)
EVENT_STREAM = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class Sent:
    """A request. succeeds: the answer must be 2xx; else any answer that is not our fault."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    succeeds: bool = False


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _post(path: str, body: Any, **headers: str) -> Sent:
    return Sent("POST", path, _json(body), {"Content-Type": "application/json", **headers}, True)


# --- well-meant ----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
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


def _reads() -> st.SearchStrategy[Sent]:
    paths = ["/", "/_inference", "/_inference/_all", "/_inference/*", "/_inference//_all"]
    paths += [
        "/_inference/_services",
        "/_inference/_services/rerank",
        "/v1/models",
        "/openapi.json",
    ]
    paths += [f"/_inference/{EMBEDDINGS}", f"/_inference/completion/{COMPLETION}", "/health"]
    paths += ["/_security/_authenticate", "/_security/user", "/_security/role", "/ready"]
    return st.builds(
        lambda path, accept: Sent("GET", path, None, {"Accept": accept}, True),
        st.sampled_from(paths),
        media_types,
    )


def _runs() -> st.SearchStrategy[Sent]:
    many = texts | st.lists(texts, min_size=1, max_size=5)
    embed = st.builds(
        lambda inputs, query: _post(
            f"/_inference/text_embedding/{EMBEDDINGS}{query}", {"input": inputs}
        ),
        many,
        parameters,
    )
    complete = st.builds(
        lambda text, stream: _post(
            f"/_inference/{COMPLETION}{'/_stream' * stream}", {"input": [text]}
        ),
        texts,
        st.booleans(),
    )
    chat = st.builds(
        lambda turns, stream: _post(
            f"/_inference/chat_completion/{CHAT}{'/_stream' * stream}", {"messages": turns}
        ),
        messages,
        st.booleans(),
    )
    openai = st.builds(
        lambda inputs, encoding: _post(
            "/v1/embeddings", {"model": EMBEDDINGS, "input": inputs, "encoding_format": encoding}
        ),
        many,
        st.sampled_from(["float", "base64"]),
    )
    return embed | complete | chat | openai


def _writes() -> st.SearchStrategy[Sent]:
    role = st.builds(
        lambda name: Sent(
            "PUT",
            f"/_security/role/fuzz-{name}",
            _json({"cluster": ["monitor_inference"]}),
            {"Content-Type": "application/json"},
            True,
        ),
        names,
    )
    key = st.builds(lambda name: _post("/_security/api_key", {"name": name}), names)
    reference = st.builds(
        lambda name: Sent(
            "PUT",
            f"/_inferry/references/fuzz-{name}",
            _json({"inference_ids": [CHAT], "kind": "pipeline"}),
            {"Content-Type": "application/json"},
            True,
        ),
        names,
    )
    return role | key | reference


well_meant = st.one_of(_reads(), _runs(), _runs(), _writes())

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
broken = st.binary(max_size=60) | st.sampled_from(
    [b"{", b'{"a":1,"a":2}', b"[" * 3000, b'{"a":' * 3000, b"\xef\xbb\xbf{}", b"NaN", b'"\\ud800"']
    + [b'{"input":"\\ud800"}', b'{"input":["a"],}', b"{} {}", b'{"input":1e400}', b"\xff\xfe{}\x00"]
)
bodies = st.one_of(
    st.none(),
    broken,
    any_json.map(lambda value: json.dumps(value).encode()),
    near_bodies.map(lambda value: json.dumps(value).encode()),
    endpoint_bodies.map(lambda value: json.dumps(value).encode()),
)
segments = st.one_of(
    st.sampled_from(
        [
            "_inference",
            "_security",
            "_inferry",
            "v1",
            "_stream",
            "_update",
            "_all",
            "*",
            "",
            "..",
            ".",
        ]
        + ["text_embedding", "completion", "chat_completion", "rerank", "embedding", "any", "foo"]
        + [
            EMBEDDINGS,
            SPARSE,
            COMPLETION,
            CHAT,
            ".elser-2-elasticsearch",
            "_services",
            "user",
            "role",
        ]
        + ["api_key", "references", "_region_policy", "_password", "_has_privileges", "models"]
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
            [
                "application/json",
                "text/plain",
                "application/cbor",
                "",
                "application/json;charset=utf-8",
            ]
            + [
                "application/vnd.elasticsearch+json; compatible-with=7",
                "a/b/c",
                "multipart/form-data",
            ]
        ),
        "Accept": st.sampled_from(
            ["*/*", "text/html", "", "application/json;q=x", "text/event-stream"]
        ),
        "Accept-Encoding": st.sampled_from(["gzip", "br", "identity;q=0", "*", ""]),
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "identity"]),
        "X-Opaque-Id": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
        "Authorization": st.sampled_from(
            [
                "Basic",
                "Basic !!!",
                "ApiKey AAAA",
                "Bearer x",
                "Digest a",
                "ApiKey \xe9",
                "Basic Og==",
            ]
        ),
    },
)
json_headers = st.just({"Content-Type": "application/json"})


def _hostile(
    method: str, path: str, query: str, body: bytes | None, headers: dict[str, str]
) -> Sent:
    return Sent(method, f"{path}?{query}" if query else path, body, headers)


hostile = st.builds(
    _hostile,
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"]),
    paths,
    queries,
    bodies,
    st.one_of(json_headers, json_headers, hostile_headers),
)
aimed = st.builds(
    _hostile,
    st.sampled_from(["PUT", "POST"]),
    st.sampled_from(
        [
            "/_inference/text_embedding/fuzz-new",
            "/_inference/fuzz-new",
            f"/_inference/{CHAT}/_update",
        ]
        + [f"/_inference/{EMBEDDINGS}", f"/_inference/chat_completion/{CHAT}", "/v1/embeddings"]
        + [
            f"/_inference/completion/{COMPLETION}/_stream",
            "/v1/chat/completions",
            "/_security/api_key",
        ]
        + [
            "/_inference/rerank/x",
            "/_inference/embedding/x",
            "/_security/user/fuzz",
            "/_security/role/f",
        ]
        + ["/_inference/_region_policy?force", "/_inferry/references/fuzz"]
    ),
    st.just(""),
    bodies,
    json_headers,
)

requests = st.one_of(well_meant, hostile, aimed)
