"""Tensors of safetensors files, and files that are not what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from inferry.errors import UnusableModel
from inferry.modeling import ModelSource
from inferry.models.folder import ModelFolder
from inferry.models.weights import Weights
from tests.models.folders import write_json, write_safetensors

NUMBERS = np.array([[1.0, -2.5, 3.25], [0.0, 4.0, -8.0]], np.float32)


@pytest.fixture
def folder(tmp_path):
    return ModelFolder(ModelSource("demo", tmp_path))


def write_raw(file, header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_a_tensor_has_its_numbers(folder, tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS, "b": NUMBERS[0]})

    weights = Weights(folder)

    np.testing.assert_array_equal(weights.get("a", 2, 3).numbers, NUMBERS)
    np.testing.assert_array_equal(weights.get("b", 3).numbers, NUMBERS[0])
    assert "a" in weights
    assert "c" not in weights


def test_half_precision_stays_as_it_is(folder, tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS}, dtype="F16")

    tensor = Weights(folder).get("a", 2, 3)

    assert tensor.dtype == "F16"
    np.testing.assert_array_equal(tensor.numbers, NUMBERS.astype(np.float16))


def test_bfloat16_comes_as_its_bits(folder, tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS}, dtype="BF16")

    tensor = Weights(folder).get("a", 2, 3)

    wide = (tensor.numbers.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(wide, NUMBERS)


def test_tensors_survive_that_their_memory_was_given_back(folder, tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS})
    weights = Weights(folder)
    tensor = weights.get("a", 2, 3)

    weights.forget()

    np.testing.assert_array_equal(tensor.numbers, NUMBERS)


def test_the_parts_of_a_large_model_are_put_together(folder, tmp_path):
    write_safetensors(tmp_path / "model-1-of-2.safetensors", {"a": NUMBERS})
    write_safetensors(tmp_path / "model-2-of-2.safetensors", {"b": NUMBERS[0]})
    index = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": index})

    weights = Weights(folder)

    np.testing.assert_array_equal(weights.get("a", 2, 3).numbers, NUMBERS)
    np.testing.assert_array_equal(weights.get("b", 3).numbers, NUMBERS[0])


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "config.json", "model.bin"])
def test_an_index_names_safetensors_files_of_the_folder(folder, tmp_path, file):
    write_json(tmp_path / "config.json", {})
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": file}})

    with pytest.raises(UnusableModel, match=r"no safetensors file|no path within"):
        Weights(folder)


def test_a_tensor_that_is_not_there_is_named(folder, tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS})

    with pytest.raises(UnusableModel, match=r"\[model.safetensors\] lacks the tensor \[b\]"):
        Weights(folder).get("b", 3)


def test_a_tensor_of_another_shape_is_named_with_both(folder, tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": NUMBERS})

    with pytest.raises(
        UnusableModel, match=r"tensor \[a\] in the shape \[2, 3\].*asks for \[3, 2\]"
    ):
        Weights(folder).get("a", 3, 2)


def test_a_tensor_of_whole_numbers_is_not_read(folder, tmp_path):
    entry = {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}
    write_raw(tmp_path / "model.safetensors", {"ids": entry}, bytes(8))

    with pytest.raises(UnusableModel, match=r"of type \[I64\]"):
        Weights(folder).get("ids", 1)


@pytest.mark.parametrize("kept", [0, 5, 8, 40, -1])
def test_a_truncated_file_is_refused(folder, tmp_path, kept):
    file = tmp_path / "model.safetensors"
    write_safetensors(file, {"a": NUMBERS})
    file.write_bytes(file.read_bytes()[:kept])

    with pytest.raises(UnusableModel, match=r"\[model.safetensors\] (is damaged|has a header)"):
        Weights(folder)


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ([2], [0, 4]),  # shorter than its shape
        ([1], [0, 8]),  # longer
        ([1], [8, 4]),  # backwards
        ([1], [8, 12]),  # beyond the end
        ([1], [-4, 0]),
        ([-1], [0, 4]),
        ([2**62, 2**62], [0, 4]),
    ],
)
def test_a_tensor_in_an_impossible_place_is_refused(folder, tmp_path, shape, offsets):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    write_raw(tmp_path / "model.safetensors", {"a": entry}, bytes(8))

    with pytest.raises(UnusableModel, match=r"is damaged|has a header that cannot be read"):
        Weights(folder)


@pytest.mark.parametrize("header", [b"", b"[]", b"{", b'{"a": 1}', b"[" * 50_000, b'{"a": {}}'])
def test_a_header_that_is_none_is_refused(folder, tmp_path, header):
    write_raw(tmp_path / "model.safetensors", header)

    with pytest.raises(UnusableModel, match="has a header that cannot be read"):
        Weights(folder)


def test_a_header_that_claims_to_be_huge_is_refused(folder, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)

    with pytest.raises(UnusableModel, match="hold no header"):
        Weights(folder)
