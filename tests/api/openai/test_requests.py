"""Bodies of OpenAI's calls become what the middle understands, or are refused by field."""

from typing import Any

import pytest

from inferry.api.openai.requests import read_chat, read_embeddings, read_members
from inferry.domain import InputType, Message, Reasoning, Tool, ToolChoice
from inferry.errors import InvalidRequest, MissingBody, UnreadableBody

HELLO = {"role": "user", "content": "hello"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def embeddings(**members: object):
    return read_embeddings(given({"model": "m", "input": "a text"} | members))


def chat(**members: object):
    return read_chat(given({"model": "m", "messages": [HELLO]} | members))


def given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


# --- embeddings --------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "inputs"), [("one", ("one",)), (["a", "b"], ("a", "b"))])
def test_input_is_one_text_or_several(given, inputs):
    call = embeddings(input=given)

    assert call.model == "m"
    assert call.ask.inputs == inputs
    assert call.ask.dialect == "openai"


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_option_that_switches_them_off(ids):
    with pytest.raises(InvalidRequest, match="check_embedding_ctx_length=False") as caught:
        embeddings(input=ids)

    assert caught.value.param == "input"


@pytest.mark.parametrize("value", [[], ["a", 1], 7, {"text": "a"}])
def test_input_of_another_form_is_refused(value):
    with pytest.raises(InvalidRequest) as caught:
        embeddings(input=value)

    assert caught.value.param == "input"


@pytest.mark.parametrize("member", ["input", "model"])
def test_a_missing_member_is_named(member):
    with pytest.raises(InvalidRequest, match=member) as caught:
        embeddings(**{member: None})

    assert caught.value.param == member


@pytest.mark.parametrize(("form", "is_base64"), [("float", False), ("base64", True), (None, False)])
def test_vectors_are_numbers_unless_base64_is_asked_for(form, is_base64):
    assert embeddings(encoding_format=form).is_base64 is is_base64


def test_an_encoding_that_nobody_knows_is_refused():
    with pytest.raises(InvalidRequest) as caught:
        embeddings(encoding_format="int8")

    assert caught.value.param == "encoding_format"


def test_parameters_outside_the_schema_go_on_and_null_ones_were_not_sent():
    call = embeddings(user="ada", truncate="END", dimensions=None)

    assert call.ask.extra == {"user": "ada", "truncate": "END"}
    assert call.dimensions is None


def test_the_input_type_of_the_inference_api_may_be_given():
    assert embeddings(input_type="search").ask.input_type is InputType.SEARCH
    with pytest.raises(InvalidRequest, match=r"Unrecognized input_type \[internal_search\]"):
        embeddings(input_type="internal_search")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MissingBody),
        (b"{", UnreadableBody),
        (b"[]", UnreadableBody),
        (b"\xff", UnreadableBody),
    ],
)
async def test_what_is_no_json_object_is_refused(make_request, body, error):
    with pytest.raises(error):
        await read_members(make_request(body=body))


async def test_members_that_are_null_were_not_sent(make_request):
    assert await read_members(make_request(body=b'{"model": "m", "user": null}')) == {"model": "m"}


# --- chat --------------------------------------------------------------------------------------


def test_a_chat_is_read_into_the_unified_form():
    call = chat(
        max_tokens=5,
        stop="END",
        temperature=0,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        reasoning_effort="low",
    )

    assert call.chat.messages == [Message("user", "hello")]
    assert call.chat.model is None
    assert call.chat.max_completion_tokens == 5
    assert call.chat.stop == ["END"]
    assert call.chat.temperature == 0
    assert isinstance(call.chat.tools[0], Tool)
    assert isinstance(call.chat.tool_choice, ToolChoice)
    assert call.chat.reasoning == Reasoning(effort="low")
    assert call.extra == {}
    assert (call.is_stream, call.includes_usage) == (False, False)


def test_what_the_unified_form_does_not_know_goes_on_unchanged():
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}

    call = chat(response_format=schema, seed=7, parallel_tool_calls=False, n=2, user="ada")

    assert call.extra == {
        "response_format": schema,
        "seed": 7,
        "parallel_tool_calls": False,
        "n": 2,
        "user": "ada",
    }


def test_messages_with_members_that_the_unified_form_lacks_go_on_as_they_are():
    messages = [HELLO | {"name": "ada"}]

    assert chat(messages=messages).extra == {"messages": messages}


def test_an_answer_sent_back_with_its_empty_members_is_no_reason_to_pass_it_on():
    answer: dict[str, object] = {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "annotations": [],
        "function_call": None,
        "tool_calls": None,
    }

    call = chat(messages=[HELLO, answer, HELLO])

    assert call.extra == {}
    assert call.chat.messages[1] == Message("assistant", "hi")


def test_tools_of_a_kind_that_the_unified_form_lacks_go_on_as_they_are():
    tools = [{"type": "custom", "custom": {"name": "grep"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}

    call = chat(tools=tools, tool_choice=choice)

    assert (call.chat.tools, call.chat.tool_choice) == (None, None)
    assert call.extra == {"tools": tools, "tool_choice": choice}


def test_a_stream_may_ask_for_its_usage():
    call = chat(stream=True, stream_options={"include_usage": True})

    assert (call.is_stream, call.includes_usage) == (True, True)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "no role"}]}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"logprobs": True}, "logprobs"),
        ({"functions": []}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_a_member_that_cannot_be_served_is_refused_by_name(members, param):
    with pytest.raises(InvalidRequest) as caught:
        chat(**members)

    assert caught.value.param == param
    assert param in caught.value.message


def test_what_changes_nothing_is_not_refused():
    assert chat(logprobs=False, modalities=["text"]).extra == {
        "logprobs": False,
        "modalities": ["text"],
    }


@pytest.mark.parametrize("depth", [201, 3000])
async def test_a_body_that_is_nested_too_deep_is_refused_as_unreadable(make_request, depth):
    with pytest.raises(UnreadableBody, match=r"\[1:201\] Document nesting depth exceeds"):
        await read_members(make_request(body=b"[" * depth))
