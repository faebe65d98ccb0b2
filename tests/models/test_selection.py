"""Which files of a repository are taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferry.errors import UnusableModel
from inferry.modeling import ModelSource
from inferry.models.folder import ModelFolder
from inferry.models.selection import missing_files
from tests.models.folders import BERT, MODULES, write_json

CONFIGURATION = ("config.json", "tokenizer.json")
EXOTIC = {**BERT, "model_type": "exotic"}
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}


@pytest.fixture
def take(tmp_path) -> Callable[..., list[str]]:
    """Take what is missing until nothing is, and list it in order."""

    def run(listing: set[str], *, config: object = BERT, modules: object = MODULES) -> list[str]:
        folder = ModelFolder(ModelSource("m", tmp_path))
        contents = {"config.json": config, "modules.json": modules}
        taken = []
        while wanted := missing_files(folder, listing):
            for path in wanted:
                write_json(tmp_path / path, contents.get(path.rpartition("/")[2], {}))
            taken += wanted
        return taken

    return run


def test_a_plain_encoder_is_its_configuration_and_its_weights(take):
    listing = {*CONFIGURATION, "model.safetensors", "vocab.txt", "README.md", ".gitattributes"}

    assert take(listing) == ["config.json", "tokenizer.json", "model.safetensors"]


def test_what_says_how_a_model_is_run_comes_first(take):
    listing = {
        *CONFIGURATION,
        *("modules.json", "1_Pooling/config.json", "model.safetensors"),
        *("config_sentence_transformers.json", "sentence_bert_config.json"),
        *("tokenizer_config.json", "data_config.json", "vocab.json", "README.md"),
    }

    assert take(listing) == [
        *("config.json", "config_sentence_transformers.json", "modules.json"),
        *("sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("1_Pooling/config.json", "model.safetensors"),
    ]


def test_of_many_forms_of_the_same_weights_one_is_taken(take):
    listing = {
        *CONFIGURATION,
        *("model.safetensors", "pytorch_model.bin", "tf_model.h5", "rust_model.ot"),
        *("onnx/model.onnx", "onnx/model_O4.onnx", "onnx/model_qint8_avx512_vnni.onnx"),
        *("openvino/openvino_model.xml", "openvino/openvino_model.bin"),
    }

    assert take(listing)[2:] == ["model.safetensors"]


def test_large_weights_come_in_parts_with_their_index(take):
    parts = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    listing = {*CONFIGURATION, "model.safetensors.index.json", *parts}

    assert take(listing)[2:] == [*parts, "model.safetensors.index.json"]


def test_a_part_that_is_missing_is_noticed(take):
    parts = [f"model-0000{number}-of-00003.safetensors" for number in (1, 3)]

    with pytest.raises(UnusableModel, match=r"has \[2\] of its \[3\] parts"):
        take({*CONFIGURATION, "model.safetensors.index.json", *parts})


@pytest.mark.parametrize(
    ("listing", "taken"),
    [
        (
            ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_O2.onnx"],
            ["onnx/model.onnx", "onnx/model.onnx_data"],
        ),
        (
            ["onnx/model.onnx", "openvino/openvino_model.xml", "openvino/openvino_model.bin"],
            ["openvino/openvino_model.bin", "openvino/openvino_model.xml"],
        ),
    ],
)
def test_without_safetensors_a_ready_made_graph_is_taken(take, listing, taken):
    assert take({*CONFIGURATION, *listing})[2:] == taken


def test_of_a_family_that_is_not_built_here_the_graph_is_taken(take):
    listing = {*CONFIGURATION, "model.safetensors", "onnx/model.onnx"}

    assert take(listing, config=EXOTIC)[2:] == ["onnx/model.onnx"]


def test_a_family_that_nothing_runs_is_refused(take):
    with pytest.raises(UnusableModel, match=r"\[config.json\] is of a family that is not built"):
        take({*CONFIGURATION, "model.safetensors"}, config=EXOTIC)


def test_a_module_with_weights_of_its_own_needs_them(take):
    modules = [*MODULES[:2], DENSE]
    listing = {*CONFIGURATION, "modules.json", "model.safetensors", "1_Pooling/config.json"}
    dense = {"2_Dense/config.json", "2_Dense/model.safetensors"}

    assert set(take(listing | dense, modules=modules)) >= dense


def test_a_module_whose_weights_are_a_pickle_is_refused(take):
    modules = [*MODULES[:2], DENSE]
    listing = {*CONFIGURATION, "modules.json", "model.safetensors", "1_Pooling/config.json"}

    with pytest.raises(UnusableModel, match=r"\[2_Dense/pytorch_model.bin\] is a pickle"):
        take(listing | {"2_Dense/config.json", "2_Dense/pytorch_model.bin"}, modules=modules)


def test_an_encoder_may_stand_in_a_folder_of_its_own(take):
    modules = [{**MODULES[0], "path": "0_Transformer"}, MODULES[1]]
    own = {f"0_Transformer/{name}" for name in (*CONFIGURATION, "model.safetensors")}
    listing = {"modules.json", "1_Pooling/config.json", *own}

    assert set(take(listing, modules=modules)) == listing


@pytest.mark.parametrize("path", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_is_missing_is_named(take, path):
    listing = {*CONFIGURATION, "model.safetensors"} - {path}

    with pytest.raises(UnusableModel, match=rf"\[{path}\] is missing"):
        take(listing)


def test_nothing_is_missing_in_a_whole_folder(take, tmp_path):
    listing = {*CONFIGURATION, "model.safetensors"}
    take(listing)

    assert missing_files(ModelFolder(ModelSource("m", tmp_path)), listing) == []
