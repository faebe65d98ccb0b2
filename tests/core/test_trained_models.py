"""Uploaded models: what the writer takes, refuses and removes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferry.commands import (
    DeleteTrainedModel,
    PutDefinitionPart,
    PutModelAlias,
    PutTrainedModel,
    PutVocabulary,
    StartModel,
)
from inferry.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    IllegalArgument,
    InferenceError,
    InvalidRequest,
    NotFound,
    StoreFailure,
    UnreadableBody,
)
from inferry.records import DeploymentSpec, TrainedModelRecord
from tests.core.registry_parts import House, local, open_house


def body(name: str = "text_embedding", **config: Any) -> dict[str, Any]:
    return {"model_type": "pytorch", "inference_config": {name: config}}


async def create(house: House, model_id: str = "m", **more: Any) -> TrainedModelRecord:
    return await house.registry.put_trained_model(PutTrainedModel(model_id, body() | more))


async def put_part(
    house: House, content: bytes, part: int = 0, *, of: int = 1, length: int = 3, to: str = "m"
) -> None:
    staged = house.files.stage(content)
    await house.registry.put_definition_part(PutDefinitionPart(to, part, of, length, staged))


async def put_vocabulary(house: House, *, words: int = 2, **more: int) -> None:
    staged = house.files.stage(b"{}")
    command = PutVocabulary("m", words, more.get("merges", 0), more.get("scores", 0), staged)
    await house.registry.put_vocabulary(command)


def stored(house: House, model_id: str = "m") -> TrainedModelRecord:
    record = house.store.rows["trained_model", model_id]
    assert isinstance(record, TrainedModelRecord)
    return record


async def test_a_new_model_is_stored_with_its_defaults():
    async with open_house() as house:
        record = await create(house)

    assert record == stored(house)
    assert record.config["input"] == {"field_names": ["text_field"]}
    assert record.config["inference_config"] == {
        "text_embedding": {
            "tokenization": {
                "bert": {
                    "do_lower_case": False,
                    "with_special_tokens": True,
                    "max_sequence_length": 512,
                    "truncate": "first",
                    "span": -1,
                }
            },
            "results_field": "predicted_value",
        }
    }


async def test_what_the_caller_gives_replaces_the_defaults():
    async with open_house() as house:
        tokenization = {"roberta": {"truncate": "none", "span": 12, "add_prefix_space": True}}
        config = {"text_similarity": {"tokenization": tokenization, "results_field": "score"}}
        record = await create(house, inference_config=config)

    found = record.config["inference_config"]["text_similarity"]
    assert found["results_field"] == "score"
    assert found["tokenization"]["roberta"]["span"] == 12
    assert found["tokenization"]["roberta"]["add_prefix_space"] is True


async def test_a_definition_is_whole_with_its_last_part_in_any_order():
    async with open_house() as house:
        await create(house)
        await put_part(house, b"c", 2, of=3)
        await put_part(house, b"a", 0, of=3)
        assert stored(house).definition is None
        await put_part(house, b"b", 1, of=3)

    assert house.files.models["m"]["model"] == b"abc"
    assert house.files.models["m"]["parts"] == {}
    definition = stored(house).definition
    assert definition is not None
    assert definition.size_bytes == 3
    assert not stored(house).is_whole


@pytest.mark.parametrize("rival", ["endpoint", "deployment", "name"])
@pytest.mark.parametrize("first", [0, 1])
async def test_of_two_who_want_an_id_at_the_same_time_one_gets_it(rival, first):
    async with open_house() as house:
        await create(house, "other")
        rivals = {
            "endpoint": lambda: house.put("m"),
            "deployment": lambda: house.registry.start_model(StartModel("x", deployment_id="m")),
            "name": lambda: house.registry.put_model_alias(PutModelAlias("other", "m")),
        }
        calls = [rivals[rival](), create(house)]

        found = await asyncio.gather(calls[first], calls[1 - first], return_exceptions=True)

    assert [isinstance(one, BadRequest) for one in found] in ([False, True], [True, False])


@pytest.mark.parametrize("vocabulary_first", [True, False])
async def test_a_model_is_whole_with_definition_and_vocabulary_in_any_order(vocabulary_first):
    async with open_house() as house:
        await create(house)
        steps = [put_vocabulary(house), put_part(house, b"abc")]
        for step in steps if vocabulary_first else reversed(steps):
            await step

    assert stored(house).is_whole
    assert house.files.received == {}


async def test_the_same_part_may_come_twice_and_another_may_not():
    async with open_house() as house:
        await create(house)
        await put_part(house, b"a", 0, of=3)
        await put_part(house, b"a", 0, of=3)
        with pytest.raises(AlreadyExists):
            await put_part(house, b"x", 0, of=3)

    assert house.files.received == {}


async def test_the_last_part_of_another_length_than_announced_is_refused():
    async with open_house() as house:
        await create(house)
        with pytest.raises(InvalidRequest, match=r"\[2\] bytes together"):
            await put_part(house, b"ab", length=3)

    assert stored(house).definition is None
    assert house.files.received == {}


async def test_a_first_part_that_is_refused_binds_no_other_to_what_it_announced():
    async with open_house() as house:
        await create(house)
        with pytest.raises(InvalidRequest):
            await put_part(house, b"abc", length=4)
        assert stored(house).announced is None
        await put_part(house, b"abc")

    assert stored(house).definition is not None


async def test_what_was_announced_with_a_part_that_a_crash_cut_off_binds_no_other():
    async with open_house() as house:
        await create(house)
        house.files.fails = RuntimeError("the process was killed")
        with pytest.raises(RuntimeError):
            await put_part(house, b"a", 0, of=2, length=2)
        house.files.fails = None
        await put_part(house, b"abc")

    assert stored(house).definition is not None


async def test_a_first_part_that_was_kept_but_never_noted_may_be_another_the_next_time():
    async with open_house() as house:
        await create(house)
        house.store.fails = StoreFailure("the process was killed")
        with pytest.raises(StoreFailure):
            await put_part(house, b"x", 0, of=3)
        house.store.fails = None
        await put_part(house, b"ab", 0, of=2)
        await put_part(house, b"c", 1, of=2)

    assert house.files.models["m"]["model"] == b"abc"


@pytest.mark.parametrize(
    ("part", "of", "length", "problem"),
    [
        (-1, 1, 3, "[part] must be greater or equal to 0"),
        (1, 1, 3, "[part] must be less than total_parts"),
        (0, 0, 3, "[total_parts] must be greater than 0"),
        (0, 10_001, 3, "[total_parts] must be less than or equal to 10000"),
        (0, 1, 0, "[total_definition_length] must be greater than 0"),
    ],
)
async def test_numbers_of_a_part_that_cannot_be_are_refused(part, of, length, problem):
    async with open_house() as house:
        await create(house)
        with pytest.raises(InvalidRequest) as refusal:
            await put_part(house, b"a", part, of=of, length=length)

    assert problem in str(refusal.value)
    assert house.files.received == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "[definition] must not be empty"),
        (
            b"abcd",
            "[definition] of part [0] has [4] bytes, which is more than"
            " [total_definition_length] of [3]",
        ),
    ],
)
async def test_a_part_that_cannot_be_one_is_refused(content, problem):
    async with open_house() as house:
        await create(house)
        with pytest.raises(InvalidRequest) as refusal:
            await put_part(house, content)
        await put_part(house, b"abc")

    assert problem in str(refusal.value)
    assert stored(house).definition is not None


async def test_parts_must_agree_on_the_whole():
    async with open_house() as house:
        await create(house)
        await put_part(house, b"a", 0, of=3)
        with pytest.raises(InvalidRequest) as refusal:
            await put_part(house, b"b", 1, of=3, length=4)

    assert str(refusal.value) == (
        "[total_definition_length] must be the same in all model definition parts"
    )


async def test_a_part_that_cannot_be_kept_leaves_the_model_as_it_was():
    async with open_house() as house:
        await create(house)
        house.files.fails = StoreFailure("no space left on device")
        with pytest.raises(StoreFailure):
            await put_part(house, b"abc")
        house.files.fails = None
        await put_part(house, b"abc")

    assert stored(house).definition is not None
    assert house.files.received == {}


async def test_a_model_that_cannot_be_stored_leaves_no_files():
    async with open_house() as house:
        house.store.fails = StoreFailure("the store failed")
        with pytest.raises(StoreFailure):
            await create(house)

    assert house.files.models == {}


@pytest.mark.parametrize(
    ("block", "counts", "problem"),
    [
        ("bert", {"words": 0}, "[vocabulary] must not be empty"),
        ("xlm_roberta", {"scores": 3}, "[scores] must have same length as [vocabulary]"),
        ("roberta", {}, "requires [merges] to be provided"),
        ("xlm_roberta", {}, "requires [scores] to be provided"),
        ("deberta_v2", {}, "requires [scores] to be provided"),
    ],
)
async def test_a_vocabulary_that_makes_no_tokenizer_is_refused(block, counts, problem):
    async with open_house() as house:
        await create(house, **body(tokenization={block: {}}))
        with pytest.raises(InvalidRequest) as refusal:
            await put_vocabulary(house, **counts)

    assert problem in str(refusal.value)
    assert house.files.received == {}


async def test_a_second_vocabulary_is_refused():
    async with open_house() as house:
        await create(house)
        await put_vocabulary(house)
        with pytest.raises(AlreadyExists):
            await put_vocabulary(house)


@pytest.mark.parametrize("what", ["part", "vocabulary"])
async def test_what_belongs_to_no_model_is_not_kept(what):
    async with open_house() as house:
        with pytest.raises(NotFound, match=r"No known trained model with model_id \[m\]"):
            await (put_part(house, b"abc") if what == "part" else put_vocabulary(house))

    assert house.files.received == {}


async def test_an_id_is_taken_once():
    async with open_house() as house:
        await create(house)
        with pytest.raises(AlreadyExists) as refusal:
            await create(house)

    assert str(refusal.value) == "Trained machine learning model [m] already exists"


async def test_models_deployments_and_endpoints_share_their_ids():
    async with open_house() as house:
        await house.put("one", local(), task_type="text_embedding")
        with pytest.raises(BadRequest, match="same as a current model deployment"):
            await create(house, "one")
        await create(house, "two")
        with pytest.raises(BadRequest, match="matches existing trained model ID"):
            await house.put("two")
        await house.put("three")
        with pytest.raises(BadRequest, match="matches existing inference endpoint ID"):
            await create(house, "three")


@pytest.mark.parametrize("model_id", ["Upper", "-a", "a-", "a/b", "..", "", "ä", "a" * 65])
async def test_an_id_outside_the_pattern_is_refused(model_id):
    async with open_house() as house:
        with pytest.raises(InvalidRequest, match="Invalid model_id"):
            await create(house, model_id)

    assert house.files.models == {}


@pytest.mark.parametrize(
    ("given", "error", "problem"),
    [
        ({"model_type": "tree_ensemble"}, BadRequest, r"must be \[pytorch\]"),
        ({"model_type": None}, IllegalArgument, r"\[model_type\]"),
        ({"definition": {}}, BadRequest, r"\[definition\] is not taken for .* \[definition/0\]"),
        ({"inference_config": None}, InvalidRequest, r"\[inference_config\] must be set"),
        ({"inference_config": {}}, UnreadableBody, "exactly one entry"),
        (body(vocabulary={}), BadRequest, r"illegal setting \[vocabulary\]"),
        (body(embedding_size=0), IllegalArgument, "embedding_size"),
        (body("text_expansion", expansion_type="x"), IllegalArgument, "expansion_type"),
        (body("fill_mask", mask_token="<mask>"), IllegalArgument, "mask token"),
        (body("text_classification", classification_labels=["a"]), IllegalArgument, "at least 2"),
        (body("zero_shot_classification"), IllegalArgument, "entailment"),
        (body("question_answering", max_answer_length=0), IllegalArgument, "max_answer_length"),
        (body(tokenization={"bert": {"span": 3}}), IllegalArgument, "must not be provided when"),
        (
            body(tokenization={"bert": {"truncate": "none", "span": 513}}),
            IllegalArgument,
            "must not be greater than",
        ),
        (body(tokenization={"bert_ja": {}}), IllegalArgument, "dictionary of Japanese words"),
        (body(tokenization={"bert": {"truncate": "last"}}), IllegalArgument, "truncate"),
        (body(tokenization={"bert": {"max_sequence_length": 0}}), IllegalArgument, "positive"),
        (
            body(tokenization={"xlm_roberta": {"do_lower_case": True}}),
            IllegalArgument,
            "do_lower_case",
        ),
        ({"tags": ["m"]}, InvalidRequest, "must not match existing model_ids"),
    ],
)
async def test_a_configuration_that_cannot_be_is_refused(given, error, problem):
    async with open_house() as house:
        with pytest.raises(error, match=problem):
            await create(house, **given)

    assert house.files.models == {}


async def test_a_model_is_deleted_with_its_files():
    async with open_house() as house:
        await create(house)
        await put_part(house, b"a", 0, of=3)
        await house.registry.delete_trained_model(DeleteTrainedModel("m"))

    assert house.files.models == {}
    assert house.store.rows == {}


async def test_a_deployed_model_is_deleted_by_force_only():
    async with open_house() as house:
        await create(house)
        await house.deployments.start(DeploymentSpec("d", "m", 1, 1))
        with pytest.raises(Conflict, match=r"\[m\] as it is currently deployed"):
            await house.registry.delete_trained_model(DeleteTrainedModel("m"))
        await house.registry.delete_trained_model(DeleteTrainedModel("m", force=True))

    assert house.deployments.running == {}
    assert house.store.rows == {}


async def test_a_model_that_an_endpoint_names_is_deleted_by_force_only():
    async with open_house(skip_validation=True) as house:
        await create(house)
        await house.put("a", local("m"), task_type="text_embedding")
        with pytest.raises(Conflict, match=r"referenced by inference endpoints \[a\]"):
            await house.registry.delete_trained_model(DeleteTrainedModel("m"))
        await house.registry.delete_trained_model(DeleteTrainedModel("m", force=True))

    assert ("trained_model", "m") not in house.store.rows


async def test_models_outlive_the_registry():
    async with open_house() as house:
        await create(house)
        records = await house.store.load()
    async with open_house() as other:
        other.registry.load(records)
        with pytest.raises(InferenceError):
            await create(other)

    assert list(other.registry.trained_models()) == ["m"]
