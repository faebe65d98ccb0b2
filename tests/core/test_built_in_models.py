"""Built-in models in `_ml/trained_models`: when they are listed, whole, refused and gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferry.commands import DeleteTrainedModel, PutDefinitionPart, PutTrainedModel, PutVocabulary
from inferry.errors import (
    AlreadyExists,
    BadRequest,
    InferenceError,
    InvalidRequest,
    NotFound,
    StillStarting,
    UnreadableReply,
    UpstreamUnreachable,
)
from inferry.records import StoredFile, TrainedModelRecord
from tests.core.registry_parts import House, let_others_come_in, local, open_house

ELSER = ".elser_model_2"


async def put(house: House, model_id: str = ELSER, **more: Any) -> TrainedModelRecord:
    body = more.pop("body", {})
    return await house.registry.put_trained_model(PutTrainedModel(model_id, body, **more))


def listed(house: House, model_id: str = ELSER) -> TrainedModelRecord:
    record = house.store.rows["trained_model", model_id]
    assert isinstance(record, TrainedModelRecord)
    return record


async def test_a_model_is_listed_once_it_is_known_and_whole_once_it_is_here():
    async with open_house() as house:
        house.supply.gate = asyncio.Event()

        answer = await put(house, body={"input": {"field_names": ["body"]}}, actor="ann")

        assert answer == listed(house)
        assert not answer.is_whole
        assert answer.created_by == "ann"
        assert answer.config["input"] == {"field_names": ["body"]}
        assert answer.config["model_package"]["packaged_model_id"] == "elser_model_2"
        tokenization = answer.config["inference_config"]["text_expansion"]["tokenization"]
        assert tokenization["bert"]["max_sequence_length"] == 512
        house.supply.gate.set()
        await let_others_come_in()
        assert listed(house).is_whole
        assert listed(house).definition == StoredFile("ab", 3)


async def test_who_waits_for_completion_gets_the_whole_model():
    async with open_house() as house:
        assert (await put(house, wait_for_completion=True)).is_whole


async def test_a_model_that_is_here_or_comes_exists_already():
    async with open_house() as house:
        house.supply.gate = asyncio.Event()
        await put(house)

        with pytest.raises(AlreadyExists, match=r"\[\.elser_model_2\] already exists"):
            await put(house)

        house.supply.gate.set()
        await let_others_come_in()
        with pytest.raises(AlreadyExists):
            await put(house, wait_for_completion=True)
        assert house.supply.asked == [ELSER]


@pytest.mark.parametrize("waits", [True, False])
async def test_who_waits_too_long_is_told_how_far_it_is_and_it_goes_on(waits):
    async with open_house() as house:
        house.supply.known = asyncio.Event()
        house.supply.told[ELSER] = "waiting for 8 other downloads"

        with pytest.raises(StillStarting, match=r"after \[0s\] .*: waiting for 8 other downloads"):
            await put(house, wait_for_completion=waits, timeout_s=0.0, timeout="0s")

        house.supply.known.set()
        await let_others_come_in()
        assert listed(house).is_whole


async def test_what_waits_for_its_turn_can_be_deleted():
    async with open_house() as house:
        house.supply.known = asyncio.Event()
        with pytest.raises(StillStarting):
            await put(house, timeout_s=0.0, timeout="0s")

        await house.registry.delete_trained_model(DeleteTrainedModel(ELSER))

        await let_others_come_in()
        assert house.supply.removed == [ELSER]
        assert not house.store.rows


@pytest.mark.parametrize("waits", [True, False])
async def test_what_fails_before_it_is_known_is_not_listed(waits):
    async with open_house() as house:
        house.supply.fails = BadRequest("Failed to find package [elser_model_2]")

        with pytest.raises(BadRequest, match="Failed to find package"):
            await put(house, wait_for_completion=waits)

        assert not house.store.rows


async def test_what_breaks_later_stays_listed_and_goes_on_with_the_next_put():
    async with open_house() as house:
        house.supply.fails_late = UpstreamUnreachable("it broke off")

        with pytest.raises(UpstreamUnreachable):
            await put(house, wait_for_completion=True)

        assert not listed(house).is_whole
        house.supply.fails_late = None
        assert (await put(house, wait_for_completion=True)).is_whole


@pytest.mark.parametrize(
    ("model_id", "body", "kind", "words"),
    [
        (ELSER, {"inference_config": {}}, BadRequest, r"illegal to set \[inference_config\]"),
        (ELSER, {"model_type": "pytorch"}, BadRequest, r"illegal to set \[model_type\]"),
        ("..", {}, InvalidRequest, "Invalid model_id"),
        (".A", {}, InvalidRequest, "Invalid model_id"),
        (".a/../b", {}, InvalidRequest, "Invalid model_id"),
    ],
)
async def test_what_nobody_may_ask_of_a_built_in_model_is_refused(model_id, body, kind, words):
    async with open_house() as house:
        with pytest.raises(kind, match=words):
            await put(house, model_id, body=body)

        assert house.supply.asked == []


async def test_a_built_in_model_takes_no_parts():
    async with open_house() as house:
        house.supply.gate = asyncio.Event()
        await put(house)
        for command in (
            PutDefinitionPart(ELSER, 0, 1, 3, house.files.stage(b"abc")),
            PutVocabulary(ELSER, 1, 0, 0, house.files.stage(b"{}")),
        ):
            with pytest.raises(BadRequest, match="is built in"):
                await house.registry.handlers()[type(command)](command)

        assert not house.files.received
        house.supply.gate.set()


async def test_a_deleted_model_is_gone_with_its_files_even_while_it_comes():
    async with open_house() as house:
        house.supply.gate = asyncio.Event()
        await put(house)

        await house.registry.delete_trained_model(DeleteTrainedModel(ELSER))

        assert not house.store.rows
        assert house.supply.removed == [ELSER]
        house.supply.gate.set()
        await let_others_come_in()
        assert not house.store.rows


async def test_a_model_that_is_deleted_while_it_goes_on_is_not_listed_again():
    async with open_house() as house:
        house.supply.fails_late = UpstreamUnreachable("it broke off")
        await put(house)
        await let_others_come_in()
        house.supply.fails_late, house.supply.known = None, asyncio.Event()
        house.registry.resume([])
        await let_others_come_in()

        await house.registry.delete_trained_model(DeleteTrainedModel(ELSER))
        house.supply.known.set()
        await let_others_come_in()

        assert not house.store.rows


async def test_files_that_another_id_has_too_stay():
    async with open_house() as house:
        for model_id in (ELSER, f"{ELSER}_linux-x86_64"):
            await put(house, model_id, wait_for_completion=True)

        await house.registry.delete_trained_model(DeleteTrainedModel(ELSER))
        assert house.supply.removed == []
        await house.registry.delete_trained_model(DeleteTrainedModel(f"{ELSER}_linux-x86_64"))
        assert house.supply.removed == [f"{ELSER}_linux-x86_64"]


async def test_an_endpoint_of_a_package_lists_its_model():
    async with open_house() as house:
        house.supply.packages.add(ELSER)

        await house.put("e", local(ELSER), task_type="sparse_embedding")
        await let_others_come_in()

        assert listed(house).is_whole


async def test_an_endpoint_of_another_source_lists_nothing():
    async with open_house() as house:
        await house.put("e", local(ELSER), task_type="sparse_embedding")
        await let_others_come_in()

        assert house.supply.asked == []


async def test_a_failed_package_leaves_neither_endpoint_nor_model():
    async with open_house() as house:
        house.supply.packages.add(ELSER)
        house.supply.fails = house.deployments.fails = UnreadableReply("Invalid package sha")

        with pytest.raises(InferenceError, match="Invalid package sha"):
            await house.put("e", local(ELSER), task_type="sparse_embedding")
        await let_others_come_in()

        assert not house.store.rows


async def test_a_download_that_a_crash_cut_off_goes_on_with_the_next_server():
    async with open_house() as house:
        house.supply.fails_late = UpstreamUnreachable("the host is gone")
        await put(house)
        await let_others_come_in()
        house.supply.fails_late = None

        house.registry.resume([])
        await let_others_come_in()

        assert listed(house).is_whole


async def test_an_endpoint_that_leaves_its_model_unnamed_still_uses_it():
    async with open_house() as house:
        model_id = f"{ELSER}_linux-x86_64"
        await put(house, model_id, wait_for_completion=True)
        body = {"service": "elser", "service_settings": {"num_allocations": 1, "num_threads": 1}}
        await house.put("e", body, task_type="sparse_embedding")

        with pytest.raises(InferenceError, match="deployed"):
            await house.registry.delete_trained_model(DeleteTrainedModel(model_id))


async def test_a_model_that_nobody_knows_is_told_as_it_is():
    async with open_house() as house:
        house.supply.fails = NotFound("the command that provides it")

        with pytest.raises(NotFound, match="the command that provides it"):
            await put(house)
