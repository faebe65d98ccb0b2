"""`_infer`: what an id means, what is asked of a model, and how its result is written."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from inferry.concurrency import Nursery
from inferry.core.snapshot import Snapshot
from inferry.core.task_inference import TaskInference
from inferry.core.trained_model_catalogue import TrainedModelCatalogue
from inferry.domain import (
    Deadline,
    InputType,
    RankedDocument,
    Ranking,
    SparseEmbeddings,
    TaskAnswers,
    TaskType,
)
from inferry.errors import BadRequest, Conflict, IllegalArgument, NotDeployed, NotFound
from inferry.inference_configs import complete_inference_config
from inferry.records import (
    DeploymentRecord,
    DeploymentSpec,
    EndpointRecord,
    Put,
    TrainedModelRecord,
)
from tests.core.engines import ToldEngine

DOCS = [{"text_field": "one"}]


class Desk:
    """What answers `_infer`, beside a told engine."""

    def __init__(self) -> None:
        self.catalogue, self.snapshot = TrainedModelCatalogue(), Snapshot()
        self.engine = ToldEngine()
        self.woken: list[str] = []
        self.folders: set[str] = set()
        self.inference = TaskInference(
            self.catalogue,
            self.snapshot,
            self.engine,
            wake=self.wake,
            start=self.engine.start,
            is_listed=self.is_listed,
        )

    async def wake(self, deployment_id: str) -> None:
        self.woken.append(deployment_id)

    async def is_listed(self, model_id: str) -> bool:
        return model_id in self.folders

    def model(self, model_id: str, task: str, field: str = "text_field", **config: Any) -> None:
        settings = complete_inference_config({task: config})
        stored = {"inference_config": settings, "input": {"field_names": [field]}}
        self.catalogue.apply([Put(TrainedModelRecord(model_id, stored, 1))])

    def deploy(self, deployment_id: str, model_id: str, task_type: TaskType | None = None) -> None:
        spec = DeploymentSpec(deployment_id, model_id, 1, 1)
        record = DeploymentRecord(spec, state="started", task_type=task_type)
        self.catalogue.apply([Put(record)])

    def endpoint(self, inference_id: str, model_id: str) -> None:
        settings = {"model_id": model_id, "num_threads": 1, "num_allocations": 1}
        self.snapshot.apply(
            [
                Put(
                    EndpointRecord(
                        inference_id, "text_embedding", "elasticsearch", settings, {}, None
                    )
                )
            ]
        )

    async def run(self, given: str, docs: Any = DOCS, update: Any = None) -> Any:
        target = await self.inference.find(given)
        deadline = Deadline.after(10, "10s")
        found = await self.inference.run(target, docs, update, deadline)
        return msgspec.json.decode(msgspec.json.encode(found))


@pytest.fixture
def desk():
    return Desk()


async def test_a_model_a_deployment_and_an_endpoint_answer_alike(desk):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")
    desk.endpoint("e", "m")

    answers = [await desk.run(given) for given in ("m", "d", "e")]

    assert answers == [[{"predicted_value": [3.0], "is_truncated": True}]] * 3
    asked = [(deployment, texts) for deployment, texts, _ in desk.engine.asked]
    assert asked == [("d", ("one",)), ("d", ("one",)), ("e", ("one",))]


async def test_documents_go_to_the_engine_some_at_a_time(desk):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")
    desk.engine.gate = asyncio.Event()
    docs = [{"text_field": "a" * (number % 7 + 1)} for number in range(1000)]

    async with Nursery() as nursery:
        running = nursery.start(desk.run("m", docs))
        for _ in range(20):
            await asyncio.sleep(0)
        at_once = len(desk.engine.asked)
        desk.engine.gate.set()
        answers = await running

    assert at_once == 128
    assert [one["predicted_value"] for one in answers] == [[len(d["text_field"])] for d in docs]


async def test_texts_have_no_prefix_and_wait_behind_searches(desk):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")

    await desk.run("m")

    assert desk.engine.asked[0][2] is InputType.UNSPECIFIED


async def test_an_id_of_nothing_is_not_found(desk):
    with pytest.raises(NotFound, match=r"No known trained model with model_id \[nobody\]"):
        await desk.run("nobody")


async def test_a_model_that_is_not_deployed_says_what_to_do(desk):
    desk.model("m", "text_embedding")

    with pytest.raises(Conflict) as refusal:
        await desk.run("m")

    assert str(refusal.value) == (
        "Model [m] must be deployed to use. Please deploy with the start trained model deployment"
        " API."
    )


async def test_a_model_of_a_folder_that_is_not_deployed_says_what_to_do_too(desk):
    desk.folders.add("dense")

    with pytest.raises(Conflict, match=r"Model \[dense\] must be deployed to use"):
        await desk.run("dense")


async def test_a_model_that_nobody_uploaded_is_asked_by_the_id_that_it_is_listed_under(desk):
    desk.deploy("d", "org/Tiny", TaskType.TEXT_EMBEDDING)

    answers = [await desk.run(given) for given in ("org__tiny", "org/Tiny")]

    assert [one[0]["predicted_value"] for one in answers] == [[3.0]] * 2


async def test_an_upload_is_not_answered_for_by_a_model_of_nearly_its_id(desk):
    desk.model("org__tiny", "text_embedding")
    desk.deploy("d", "org/tiny", TaskType.TEXT_EMBEDDING)

    with pytest.raises(Conflict, match=r"Model \[org__tiny\] must be deployed"):
        await desk.run("org__tiny")


async def test_a_deployment_that_rests_is_woken(desk):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")
    desk.engine.fails = [NotDeployed("[d] is not deployed")]

    await desk.run("m")

    assert desk.woken == ["d"]


async def test_an_endpoint_is_started_as_by_a_run(desk):
    desk.endpoint("e", "m")
    desk.engine.fails = [NotDeployed("[e] is not deployed")]

    await desk.run("e")

    assert desk.engine.started == ["e"]


async def test_a_document_without_the_field_gets_a_warning_and_the_others_an_answer(desk):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")

    found = await desk.run("m", [{"other": "x"}, {"text_field": "ab"}, {"text_field": 3}])

    assert [next(iter(one)) for one in found] == ["warning", "predicted_value", "warning"]
    assert "could not find field [text_field]" in found[0]["warning"]
    assert found[2] == {"warning": "the field [text_field] of the document is not a text"}


async def test_a_field_may_be_within_objects(desk):
    desk.model("m", "text_embedding", field="page.title.raw")
    desk.deploy("d", "m")
    docs = [
        {"page": {"title": {"raw": "abc"}}},
        {"page": {"title.raw": "abcd"}},
        {"page.title.raw": "abcde"},
        {"page": {"title": "abc"}},
    ]

    *found, missing = await desk.run("m", docs)

    assert [one["predicted_value"] for one in found] == [[3.0], [4.0], [5.0]]
    assert missing == {"warning": "could not find field [page.title.raw] in the document"}


async def test_a_document_that_the_model_refuses_gets_the_reason(desk):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")
    desk.engine.fails = [IllegalArgument("Input too large.")]

    assert await desk.run("m") == [{"warning": "Input too large."}]


async def test_an_update_is_laid_over_the_settings_of_the_model(desk):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")
    tokenization = {"bert": {"truncate": "none", "span": 7}}
    update = {"text_embedding": {"results_field": "vector", "tokenization": tokenization}}

    found = await desk.run("m", update=update)

    assert list(found[0]) == ["vector", "is_truncated"]
    sent = desk.engine.configs[0]["text_embedding"]["tokenization"]["bert"]
    assert (sent["truncate"], sent["span"], sent["max_sequence_length"]) == ("none", 7, 512)


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        ({"text_expansion": {}}, r"configured for task \[text_embedding\] but called with"),
        ({"text_embedding": {"tokenization": {"roberta": {}}}}, r"configured as \[bert\]"),
        (
            {"text_embedding": {"tokenization": {"bert": {"do_lower_case": True}}}},
            "cannot be updated by a request",
        ),
        ({"text_embedding": {"tokenization": {"bert": {"span": 7}}}}, "must not be provided"),
    ],
)
async def test_an_update_that_does_not_fit_is_refused(desk, update, problem):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")

    with pytest.raises(BadRequest, match=problem):
        await desk.run("m", update=update)


@pytest.mark.parametrize("name", ["is_truncated", "warning", "top_classes", ""])
async def test_a_result_is_not_called_as_another_member(desk, name):
    desk.model("m", "text_embedding")
    desk.deploy("d", "m")
    desk.deploy("folder", "folder", TaskType.TEXT_EMBEDDING)
    update = {"text_embedding": {"results_field": name}}

    for given in ("m", "folder"):
        with pytest.raises(IllegalArgument, match=r"\[results_field\] must not be"):
            await desk.run(given, update=update)


async def test_as_many_labels_are_given_as_the_model_has(desk):
    desk.model("m", "text_classification")
    desk.deploy("d", "m")
    problem = r"defined with \[2\] does not match the number in the update \[3\]"

    with pytest.raises(BadRequest, match=problem):
        await desk.run("m", update={"text_classification": {"classification_labels": ["a"] * 3}})


async def test_a_similarity_needs_the_text_to_compare_with(desk):
    desk.model("m", "text_similarity")
    desk.deploy("d", "m", TaskType.RERANK)
    desk.engine.result = Ranking((RankedDocument(0, -1.5),))

    found = await desk.run("m", update={"text_similarity": {"text": "a question"}})
    with pytest.raises(BadRequest, match=r"\[text\] is required"):
        await desk.run("m")

    assert found == [{"predicted_value": -1.5}]
    assert desk.engine.queries == ["a question"]


@pytest.mark.parametrize(
    ("task", "config", "required"),
    [
        ("question_answering", {}, {"question": "who?"}),
        (
            "zero_shot_classification",
            {"classification_labels": ["entailment", "neutral", "contradiction"]},
            {"labels": ["a", "b"]},
        ),
    ],
)
async def test_what_a_task_asks_of_every_text_is_required_once(desk, task, config, required):
    desk.model("m", task, **config)
    desk.deploy("d", "m")
    desk.engine.result = TaskAnswers(({"predicted_value": "x"},))

    found = await desk.run("m", update={task: required})
    with pytest.raises(BadRequest, match=rf"\[{next(iter(required))}\] is required by the task"):
        await desk.run("m")

    assert found == [{"predicted_value": "x"}]


async def test_weights_and_other_answers_are_written_as_they_are(desk):
    desk.model("m", "fill_mask")
    desk.deploy("d", "m")

    desk.engine.result = SparseEmbeddings(({"a": 1.5},))
    weights = await desk.run("m")
    desk.engine.result = TaskAnswers(({"predicted_value": "x", "top_classes": []},))
    answer = await desk.run("m")

    assert weights == [{"predicted_value": {"a": 1.5}}]
    assert answer == [{"predicted_value": "x", "top_classes": []}]


async def test_a_model_of_a_folder_takes_the_name_of_the_result_only(desk):
    desk.deploy("d", "organisation/name", TaskType.TEXT_EMBEDDING)

    found = await desk.run("d", update={"text_embedding": {"results_field": "vector"}})
    with pytest.raises(BadRequest, match="cannot be changed"):
        await desk.run("d", update={"text_embedding": {"tokenization": {"bert": {}}}})

    assert list(found[0]) == ["vector", "is_truncated"]
    assert desk.engine.configs == [None]
