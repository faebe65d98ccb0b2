"""What a PUT may say: rows 26 to 57 of the checklist, on services made for the purpose."""

from __future__ import annotations

import pytest

from inferry.errors import BadRequest, IllegalArgument, InferenceError, InvalidSettings
from tests.core.registry_parts import hosted


async def refused(house, body, kind: type[InferenceError] = BadRequest, **more) -> str:
    with pytest.raises(kind) as failure:
        await house.put("a", body, **more)
    assert type(failure.value) is kind
    assert house.store.rows == {}
    assert house.probe.asked == []
    return failure.value.message


async def test_row_25_a_new_endpoint_is_answered_without_a_wrapper(house) -> None:
    answer = await house.put("a", hosted(task_settings={"user": "x"}))

    assert answer == {
        "inference_id": "a",
        "task_type": "completion",
        "service": "hosted",
        "service_settings": {"model_id": "m", "rate_limit": {"requests_per_minute": 500}},
        "task_settings": {"user": "x"},
    }


@pytest.mark.parametrize("task_type", [None, "any", "ANY", " rerank ", "RERANK"])
async def test_rows_26_28_the_task_type_stands_in_the_body_too(house, task_type) -> None:
    answer = await house.put("a", {**hosted(), "task_type": "Rerank"}, task_type=task_type)

    assert answer["task_type"] == "rerank"


async def test_row_27_a_task_type_that_stands_nowhere_is_missed(house) -> None:
    message = await refused(house, hosted(), task_type=None)

    assert message == "model is missing required setting [task_type]"


async def test_row_29_two_task_types_that_differ_are_refused(house) -> None:
    body = {**hosted(), "task_type": "rerank"}

    assert await refused(house, body, task_type="completion") == (
        "Cannot resolve conflicting task_type parameter in the request URL [completion] "
        "and the request body [rerank]"
    )


async def test_row_30_any_is_no_task_type_of_a_body(house) -> None:
    message = await refused(house, {**hosted(), "task_type": "any"}, task_type=None)

    assert message == "task_type [any] is not valid type for inference"


@pytest.mark.parametrize("where", ["url", "body"])
async def test_row_31_an_unknown_task_type_is_refused(house, where: str) -> None:
    body = {**hosted(), "task_type": "foo"} if where == "body" else hosted()

    message = await refused(house, body, task_type="foo" if where == "url" else None)

    assert message == "Unknown task_type [foo]"


async def test_row_41_the_service_is_named(house) -> None:
    message = await refused(house, {"service_settings": {}})

    assert message == "Inference endpoint configuration is missing the [service] setting"


async def test_row_42_the_service_is_known(house) -> None:
    assert await refused(house, {**hosted(), "service": "foo"}) == "Unknown service [foo]"


async def test_row_43_the_service_offers_the_task(house) -> None:
    message = await refused(house, hosted(), task_type="embedding")

    assert message == "The [hosted] service does not support task type [embedding]"


@pytest.mark.parametrize("body", [{"service": "hosted"}, {**hosted(), "service_settings": None}])
async def test_row_44_service_settings_are_required(house, body) -> None:
    assert await refused(house, body) == "Missing required field [service_settings]"


async def test_row_46_all_missing_settings_are_one_error(house) -> None:
    body = {"service": "hosted", "service_settings": {}}

    assert await refused(house, body, InvalidSettings) == (
        "Validation Failed: 1: [service_settings] does not contain the required setting [api_key];"
        "2: [service_settings] does not contain the required setting [model_id];"
    )


async def test_problems_of_several_settings_stand_before_those_of_one(house) -> None:
    body = {"service": "hosted", "service_settings": {"second_key": "k", "model_id": "m"}}

    assert await refused(house, body, InvalidSettings) == (
        "Validation Failed: 1: [service_settings] does not contain the required setting [url];"
        "2: [service_settings] does not contain the required setting [api_key];"
    )


@pytest.mark.parametrize(
    ("name", "value", "shown", "java_type"),
    [
        ("service_settings", [1], "[1]", "Map"),
        ("service_settings", '{"api_key":"marker"}', "***", "Map"),
        ("task_settings", 5, "5", "Map"),
        ("service", {"api_key": "marker"}, "{api_key=***}", "String"),
        ("task_type", 5, "5", "String"),
    ],
)
async def test_members_of_another_type_are_refused(house, name, value, shown, java_type) -> None:
    message = await refused(house, {**hosted(), name: value}, InvalidSettings)

    assert message == (
        f"Validation Failed: 1: field [{name}] is not of the expected type. The value [{shown}] "
        f"cannot be converted to a [{java_type}];"
    )


