"""Models in 8-bit integers, made by something that only pretends to quantize, and what is left."""

from __future__ import annotations

import json
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import pytest

from inferry.config import load_config
from inferry.domain import InputType, TaskType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.errors import IllegalArgument, NotFound, StoreFailure, UnusableModel
from inferry.modeling import ModelSource, RuntimeOptions, cache_of_folder
from inferry.models.closeness import ScoreCloseness, VectorCloseness
from inferry.models.collection import open_collection
from inferry.models.library import open_library
from inferry.models.quantization import Recipe, quantize_folder
from inferry.models.samples import Sample
from inferry.models.text_model import load_model
from tests.models.folders import (
    write_classifier,
    write_json,
    write_masked_lm,
    write_model,
    write_router,
    write_splade,
)
from tests.models.repositories import MODULE, package_files

SAMPLE = Sample("texts", tuple(f"{letter} b {letter}c" for letter in "defghijklmnopqrstuvw"))
GRAPH = "openvino/openvino_model_qint8_quantized"


class Pretending:
    """Gives the graph as it is, and notes what it was given beside it."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []

    def __call__(self, body, inputs) -> object:
        self.inputs += inputs
        return body


@pytest.fixture
def recipe():
    return Recipe(Pretending(), OpenVino())


@pytest.fixture
def target(tmp_path):
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def load(folder, precision="auto", **more):
    options = RuntimeOptions(precision=precision)
    return load_model(ModelSource("m", folder, **more), options, runtime=OpenVino())


def files_in(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


# --- the folder ---------------------------------------------------------------------------------


def test_the_new_folder_has_all_but_the_weights(tmp_path, target, recipe):
    source = write_model(tmp_path / "model")

    quantize_folder(ModelSource("m", source), SAMPLE, target, recipe)

    assert files_in(source) - files_in(target) == {"model.safetensors"}
    added = sorted(files_in(target) - files_in(source))
    assert added[1:] == [f"{GRAPH}.bin", f"{GRAPH}.xml"]
    assert added[0].startswith("f32_rows_")


@pytest.mark.parametrize("write", [write_model, write_splade, write_router])
def test_it_gives_the_same_vectors_at_any_setting_of_precision(tmp_path, target, recipe, write):
    source = write(tmp_path / "model")

    found = quantize_folder(ModelSource("m", source), SAMPLE, target, recipe)

    assert isinstance(found, VectorCloseness)
    assert found.texts == 2
    assert found.least > 0.999
    expected = load(source, "f32")
    for precision in ("auto", "f32", "bf16", "int8"):
        model = load(target, precision)
        assert model.arithmetic.precision == "int8"
        assert model.cosine > 0.999
        for input_type in (InputType.SEARCH, InputType.INGEST):
            texts = model.encode(["abc d"], input_type)
            np.testing.assert_allclose(model.rows(texts), expected.rows(texts), atol=0.05)


@pytest.mark.parametrize("labels", [1, 2])
def test_a_model_that_reranks_is_given_pairs(tmp_path, target, recipe, labels):
    source = write_classifier(tmp_path / "model", labels=labels)

    found = quantize_folder(ModelSource("m", source), SAMPLE, target, recipe)

    assert isinstance(found, ScoreCloseness)
    assert found.texts == 4
    assert load(target).task_type is TaskType.RERANK
    given = recipe.quantize.inputs[0]
    assert given["input_ids"].shape == given["token_type_ids"].shape
    assert set(given["token_type_ids"][0]) == {0, 1}


def test_texts_have_the_prompt_of_documents_and_the_copy_keeps_those_of_its_id(
    tmp_path, target, recipe
):
    write_model(tmp_path / "model")
    settings = {"similarity_fn_name": "dot", "prompts": {"query": "old"}}
    write_json(tmp_path / "model/config_sentence_transformers.json", settings)
    prompts = {"query": "q", "passage": "p p p"}

    quantize_folder(ModelSource("m", tmp_path / "model", prompts=prompts), SAMPLE, target, recipe)

    plain = load(tmp_path / "model", prompts={}).encode(SAMPLE.lines[1:2], InputType.INGEST)
    assert recipe.quantize.inputs[0]["input_ids"].shape == (1, len(plain[0].ids) + 3)
    kept = json.loads((target / "config_sentence_transformers.json").read_text())
    assert kept == settings | {"prompts": prompts}


def test_a_matryoshka_width_of_it_is_verified_too(tmp_path, target, recipe):
    quantize_folder(ModelSource("m", write_model(tmp_path / "model")), SAMPLE, target, recipe)

    model = load(target, dimensions=4)

    assert model.dimensions == 4
    assert model.cosine > 0.999


def test_without_the_rows_at_f32_nobody_knows_how_close_it_is(tmp_path, target, recipe):
    quantize_folder(ModelSource("m", write_model(tmp_path / "model")), SAMPLE, target, recipe)
    next(target.glob("f32_rows_*")).unlink()

    model = load(target)

    assert (model.arithmetic.precision, model.cosine) == ("int8", None)


@pytest.mark.parametrize("rows", [b"", b"\x93NUMPY", np.zeros((14, 4), np.float32)])
def test_rows_that_are_none_are_refused(tmp_path, target, recipe, rows):
    quantize_folder(ModelSource("m", write_model(tmp_path / "model")), SAMPLE, target, recipe)
    kept = next(target.glob("f32_rows_*"))
    if isinstance(rows, bytes):
        kept.write_bytes(rows)
    else:
        np.save(kept, rows)

    with pytest.raises(UnusableModel, match=r"\[f32_rows_\w+.npy\] (cannot be read|is no float32)"):
        load(target)


def test_a_folder_with_weights_beside_chooses_as_always(tmp_path, target, recipe):
    source = write_model(tmp_path / "model")
    quantize_folder(ModelSource("m", source), SAMPLE, target, recipe)
    (target / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())

    assert load(target, "f32").arithmetic.precision == "f32"
    assert load(target, "int8").arithmetic.precision == "int8"


# --- what cannot be quantized -------------------------------------------------------------------


def test_a_masked_lm_without_modules_wants_to_know_its_task(tmp_path, target, recipe):
    source = ModelSource("m", write_masked_lm(tmp_path / "model"))

    with pytest.raises(IllegalArgument, match="say with --task-type what it shall do"):
        quantize_folder(source, SAMPLE, target, recipe)

    sparse = replace(recipe, task_type=TaskType.SPARSE_EMBEDDING)
    assert str(quantize_folder(source, SAMPLE, target, sparse)).startswith("cosine to f32: least")
    assert load(target, task_type=TaskType.SPARSE_EMBEDDING).arithmetic.precision == "int8"


def test_a_task_that_it_does_not_do_is_refused(tmp_path, target, recipe):
    source = ModelSource("m", write_model(tmp_path / "model"))

    with pytest.raises(UnusableModel, match=r"does not match the requested task type \[rerank\]"):
        quantize_folder(source, SAMPLE, target, replace(recipe, task_type=TaskType.RERANK))


def test_what_is_in_8_bits_already_is_refused(tmp_path, target, recipe):
    quantize_folder(ModelSource("m", write_model(tmp_path / "model")), SAMPLE, target, recipe)
    (tmp_path / "again").mkdir()

    with pytest.raises(UnusableModel, match="it has no weights in floating point"):
        quantize_folder(ModelSource("m", target), SAMPLE, tmp_path / "again", recipe)


# --- the collection -----------------------------------------------------------------------------


class Machine:
    """A data directory."""

    def __init__(self, top) -> None:
        self._config = load_config(
            {"server.data_dir": "data"}, environment={}, working_directory=top
        ).config
        self.copies = top / "data/models/copies"

    @property
    def collection(self):
        return open_collection(self._config, {})

    def find(self, model_id):
        return open_library(self._config, {}).find(model_id)


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    machine.copies.mkdir(parents=True)
    machine.collection.add("org/mine", write_model(tmp_path / "model"))
    return machine


def test_it_is_a_model_of_its_own_that_can_be_removed(machine, recipe):
    source, _ = machine.collection.quantize("org/mine", "org/mine-int8", SAMPLE, recipe)

    assert machine.find("org/mine-int8") == source
    assert load(source.folder).arithmetic.precision == "int8"
    made_of_it = cache_of_folder(machine.copies.parents[1] / "graphs", source.folder)
    made_of_it.mkdir(parents=True)
    machine.collection.remove("org/mine-int8")
    assert [*machine.copies.iterdir()] == []
    assert not made_of_it.exists()
    assert machine.find("org/mine") is not None


def test_a_copy_of_a_built_in_model_cuts_pairs_as_that_does(machine, recipe, tmp_path):
    machine.collection.add(".rerank-v1", write_classifier(tmp_path / "ranker"))

    made, _ = machine.collection.quantize(".rerank-v1", ".rerank-v1-int8", SAMPLE, recipe)

    def cut(model_id: str, **other_place: Any) -> Any:
        source = replace(machine.find(model_id), **other_place)
        model = load_model(source, RuntimeOptions(precision="auto"), runtime=OpenVino())
        return model.encode(["b " * 50, "b"], InputType.UNSPECIFIED, "a " * 50)

    assert all(one.is_truncated for one in cut(".rerank-v1"))  # the query, which others refuse
    assert cut(".rerank-v1-int8") == cut(".rerank-v1") == cut(".rerank-v1", folder=made.folder)


def test_it_can_be_pulled_and_added_elsewhere(machine, recipe, tmp_path):
    source, _ = machine.collection.quantize("org/mine", "small", SAMPLE, recipe)
    other = Machine(tmp_path / "other")
    other.copies.mkdir(parents=True)

    other.collection.add("added", source.folder)
    pulled = other.collection.pull("pulled", str(source.folder), report=print, stop=Event())

    assert load(pulled.folder).cosine > 0.999
    assert files_in(pulled.folder) == files_in(source.folder)


@pytest.mark.parametrize(
    "failure",
    [UnusableModel("not today"), OSError(28, "the disk is full"), KeyboardInterrupt("not today")],
    ids=type,
)
def test_what_fails_leaves_nothing_behind_and_what_was_there_before(machine, recipe, failure):
    before, _ = machine.collection.quantize("org/mine", "small", SAMPLE, recipe)

    def fail(body, inputs):
        raise failure

    for new_id in ("small", "other"):
        with pytest.raises(
            (UnusableModel, StoreFailure, KeyboardInterrupt), match=r"not today|the disk is full"
        ):
            machine.collection.quantize("org/mine", new_id, SAMPLE, Recipe(fail, OpenVino()))

    assert [*machine.copies.iterdir()] == [before.folder]
    assert load(before.folder).arithmetic.precision == "int8"
    with pytest.raises(IllegalArgument):
        machine.find("other")


def test_a_model_whose_id_cannot_be_written_down_does_not_stay(machine, recipe):
    aliases = machine.copies.parent / "aliases.json"
    (machine.copies.parent / "aliases.part").mkdir()

    with pytest.raises(StoreFailure, match=r"cannot write \[.*aliases.json\]: Is a directory"):
        machine.collection.quantize("org/mine", "small", SAMPLE, recipe)

    assert [*machine.copies.iterdir()] == []
    assert json.loads(aliases.read_text()).keys() == {"org/mine"}


def test_a_graph_that_cannot_be_written_is_told_and_does_not_stay(machine, recipe, tmp_path):
    def make_no_room(body, inputs) -> object:
        (file,) = machine.copies.glob("small@part/openvino")
        (file / "openvino_model_qint8_quantized.bin").mkdir()
        return body

    with pytest.raises(StoreFailure, match=r"cannot write the graph \[.*xml\], is the disk full"):
        machine.collection.quantize("org/mine", "small", SAMPLE, Recipe(make_no_room, OpenVino()))

    assert [*machine.copies.iterdir()] == []


@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError])
def test_what_a_library_chokes_on_is_told_in_its_words(machine, error):
    def choke(body, inputs):
        raise error("no such operation")

    with pytest.raises(UnusableModel) as raised:
        machine.collection.quantize("org/mine", "small", SAMPLE, Recipe(choke, OpenVino()))

    message = str(raised.value)
    assert message.startswith(f"the model [org/mine] cannot be quantized, [{error.__name__}]: ")
    assert "no such operation" in message
    assert "[telemetry.log_level] at [debug]" in message
    assert isinstance(raised.value.__cause__, error)


def test_a_model_does_not_take_its_own_place(machine, recipe):
    with pytest.raises(IllegalArgument, match="would take its own place: give another id"):
        machine.collection.quantize("org/mine", "org/mine", SAMPLE, recipe)


def test_what_is_not_here_is_pulled_first(machine, recipe):
    with pytest.raises(NotFound, match="`inferry models pull org/none` brings it"):
        machine.collection.quantize("org/none", "small", SAMPLE, recipe)


def test_a_package_is_no_folder_in_the_layout_of_hugging_face(machine, recipe, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, content in package_files("elser_model_2", MODULE).items():
        (mirror / name).write_bytes(content)
    machine.collection.pull(".elser_model_2", str(mirror), report=lambda _: None, stop=Event())

    with pytest.raises(IllegalArgument, match=r"is a TorchScript module: only models in the"):
        machine.collection.quantize(".elser_model_2", "small", SAMPLE, recipe)
