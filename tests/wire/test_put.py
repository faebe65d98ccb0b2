"""PUT of endpoints: rows 25-83."""

from __future__ import annotations

import json

import pytest

from tests.providers import refuse
from tests.wire.conftest import new_id

DEFAULT_CHUNKING = {"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1}


def put(wire, body, *, task_type="text_embedding", query=""):
    return wire.put(f"/_inference/{task_type}/{new_id()}{query}", body)


def put_chunked(wire, chunking):
    return put(wire, wire.definition(more={"chunking_settings": chunking}))


def test_row_025_an_endpoint_is_created_and_answered_without_a_wrapper(wire):
    inference_id = new_id()

    reply = wire.put(f"/_inference/text_embedding/{inference_id}", wire.definition())

    assert reply.status == 200
    assert list(reply.json) == [
        "inference_id",
        "task_type",
        "service",
        "service_settings",
        "chunking_settings",
    ]
    assert reply.json["inference_id"] == inference_id
    [item] = wire.get(f"/_inference/{inference_id}").json["endpoints"]
    assert item == reply.json


def test_row_026_the_type_may_stand_in_the_body(wire):
    body = wire.definition(more={"task_type": "text_embedding"})

    reply = wire.put(f"/_inference/{new_id()}", body)

    assert reply.json["task_type"] == "text_embedding"


def test_row_027_a_type_that_stands_nowhere_is_refused(wire):
    reply = wire.put(f"/_inference/{new_id()}", wire.definition())

    wire.refused(400, "status_exception", "model is missing required setting [task_type]", reply)


def test_row_028_the_type_may_stand_in_both_places(wire):
    reply = put(wire, wire.definition(more={"task_type": "text_embedding"}))

    assert reply.status == 200


def test_row_029_two_different_types_are_refused(wire):
    reply = put(wire, wire.definition(more={"task_type": "completion"}))

    text = "Cannot resolve conflicting task_type parameter in the request URL [text_embedding]"
    wire.refused(400, "status_exception", f"{text} and the request body [completion]", reply)


def test_row_030_any_is_no_type_of_an_endpoint(wire):
    reply = wire.put(f"/_inference/{new_id()}", wire.definition(more={"task_type": "any"}))

    text = "task_type [any] is not valid type for inference"
    wire.refused(400, "status_exception", text, reply)


def test_row_031_an_unknown_type_in_the_path_is_refused(wire):
    reply = put(wire, wire.definition(), task_type="foo")

    wire.refused(400, "status_exception", "Unknown task_type [foo]", reply)


def test_row_032_capital_letters_in_an_id_are_refused(wire):
    reply = wire.put("/_inference/text_embedding/Capital", wire.definition())

    text = "Validation Failed: 1: Invalid inference_id; 'Capital' can contain lowercase"
    wire.refused(400, "action_request_validation_exception", text, reply)


@pytest.mark.parametrize("inference_id", [".dot", "_line", "-dash", "end-"])
def test_row_033_an_id_begins_and_ends_with_a_letter_or_digit(wire, inference_id):
    reply = wire.put(f"/_inference/text_embedding/{inference_id}", wire.definition())

    text = "must start and end with alphanumeric"
    wire.refused(400, "action_request_validation_exception", text, reply)


def test_row_034_an_id_may_have_dots_inside(wire):
    reply = wire.put(f"/_inference/text_embedding/{new_id('a.b.c')}", wire.definition())

    assert reply.status == 200


def test_row_035_a_reserved_id_is_refused(wire):
    reply = wire.put("/_inference/sparse_embedding/.elser-2-elasticsearch", wire.definition())

    text = "[.elser-2-elasticsearch] is a reserved inference ID. Cannot create a new inference"
    wire.refused(400, "status_exception", text, reply)


def test_row_036_an_id_can_be_taken_once(wire):
    inference_id = wire.endpoint()

    reply = wire.put(f"/_inference/text_embedding/{inference_id}", wire.definition())

    text = f"Inference endpoint [{inference_id}] already exists"
    wire.refused(400, "resource_already_exists_exception", text, reply)


def test_row_037_a_put_without_a_body_is_refused(wire):
    reply = put(wire, None)

    wire.refused(400, "parse_exception", "request body is required", reply)


def test_row_038_broken_json_is_refused_with_its_place(wire):
    reply = wire.put(f"/_inference/text_embedding/{new_id()}", raw=b'{"service":\n oops}')

    wire.refused(400, "x_content_parse_exception", "[2:2] ", reply)


def test_row_039_an_array_is_no_endpoint(wire):
    reply = wire.put(f"/_inference/text_embedding/{new_id()}", raw=b"[]")

    wire.refused(400, "x_content_parse_exception", "START_ARRAY", reply)


def test_row_040_a_key_that_stands_twice_is_refused(wire):
    raw = b'{"service":"openai","service":"openai"}'

    reply = wire.put(f"/_inference/text_embedding/{new_id()}", raw=raw)

    wire.refused(400, "x_content_parse_exception", "[1:21] Duplicate field 'service'", reply)


def test_row_041_an_endpoint_needs_a_service(wire):
    reply = put(wire, {"service_settings": {}})

    text = "Inference endpoint configuration is missing the [service] setting"
    wire.refused(400, "status_exception", text, reply)


def test_row_042_an_unknown_service_is_refused(wire):
    reply = put(wire, {"service": "nobody", "service_settings": {}})

    wire.refused(400, "status_exception", "Unknown service [nobody]", reply)


def test_row_043_a_task_that_the_service_does_not_offer_is_refused(wire):
    reply = put(wire, wire.definition(), task_type="rerank")

    text = "The [openai] service does not support task type [rerank]"
    wire.refused(400, "status_exception", text, reply)


def test_row_044_service_settings_are_required(wire):
    reply = put(wire, {"service": "openai"})

    wire.refused(400, "status_exception", "Missing required field [service_settings]", reply)


def test_row_045_a_required_setting_must_be_there(wire):
    reply = put(wire, wire.definition(model_id=None))

    text = "[service_settings] does not contain the required setting [model_id]"
    wire.refused(400, "validation_exception", text, reply)


def test_row_046_several_problems_are_numbered(wire):
    reply = put(wire, wire.definition(model_id=None, api_key=None))

    wire.refused(400, "validation_exception", "Validation Failed: 1: ", reply)
    reason = reply.json["error"]["reason"]
    assert ";2: " in reason
    assert "required setting [api_key]" in reason
    assert "required setting [model_id]" in reason


def test_row_047_an_empty_string_is_no_value(wire):
    reply = put(wire, wire.definition(model_id=""))

    text = "Invalid value empty string. [model_id] must be a non-empty string"
    wire.refused(400, "validation_exception", text, reply)


def test_row_048_a_setting_of_a_wrong_type_is_refused(wire):
    reply = put(wire, wire.definition(model_id=3))

    text = "field [model_id] is not of the expected type. The value [3] cannot be converted to a"
    wire.refused(400, "validation_exception", f"{text} [String]", reply)


def test_row_049_a_value_outside_an_enumeration_is_refused(wire):
    reply = put(wire, wire.definition(similarity="far"))

    text = "Invalid value [far] received. [similarity] must be one of"
    wire.refused(400, "validation_exception", f"{text} [cosine, dot_product, l2_norm]", reply)


def test_row_050_a_bad_url_is_refused(wire):
    reply = put(wire, wire.definition(url="^^"))

    text = "Invalid url [^^] received for field [url]"
    wire.refused(400, "validation_exception", text, reply)


def test_row_051_an_unknown_key_is_refused(wire):
    reply = put(wire, wire.definition(more={"colour": "red"}))

    text = "Configuration contains settings [{colour=red}] unknown to the [openai] service"
    wire.refused(400, "status_exception", text, reply)


def test_row_052_an_unknown_service_setting_is_refused(wire):
    reply = put(wire, wire.definition(colour="red"))

    text = "Configuration contains settings [{colour=red}] unknown to the [openai] service"
    wire.refused(400, "status_exception", text, reply)


def test_row_053_an_unknown_task_setting_is_refused(wire):
    reply = put(wire, wire.definition(more={"task_settings": {"colour": "red"}}))

    text = "Configuration contains settings [{colour=red}] unknown to the [openai] service"
    wire.refused(400, "status_exception", text, reply)


def test_row_054_the_value_of_an_unknown_secret_is_not_repeated(wire):
    reply = put(wire, wire.definition(secret_key="marker-1"))

    wire.refused(400, "status_exception", "secret_key=", reply)
    assert b"marker-1" not in reply.content


@pytest.mark.parametrize("limit", [0, -1])
def test_row_055_a_rate_limit_is_positive(wire, limit):
    reply = put(wire, wire.definition(rate_limit={"requests_per_minute": limit}))

    text = f"Invalid value [{limit}]. [requests_per_minute] must be a positive long"
    wire.refused(400, "validation_exception", text, reply)


def test_row_056_an_unknown_key_of_a_rate_limit_is_refused(wire):
    reply = put(wire, wire.definition(rate_limit={"requests_per_minute": 5, "colour": "red"}))

    assert reply.status == 400
    assert "colour=red" in reply.json["error"]["reason"]


def test_row_057_the_default_rate_limit_is_shown(wire):
    reply = put(wire, wire.definition())

    assert reply.json["service_settings"]["rate_limit"] == {"requests_per_minute": 3000}


def test_row_058_dimensions_must_be_those_of_the_model(wire):
    inference_id = new_id()
    wire.provider.then(other_width)

    reply = wire.put(f"/_inference/text_embedding/{inference_id}", wire.definition(dimensions=5))

    text = "The retrieved embeddings size [3] does not match the size specified in the settings [5]"
    rest = f"Please recreate the [{inference_id}] configuration with the correct dimensions"
    wire.refused(400, "status_exception", f"{text}. {rest}", reply)


async def other_width(connection, received):
    """Answer with vectors of a width that nobody asked for."""
    from tests.providers import embeddings, send_json

    await send_json(connection, embeddings({**received.json, "dimensions": 3}))


def test_row_059_dimensions_are_measured(wire):
    reply = put(wire, wire.definition())

    assert reply.json["service_settings"]["dimensions"] == 8


def test_row_060_the_default_similarity_is_shown(wire):
    reply = put(wire, wire.definition())

    assert reply.json["service_settings"]["similarity"] == "dot_product"


def test_row_061_a_failed_validation_call_names_its_cause(wire):
    wire.provider.then(refuse(401, "bad key"))

    reply = put(wire, wire.definition())

    text = "Could not complete inference endpoint creation as validation call to service threw an"
    wire.refused(401, "status_exception", text, reply)
    cause = reply.json["error"]["caused_by"]["reason"]
    assert cause.startswith("Received an authentication error status code for request from")


def test_row_062_nothing_is_stored_when_the_validation_call_fails(wire):
    inference_id = new_id()
    wire.provider.then(refuse(400, "no such model"))

    wire.put(f"/_inference/text_embedding/{inference_id}", wire.definition())

    assert wire.get(f"/_inference/{inference_id}").status == 404


def test_row_063_an_endpoint_whose_model_does_not_start_is_rolled_back(wire):
    inference_id = new_id()
    settings = {"model_id": ".rerank-v1", "num_allocations": 1, "num_threads": 1}
    body = {"service": "elasticsearch", "service_settings": settings}

    reply = wire.put(f"/_inference/rerank/{inference_id}", body)

    assert reply.status == 404
    assert "inferry models pull .rerank-v1" in reply.json["error"]["reason"]
    assert wire.get(f"/_inference/{inference_id}").status == 404


@pytest.mark.parametrize("service", [[], {}, 7, None], ids=str)
def test_a_service_that_is_no_name_is_refused_where_the_type_depends_on_it(wire, service):
    reply = wire.put(f"/_inference/{new_id()}", {"service": service, "service_settings": {}})

    assert reply.status == 400


def test_row_064_without_validation_the_provider_is_not_called(tuned):
    wire = tuned(INFERRY_INFERENCE__SKIP_VALIDATE_AND_START="true")
    before = len(wire.provider.requests)

    reply = put(wire, wire.definition())

    assert reply.status == 200
    assert len(wire.provider.requests) == before


def test_row_065_the_id_of_a_running_deployment_is_taken(wire):
    wire.post("/_ml/trained_models/.elser_model_2/deployment/_start?deployment_id=running")

    reply = wire.put("/_inference/text_embedding/running", wire.definition())

    text = "Inference endpoint IDs must be unique. Requested inference endpoint ID [running]"
    wire.refused(400, "status_exception", text, reply)


def test_row_066_a_bad_duration_is_refused(wire):
    reply = put(wire, wire.definition(), query="?timeout=abc")

    text = "failed to parse setting [timeout] with value [abc] as a time value: unit is missing"
    wire.refused(400, "illegal_argument_exception", text, reply)


def test_row_067_no_secret_is_in_the_answer(wire):
    reply = put(wire, wire.definition(api_key="sk-marker-67"))

    assert b"marker" not in reply.content
    assert b"api_key" not in reply.content


def test_row_068_embeddings_are_chunked_by_default(wire):
    assert put(wire, wire.definition()).json["chunking_settings"] == DEFAULT_CHUNKING


def test_row_069_empty_chunking_settings_are_the_default(wire):
    assert put_chunked(wire, {}).json["chunking_settings"] == DEFAULT_CHUNKING


def test_row_070_what_is_not_chunked_never_shows_chunking_settings(wire):
    body = wire.definition("completion", more={"chunking_settings": DEFAULT_CHUNKING})

    reply = put(wire, body, task_type="completion")

    assert "chunking_settings" not in reply.json


def test_row_071_chunking_needs_a_strategy(wire):
    reply = put_chunked(wire, {"max_chunk_size": 50})

    text = "Can't generate Chunker without ChunkingStrategy provided"
    wire.refused(400, "illegal_argument_exception", text, reply)


def test_row_072_an_unknown_strategy_is_refused(wire):
    reply = put_chunked(wire, {"strategy": "paragraph"})

    wire.refused(400, "illegal_argument_exception", "Invalid chunkingStrategy paragraph", reply)


def test_row_073_sentences_need_room(wire):
    reply = put_chunked(wire, {"strategy": "sentence", "max_chunk_size": 19})

    text = "Invalid value [19.0]. [max_chunk_size] must be a greater than or equal to [20.0]"
    wire.refused(400, "validation_exception", text, reply)


def test_row_074_sentences_overlap_by_one_at_most(wire):
    chunking = {"strategy": "sentence", "max_chunk_size": 50, "sentence_overlap": 2}

    reply = put_chunked(wire, chunking)

    wire.refused(400, "validation_exception", "sentence_overlap[2] must be either 0 or 1", reply)


def test_row_075_sentences_have_no_word_overlap(wire):
    chunking = {"strategy": "sentence", "max_chunk_size": 50, "overlap": 5}

    reply = put_chunked(wire, chunking)

    text = "Sentence based chunking settings can not have the following settings: [overlap]"
    wire.refused(400, "validation_exception", text, reply)


def test_row_076_words_need_room(wire):
    reply = put_chunked(wire, {"strategy": "word", "max_chunk_size": 9, "overlap": 1})

    text = "[max_chunk_size] must be a greater than or equal to [10.0]"
    wire.refused(400, "validation_exception", text, reply)


def test_row_077_words_overlap_by_half_at_most(wire):
    reply = put_chunked(wire, {"strategy": "word", "max_chunk_size": 20, "overlap": 11})

    text = "Invalid value [11.0]. [overlap] must be a less than or equal to [10.0]"
    wire.refused(400, "validation_exception", text, reply)


def test_row_078_words_need_an_overlap(wire):
    reply = put_chunked(wire, {"strategy": "word", "max_chunk_size": 20})

    text = "[chunking_settings] does not contain the required setting [overlap]"
    wire.refused(400, "validation_exception", text, reply)


def test_row_079_a_group_of_separators_is_written_out(wire):
    chunking = {"strategy": "recursive", "max_chunk_size": 50, "separator_group": "plaintext"}

    stored = put_chunked(wire, chunking).json["chunking_settings"]

    assert stored == {
        "strategy": "recursive",
        "max_chunk_size": 50,
        "separators": [r"(?<!\n)\n\n(?!\n)", r"(?<!\n)\n(?!\n)"],
    }


def test_row_080_separators_are_given_in_one_way(wire):
    chunking = {
        "strategy": "recursive",
        "max_chunk_size": 50,
        "separator_group": "plaintext",
        "separators": ["\n"],
    }

    reply = put_chunked(wire, chunking)

    text = "Recursive chunking settings can not have both separators and separator_set"
    wire.refused(400, "validation_exception", text, reply)


def test_row_081_an_empty_list_of_separators_is_refused(wire):
    chunking = {"strategy": "recursive", "max_chunk_size": 50, "separators": []}

    reply = put_chunked(wire, chunking)

    text = "Recursive chunking settings can not have an empty list of separators"
    wire.refused(400, "validation_exception", text, reply)


def test_row_082_chunking_can_be_switched_off(wire):
    assert put_chunked(wire, {"strategy": "none"}).json["chunking_settings"] == {"strategy": "none"}


def test_row_083_no_chunking_has_no_size(wire):
    reply = put_chunked(wire, {"strategy": "none", "max_chunk_size": 50})

    text = "Sentence based chunking settings can not have the following settings: [max_chunk_size]"
    wire.refused(400, "validation_exception", text, reply)


def test_a_dry_run_shows_what_would_be_stored_and_sent_and_stores_nothing(wire):
    inference_id = new_id()
    body = wire.definition(api_key="sk-marker-dry")

    reply = wire.put(f"/_inference/text_embedding/{inference_id}?dry_run=true", body)

    assert reply.status == 200
    assert reply.json["endpoint"]["inference_id"] == inference_id
    assert reply.json["dimensions"] == 8
    assert "marker" not in json.dumps(reply.json)
    assert wire.get(f"/_inference/{inference_id}").status == 404
