"""GET of endpoints: rows 1-24."""

from __future__ import annotations

import pytest

BUILT_IN = [
    ".elser-2-elasticsearch",
    ".minilm-l6-v2",
    ".multilingual-e5-small-elasticsearch",
    ".rerank-v1-elasticsearch",
]


def ids(reply) -> list[str]:
    assert reply.status == 200, reply.content
    return [one["inference_id"] for one in reply.json["endpoints"]]


def test_row_001_a_fresh_server_lists_only_what_is_preconfigured(tuned):
    fresh = tuned()

    reply = fresh.get("/_inference")

    assert ids(reply) == BUILT_IN
    assert list(reply.json) == ["endpoints"]


@pytest.mark.parametrize("path", ["/_inference/_all"])
def test_row_002_all_is_another_name_of_the_list(wire, path):
    assert wire.get(path).content == wire.get("/_inference").content


@pytest.mark.parametrize("path", ["/_inference/*", "/_inference/%2A"])
def test_row_003_a_star_is_another_name_of_the_list(wire, path):
    assert wire.get(path).content == wire.get("/_inference").content


@pytest.mark.parametrize(
    "path", ["/_inference/", "/_inference//", "/_inference//_all", "/_inference/_all/"]
)
def test_empty_segments_below_the_list_count_for_nothing(wire, path):
    assert wire.get(path).content == wire.get("/_inference").content


def test_row_004_the_list_of_a_type_has_only_that_type(wire):
    inference_id = wire.endpoint("completion")

    reply = wire.get("/_inference/completion/_all")

    assert inference_id in ids(reply)
    assert {one["task_type"] for one in reply.json["endpoints"]} == {"completion"}


def test_row_005_a_star_lists_a_type_too(wire):
    reply = wire.get("/_inference/text_embedding/*")

    assert reply.content == wire.get("/_inference/text_embedding/_all").content


def test_row_006_a_type_without_endpoints_is_an_empty_list(wire):
    assert wire.get("/_inference/embedding/_all").content == b'{"endpoints":[]}'


def test_row_007_one_endpoint_is_an_array_of_one(wire):
    inference_id = wire.endpoint()

    reply = wire.get(f"/_inference/{inference_id}")

    assert ids(reply) == [inference_id]


def test_one_endpoint_has_the_members_of_the_reference_page_beside(wire):
    inference_id = wire.endpoint()

    reply = wire.get(f"/_inference/{inference_id}")

    [item] = reply.json["endpoints"]
    assert list(reply.json) == [
        "endpoints",
        "inference_id",
        "task_type",
        "service",
        "service_settings",
        "task_settings",
    ]
    assert reply.json["service_settings"] == item["service_settings"]
    assert reply.json["task_settings"] == {}


def test_row_008_the_right_type_in_the_path_is_fine(wire):
    inference_id = wire.endpoint()

    assert ids(wire.get(f"/_inference/text_embedding/{inference_id}")) == [inference_id]


def test_row_009_another_type_in_the_path_is_refused(wire):
    inference_id = wire.endpoint()

    reply = wire.get(f"/_inference/rerank/{inference_id}")

    text = "Requested task type [rerank] does not match the inference endpoint's task type"
    wire.refused(400, "status_exception", f"{text} [text_embedding]", reply)


def test_row_010_an_unknown_id_is_not_found(wire):
    reply = wire.get("/_inference/nowhere")

    text = "Inference endpoint not found [nowhere]"
    wire.refused(404, "resource_not_found_exception", text, reply)


def test_row_011_an_unknown_type_is_refused(wire):
    reply = wire.get("/_inference/foo/nowhere")

    wire.refused(400, "status_exception", "Unknown task_type [foo]", reply)


def test_row_012_a_type_may_be_written_in_capitals(wire):
    inference_id = wire.endpoint()

    assert ids(wire.get(f"/_inference/TEXT_EMBEDDING/{inference_id}")) == [inference_id]


def test_row_013_the_type_any_is_any_type(wire):
    inference_id = wire.endpoint()

    assert ids(wire.get(f"/_inference/any/{inference_id}")) == [inference_id]


def test_row_014_a_comma_list_is_one_id(wire):
    reply = wire.get("/_inference/a,b")

    wire.refused(404, "resource_not_found_exception", "[a,b]", reply)


def test_row_015_a_partial_wildcard_is_one_id(wire):
    reply = wire.get("/_inference/my-*")

    wire.refused(404, "resource_not_found_exception", "[my-*]", reply)


def test_row_016_lists_are_sorted_by_id_with_dots_first(wire):
    wire.endpoint()

    listed = ids(wire.get("/_inference"))

    assert listed == sorted(listed)
    assert listed[0].startswith(".")


def test_row_017_no_answer_has_a_secret(wire):
    inference_id = wire.endpoint(api_key="sk-marker")

    for path in ("/_inference", f"/_inference/{inference_id}"):
        content = wire.get(path).content
        assert b"marker" not in content
        assert b"api_key" not in content


def test_row_018_empty_task_settings_are_left_out(wire):
    inference_id = wire.endpoint(more={"task_settings": {}})

    [item] = wire.get(f"/_inference/{inference_id}").json["endpoints"]
    assert "task_settings" not in item


def test_row_019_types_that_are_not_chunked_have_no_chunking_settings(wire):
    inference_id = wire.endpoint("completion")

    [item] = wire.get(f"/_inference/{inference_id}").json["endpoints"]
    assert "chunking_settings" not in item


def test_row_020_a_local_model_shows_its_live_allocations(wire):
    wire.post("/_inference/.elser-2-elasticsearch", {"input": "start"})

    [item] = wire.get("/_inference/.elser-2-elasticsearch").json["endpoints"]
    assert item["service_settings"]["num_allocations"] == 1
    wire.delete("/_inference/.elser-2-elasticsearch?force=true")  # which ends the deployment


def test_row_021_an_unknown_parameter_is_refused(wire):
    reply = wire.get("/_inference?foo=1")

    text = "request [/_inference] contains unrecognized parameter: [foo]"
    wire.refused(400, "illegal_argument_exception", text, reply)


def test_several_unknown_parameters_are_named_in_order_with_hints(wire):
    reply = wire.get("/_inference/x?prety&bar=1")

    text = "contains unrecognized parameters: [bar], [prety] -> did you mean [pretty]?"
    wire.refused(400, "illegal_argument_exception", text, reply)


def test_row_022_filter_path_keeps_what_is_named(wire):
    inference_id = wire.endpoint()

    reply = wire.get(f"/_inference/{inference_id}?filter_path=endpoints.inference_id")

    assert reply.json == {"endpoints": [{"inference_id": inference_id}]}


def test_row_023_filter_path_without_a_match_leaves_nothing(wire):
    assert wire.get("/_inference?filter_path=nope").content == b"{}"


def test_row_024_a_preconfigured_endpoint_can_be_read(wire):
    reply = wire.get("/_inference/.elser-2-elasticsearch")

    [item] = reply.json["endpoints"]
    assert item["task_type"] == "sparse_embedding"
    assert item["service"] == "elasticsearch"
    assert item["service_settings"] == {
        "num_threads": 1,
        "model_id": ".elser_model_2_linux-x86_64",
        "adaptive_allocations": {
            "enabled": True,
            "min_number_of_allocations": 0,
            "max_number_of_allocations": 32,
        },
    }