async def test_row_51_an_unknown_member_is_refused(house) -> None:
    assert await refused(house, {**hosted(), "foo": {"a": [1, None]}}) == (
        "Configuration contains settings [{foo={a=[1, null]}}] unknown to the [hosted] service"
    )


async def test_row_52_an_unknown_service_setting_is_refused(house) -> None:
    assert await refused(house, hosted(foo=1, bar="x")) == (
        "Configuration contains settings [{foo=1, bar=x}] unknown to the [hosted] service"
    )


async def test_row_53_an_unknown_task_setting_is_refused(house) -> None:
    assert await refused(house, hosted(task_settings={"foo": True})) == (
        "Configuration contains settings [{foo=true}] unknown to the [hosted] service"
    )


async def test_row_54_the_value_of_an_unknown_secret_is_masked(house) -> None:
    message = await refused(house, hosted(api_token="marker", note="sk-marker"))

    assert message == (
        "Configuration contains settings [{api_token=***, note=***}] unknown to the [hosted] "
        "service"
    )


@pytest.mark.parametrize("number", [0, -1])
async def test_row_55_a_rate_limit_is_positive(house, number: int) -> None:
    body = hosted(rate_limit={"requests_per_minute": number})

    assert await refused(house, body, InvalidSettings) == (
        f"Validation Failed: 1: [rate_limit] Invalid value [{number}]. [requests_per_minute] must "
        "be a positive long;"
    )


async def test_row_56_an_unknown_key_of_the_rate_limit_is_refused(house) -> None:
    message = await refused(house, hosted(rate_limit={"foo": 1}), InvalidSettings)

    assert "unknown settings [{foo=1}]" in message


@pytest.mark.parametrize(("task_type", "number"), [("completion", 500), ("text_embedding", 3000)])
async def test_row_57_a_rate_limit_that_is_not_given_is_the_services(
    house, task_type, number
) -> None:
    answer = await house.put("a", task_type=task_type)

    assert answer["service_settings"]["rate_limit"] == {"requests_per_minute": number}


async def test_a_rate_limit_that_is_given_is_kept(house) -> None:
    answer = await house.put("a", hosted(rate_limit={"requests_per_minute": 7}))

    assert answer["service_settings"]["rate_limit"] == {"requests_per_minute": 7}


async def test_settings_are_answered_in_the_order_of_their_declaration(house) -> None:
    body = hosted(rate_limit={"requests_per_minute": 7}, similarity="cosine", url="https://x.test")

    answer = await house.put("a", body, task_type="text_embedding")

    assert list(answer["service_settings"]) == [
        "model_id",
        "url",
        "dimensions",
        "similarity",
        "rate_limit",
    ]


@pytest.mark.parametrize("chunking", [None, {}])
async def test_rows_68_69_embedding_endpoints_are_chunked_by_sentence(house, chunking) -> None:
    body = {**hosted(), "chunking_settings": chunking}

    answer = await house.put("a", body, task_type="sparse_embedding")

    assert answer["chunking_settings"] == {
        "strategy": "sentence",
        "max_chunk_size": 250,
        "sentence_overlap": 1,
    }


async def test_row_70_chunking_settings_of_other_tasks_are_refused(house) -> None:
    body = {**hosted(), "chunking_settings": {"strategy": "none"}}

    assert await refused(house, body) == (
        "Configuration contains settings [{chunking_settings={strategy=none}}] unknown to the "
        "[hosted] service"
    )


async def test_chunking_settings_are_checked(house) -> None:
    body = {**hosted(), "chunking_settings": {"strategy": "foo"}}

    message = await refused(house, body, IllegalArgument, task_type="sparse_embedding")

    assert message == "Invalid chunkingStrategy foo"


async def test_a_local_model_is_named(house) -> None:
    body = {"service": "elasticsearch", "service_settings": {"num_threads": 1}}

    message = await refused(house, body, IllegalArgument, task_type="rerank")

    assert message == "Error parsing service settings, model_id must be provided"


@pytest.mark.parametrize(
    ("body", "task_type", "text"),
    [
        ({"task_type": "foo"}, None, "Unknown task_type"),
        ({"service": "foo"}, None, "task_type"),
        ({"task_type": "rerank", "service": "foo"}, None, "Unknown service"),
        ({"service": "hosted", "x": 1}, "rerank", "service_settings"),
        ({"service": "hosted", "service_settings": {"x": 1}, "y": 1}, "rerank", "model_id"),
    ],
)
async def test_checks_have_the_order_of_the_wire(house, body, task_type, text) -> None:
    with pytest.raises(BadRequest, match=text):
        await house.put("a", body, task_type=task_type)
