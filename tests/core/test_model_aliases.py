"""Other names of models: whom they lead to, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.commands import (
    Command,
    DeleteModelAlias,
    DeleteTrainedModel,
    PutModelAlias,
    PutTrainedModel,
    StartModel,
)
from inferry.core.trained_model_catalogue import TrainedModelCatalogue
from inferry.errors import BadRequest, InvalidRequest, NotFound
from inferry.records import Put, TrainedModelRecord
from tests.core.registry_parts import House, open_house


async def run(house: House, command: Command) -> Any:
    return await house.registry.handlers()[type(command)](command)


async def create(house: House, model_id: str, task: str = "text_embedding") -> None:
    body = {"model_type": "pytorch", "inference_config": {task: {}}}
    await run(house, PutTrainedModel(model_id, body))


def aliases(house: House, model_id: str) -> list[str]:
    record = house.store.rows["trained_model", model_id]
    assert isinstance(record, TrainedModelRecord)
    return record.aliases


async def test_a_model_gets_other_names_and_loses_them():
    async with open_house() as house:
        await create(house, "m-1")

        for name in ("best", "latest", "best"):
            await run(house, PutModelAlias("m-1", name))
        assert aliases(house, "m-1") == ["best", "latest"]

        await run(house, DeleteModelAlias("m-1", "best"))
        assert aliases(house, "m-1") == ["latest"]


async def test_a_name_moves_to_another_model_of_the_task_only_when_asked_to():
    async with open_house() as house:
        await create(house, "m-1")
        await create(house, "m-2")
        await create(house, "other", "ner")
        await run(house, PutModelAlias("m-1", "best"))

        with pytest.raises(BadRequest, match=r"already refers to \[m-1\]\. Set parameter"):
            await run(house, PutModelAlias("m-2", "best"))
        with pytest.raises(BadRequest, match=r"type \[ner\] from model \[m-1\]"):
            await run(house, PutModelAlias("other", "best", reassign=True))
        with pytest.raises(NotFound, match=r"\[nowhere\]"):
            await run(house, PutModelAlias("nowhere", "best", reassign=True))
        assert aliases(house, "m-1") == ["best"]

        await run(house, PutModelAlias("m-2", "best", reassign=True))
        assert aliases(house, "m-1") == []
        assert aliases(house, "m-2") == ["best"]


@pytest.mark.parametrize(
    ("command", "kind", "words"),
    [
        (PutModelAlias("m-1", "second"), BadRequest, "same as an existing model_id"),
        (PutModelAlias("m-1", "v1"), InvalidRequest, "cannot end with numbers"),
        (PutModelAlias("m-1", "A"), InvalidRequest, "Invalid model_alias"),
        (PutModelAlias("m-1", "a" * 65), InvalidRequest, "Invalid model_alias"),
        (PutModelAlias("nowhere", "a"), NotFound, "No known trained model"),
        (DeleteModelAlias("m-1", "a"), NotFound, r"model_alias \[a\] could not be found"),
        (DeleteModelAlias("m-1", "m-1"), NotFound, "could not be found"),
        (DeleteModelAlias("m-1", "of-two"), BadRequest, "does not refer to provided model_id"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_what_cannot_be_is_refused(command, kind, words):
    async with open_house() as house:
        await create(house, "m-1")
        await create(house, "second")
        await run(house, PutModelAlias("second", "of-two"))

        with pytest.raises(kind, match=words):
            await run(house, command)

        assert aliases(house, "m-1") == []
        assert aliases(house, "second") == ["of-two"]


async def test_a_new_model_cannot_have_the_name_of_another():
    async with open_house() as house:
        await create(house, "m-1")
        await run(house, PutModelAlias("m-1", "best"))

        with pytest.raises(BadRequest, match="is the same as an existing model_alias"):
            await create(house, "best")


async def test_a_name_is_no_id_of_a_deployment_or_an_endpoint():
    async with open_house() as house:
        await create(house, "m-1")
        await house.put("endpoint")
        await run(house, StartModel("m", deployment_id="deployment"))

        with pytest.raises(BadRequest, match="same as an inference_id"):
            await run(house, PutModelAlias("m-1", "endpoint"))
        with pytest.raises(BadRequest, match="same as a deployment_id"):
            await run(house, PutModelAlias("m-1", "deployment"))
        await run(house, PutModelAlias("m-1", "best"))
        with pytest.raises(BadRequest, match="must be unique"):
            await house.put("best")


async def test_names_go_with_their_model():
    async with open_house() as house:
        await create(house, "m-1")
        await run(house, PutModelAlias("m-1", "best"))
        await run(house, DeleteTrainedModel("m-1"))

        await create(house, "best")


def test_a_model_is_found_by_any_name():
    record = TrainedModelRecord("m-1", {}, 0, aliases=["best"])
    catalogue = TrainedModelCatalogue()
    catalogue.apply([Put(record), Put(TrainedModelRecord("m-2", {}, 0))])

    assert catalogue.find("best") == record
    assert catalogue.select(["best"]) == [record]
    assert catalogue.select(["b*"]) == [record]
    assert len(catalogue.select(["m-*", "best"])) == 2
