"""What holds for every call: rows 182-201."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.wire.conftest import new_id

VENDOR = "application/vnd.elasticsearch+json"


def vendor(version):
    return f"{VENDOR}; compatible-with={version}"


def test_row_182_the_root_says_who_we_are(wire):
    reply = wire.get("/")

    assert reply.status == 200
    assert list(reply.json) == ["name", "cluster_name", "cluster_uuid", "version", "tagline"]
    assert reply.json["tagline"] == "You Know, for Search"
    assert reply.json["version"]["number"].startswith("9.5.")
    assert reply.json["version"]["build_flavor"] == "default"


def test_row_183_a_ping_has_no_body(wire):
    reply = wire.call("HEAD", "/")

    assert (reply.status, reply.content) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("OPTIONS", "/_inference", 200),
        ("GET", "/_inference/nowhere", 404),
        ("HEAD", "/_inference/nowhere", 405),
        ("PATCH", "/_inference", 405),
        ("GET", "/_foo", 400),
        ("GET", "/health", 200),
        ("GET", "/ready", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
    ],
)
def test_row_184_every_answer_has_the_product_header(wire, method, path, status):
    reply = wire.call(method, path)

    assert reply.status == status
    assert reply.headers["x-elastic-product"] == "Elasticsearch"


def test_an_answer_without_credentials_has_the_product_header(wire):
    reply = wire.get("/_inference", headers={"Authorization": None})

    assert reply.status == 401
    assert reply.headers["x-elastic-product"] == "Elasticsearch"


@pytest.mark.parametrize("version", [8, 9])
@pytest.mark.parametrize("path", ["/", "/_inference", "/_inference/nowhere"])
def test_rows_185_186_the_answer_has_the_version_that_was_asked_for(wire, version, path):
    reply = wire.get(path, headers={"Accept": vendor(version)})

    assert reply.headers["content-type"] == f"{VENDOR};compatible-with={version}"


def test_row_185_version_8_is_answered_as_version_8(wire):
    reply = wire.get("/", headers={"Accept": vendor(8)})

    assert reply.headers["content-type"] == f"{VENDOR};compatible-with=8"


def test_row_186_version_9_is_answered_as_version_9(wire):
    body = wire.definition()
    headers = {"Accept": vendor(9), "Content-Type": vendor(9)}

    reply = wire.put(f"/_inference/text_embedding/{new_id()}", body, headers=headers)

    assert reply.status == 200
    assert reply.headers["content-type"] == f"{VENDOR};compatible-with=9"


@pytest.mark.parametrize("accept", ["application/json", "*/*", None, "text/html, */*;q=0.1"])
def test_row_187_otherwise_the_answer_is_plain_json(wire, accept):
    reply = wire.get("/_inference", headers={"Accept": accept})

    assert reply.headers["content-type"] == "application/json"


def test_row_188_other_versions_are_refused(wire):
    reply = wire.get("/_inference", headers={"Accept": vendor(7)})

    text = "Invalid media-type value on headers [Accept]"
    wire.refused(400, "media_type_header_exception", text, reply)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (vendor(8), vendor(9)),
        (vendor(8), "application/json"),
        ("application/json", vendor(9)),
    ],
)
def test_row_189_both_headers_speak_of_one_version(wire, accept, content_type):
    headers = {"Accept": accept, "Content-Type": content_type}

    reply = wire.post("/_inference/nowhere", {"input": "x"}, headers=headers)

    text = "Invalid media-type value on headers [Accept, Content-Type]"
    wire.refused(400, "media_type_header_exception", text, reply)
    cause = reply.json["error"]["caused_by"]["reason"]
    assert cause.startswith("A compatible version is required on both Content-Type and Accept")


def test_an_answer_in_a_type_that_we_do_not_speak_is_refused(wire):
    reply = wire.get("/_inference", headers={"Accept": "text/html"})

    text = "Invalid media-type value on headers [Accept]"
    wire.refused(400, "media_type_header_exception", text, reply)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/yaml", "application/cbor"],
)
def test_row_190_other_types_of_bodies_are_refused(wire, content_type):
    reply = wire.put("/_inference/x", raw=b"{}", headers={"Content-Type": content_type})

    assert reply.status == 406
    text = f"Content-Type header [{content_type}] is not supported"
    assert reply.json == {"error": text, "status": 406}


def test_row_191_a_body_has_a_type(wire):
    reply = wire.put("/_inference/x", raw=b"{}", headers={"Content-Type": None})

    assert reply.status == 406
    assert reply.json == {"error": "Content-Type header is missing", "status": 406}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/_inference/x"),
        ("POST", "/_inference/rerank/x"),
        ("POST", "/_inference/chat_completion/x/_stream"),
        ("POST", "/_ml/trained_models/x/_infer"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/chat/completions"),
    ],
)
def test_a_body_that_is_not_utf_8_is_refused(wire, method, path):
    reply = wire.call(method, path, raw=b'{"input":"\xff"}')

    assert reply.status == 400, reply.content
    assert b"[1:11] Invalid UTF-8" in reply.content


def test_row_192_large_answers_are_packed_when_asked_for(wire):
    reply = wire.get("/_inference", headers={"Accept-Encoding": "gzip"})

    assert reply.headers["content-encoding"] == "gzip"
    assert gzip.decompress(reply.content) == wire.get("/_inference").content


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "br"])
def test_answers_are_not_packed_otherwise(wire, accepted):
    reply = wire.get("/_inference", headers={"Accept-Encoding": accepted})

    assert "content-encoding" not in reply.headers


def test_small_answers_are_not_packed(wire):
    reply = wire.get("/_inference/nowhere", headers={"Accept-Encoding": "gzip"})

    assert "content-encoding" not in reply.headers


def test_row_193_bodies_may_be_packed(wire):
    packed = gzip.compress(json.dumps(wire.definition()).encode())

    reply = wire.put(
        f"/_inference/text_embedding/{new_id()}", raw=packed, headers={"Content-Encoding": "gzip"}
    )

    assert reply.status == 200


def test_a_body_that_is_not_what_its_encoding_says_is_refused(wire):
    reply = wire.put("/_inference/x", raw=b"no gzip", headers={"Content-Encoding": "gzip"})

    wire.refused(400, "illegal_argument_exception", "is not valid gzip", reply)


def test_row_194_a_body_above_the_limit_is_refused(tuned):
    wire = tuned(INFERRY_SERVER__MAX_BODY_BYTES="10KB")

    plain = wire.post("/_inference/x", {"input": "x" * 20_000})
    packed = wire.post(
        "/_inference/x", raw=gzip.compress(b" " * 20_000), headers={"Content-Encoding": "gzip"}
    )

    for reply in (plain, packed):
        wire.refused(413, "status_exception", "exceeds the maximum of [10240] bytes", reply)


def test_a_definition_has_a_limit_of_its_own(wire):
    reply = wire.put("/_inference/x", raw=b" " * 2_000_000)

    wire.refused(413, "status_exception", "exceeds the maximum of [1048576] bytes", reply)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/_inference/a/b", {"GET", "PUT", "DELETE", "POST"}),
        ("/_inference/_services?x", {"GET", "PUT", "DELETE", "POST"}),
        ("/_inference/a/b/_stream", {"POST"}),
        ("/", {"GET"}),
    ],
)
def test_row_195_a_wrong_method_is_told_the_right_ones(wire, path, allowed):
    reply = wire.call("PATCH", path)

    assert reply.status == 405
    assert set(reply.headers["allow"].split(",")) == allowed
    start = f"Incorrect HTTP method for uri [{path}] and method [PATCH], allowed: ["
    assert reply.json["error"].startswith(start)
    assert reply.json["status"] == 405


@pytest.mark.parametrize("path", ["/_foo/bar", "/_foo/bar?x=1", "/index", "/_inference/a/b/c"])
def test_row_196_an_unknown_path_has_no_handler(wire, path):
    reply = wire.get(path)

    assert reply.status == 400
    assert reply.json == {"error": f"no handler found for uri [{path}] and method [GET]"}


def test_row_197_options_lists_the_methods_of_a_path(wire):
    reply = wire.call("OPTIONS", "/_inference/x")

    assert (reply.status, reply.content) == (200, b"")
    assert set(reply.headers["allow"].split(",")) == {"GET", "PUT", "DELETE", "POST"}


def test_row_198_pretty_indents(wire):
    reply = wire.get("/_inference/nowhere?pretty")

    text = reply.content.decode()
    assert text.startswith('{\n  "error" : {\n')
    assert text.endswith("}\n")
    assert json.loads(text)["status"] == 404


@pytest.mark.parametrize("value", ["yes", "1"])
def test_pretty_is_true_or_false(wire, value):
    reply = wire.get(f"/_inference?pretty={value}")

    text = f"Failed to parse value [{value}] as only [true] or [false] are allowed."
    wire.refused(400, "illegal_argument_exception", text, reply)


def test_human_is_accepted(wire):
    assert wire.get("/_inference?human").content == wire.get("/_inference").content


@pytest.mark.parametrize("value", ["yaml", "cbor", "smile"])
def test_other_formats_are_refused(wire, value):
    reply = wire.get(f"/_inference?format={value}")

    assert reply.status == 406
    assert reply.json["status"] == 406


def test_row_199_an_error_can_show_a_trace_without_secrets(wire):
    plain = wire.get("/_inference/nowhere")
    traced = wire.get("/_inference/nowhere?error_trace=true")

    assert "stack_trace" not in plain.json["error"]
    assert "nowhere" in traced.json["error"]["stack_trace"]
    assert "/" not in traced.json["error"]["stack_trace"]
    assert traced.json["error"]["root_cause"][0]["stack_trace"]


@pytest.mark.parametrize("path", ["/_inference", "/_inference/nowhere"])
def test_row_200_the_opaque_id_comes_back(wire, path):
    reply = wire.get(path, headers={"X-Opaque-Id": "my id"})

    assert reply.headers["x-opaque-id"] == "my id"


def test_row_201_a_client_reads_what_it_needs_from_every_step(wire):
    """The official clients themselves do this in tests/clients."""
    inference_id = new_id()
    path = f"/_inference/text_embedding/{inference_id}"
    for version in (8, 9):
        headers = {"Accept": vendor(version), "Content-Type": vendor(version)}
        replies = [
            wire.get("/", headers={"Accept": vendor(version)}),
            wire.put(path, wire.definition(), headers=headers),
            wire.get(path, headers={"Accept": vendor(version)}),
            wire.post(path, {"input": "x"}, headers=headers),
            wire.put(f"{path}/_update", {"task_settings": {"user": "u"}}, headers=headers),
            wire.delete(path, headers={"Accept": vendor(version)}),
        ]

        for reply in replies:
            assert reply.status == 200
            assert reply.headers["content-type"] == f"{VENDOR};compatible-with={version}"
            assert reply.headers["x-elastic-product"] == "Elasticsearch"
            assert "warning" not in reply.headers


def test_every_request_has_an_id_in_its_answer(wire):
    given = wire.get("/", headers={"X-Request-Id": "abc"})
    made = {wire.get("/").headers["x-request-id"] for _ in range(3)}

    assert given.headers["x-request-id"] == "abc"
    assert len(made) == 3


def test_a_call_without_a_body_refuses_one(wire):
    reply = wire.call("GET", "/_inference", {})

    text = "request [GET /_inference] does not support having a body"
    wire.refused(400, "illegal_argument_exception", text, reply)


def test_a_list_answers_head_and_one_endpoint_does_not(wire):
    inference_id = wire.endpoint()

    assert wire.call("HEAD", "/_inference").status == 200
    assert wire.call("HEAD", "/_inference/completion/_all").status == 200
    assert wire.call("HEAD", f"/_inference/{inference_id}").status == 405


def test_a_path_is_decoded_once(wire):
    assert wire.get("/_inference/a%252Fb").json["error"]["reason"].endswith("[a%2Fb]")


def test_the_documentation_is_open_and_the_description_is_not(wire):
    nobody = {"Authorization": None}

    assert wire.get("/docs", headers=nobody).status == 200
    assert wire.get("/openapi.json", headers=nobody).status == 401
    assert wire.get("/metrics", headers=nobody).status == 401


def test_references_are_stored_listed_and_forgotten(wire):
    name, inference_id = new_id("ref"), wire.endpoint()
    path = f"/_inferry/references/{name}"

    wire.put(path, {"inference_ids": [inference_id], "kind": "index"})

    expected = {"name": name, "kind": "index", "inference_ids": [inference_id]}
    assert wire.get(path).json == expected
    assert expected in wire.get("/_inferry/references").json["references"]
    assert wire.delete(path).status == 200
    assert wire.get(path).status == 404
