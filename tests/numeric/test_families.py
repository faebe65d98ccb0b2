"""Every family of encoders against transformers, on random weights in the shapes of real models.

Only the layers and the vocabulary are fewer. The tolerance is 1e-4 on numbers of size 1.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transformers

from inferry.engine.runtimes.openvino import OpenVino
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.models.folder import ModelFolder
from inferry.models.graphs.build import build_graph
from inferry.models.pipeline import read_pipeline
from tests.models.folders import MODULES, write_json

MODES = ("cls", "max", "mean", "lasttoken")
TOLERANCE = 1e-4
VOCABULARY = 1000

_SMALL = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
_BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
_COUNTED = {"max_position_embeddings": 514, "layer_norm_eps": 1e-5, "pad_token_id": 1}
FAMILIES = {
    "all-MiniLM": (transformers.BertConfig, {**_SMALL, "num_hidden_layers": 3}),
    "bge-base": (transformers.BertConfig, {**_BASE, "num_hidden_layers": 2}),
    "bge-large": (transformers.BertConfig, {**_LARGE, "num_hidden_layers": 1}),
    "bert with tanh": (
        transformers.BertConfig,
        {**_SMALL, "num_hidden_layers": 1, "hidden_act": "gelu_new"},
    ),
    "distilroberta": (transformers.RobertaConfig, {**_BASE, **_COUNTED, "num_hidden_layers": 2}),
    "e5-large": (
        transformers.XLMRobertaConfig,
        {**_LARGE, **_COUNTED, "num_hidden_layers": 1, "type_vocab_size": 1},
    ),
    "camembert": (transformers.CamembertConfig, {**_BASE, **_COUNTED, "num_hidden_layers": 1}),
    "distilbert": (
        transformers.DistilBertConfig,
        {"dim": 768, "n_heads": 12, "hidden_dim": 3072, "n_layers": 2},
    ),
    "all-mpnet": (transformers.MPNetConfig, {**_BASE, **_COUNTED, "num_hidden_layers": 2}),
}


def random_model(config_class, settings, *, dtype=torch.float32):
    """Make a model with weights that are large enough for attention to matter, and as it is saved.

    Both have the same numbers, which `dtype` can hold.
    """
    torch.manual_seed(11)
    config = config_class(vocab_size=VOCABULARY, attn_implementation="eager", **settings)
    model = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_scale = "norm" in name.lower() and name.endswith("weight")
            weight.normal_(mean=1.0 if is_scale else 0.0, std=0.2 if weight.ndim == 1 else 0.06)
    saved = copy.deepcopy(model).to(dtype)
    return copy.deepcopy(saved).float(), saved


def save(model, folder):
    """Write a folder as sentence-transformers does, with several poolings side by side."""
    model.save_pretrained(folder, safe_serialization=True)
    write_json(folder / "modules.json", MODULES[:2])
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": list(MODES)})


def compile_folder(folder):
    """Give the network of a folder, and the file that its memory is in."""
    source = ModelSource("random", folder)
    opened = ModelFolder(source)
    graph = build_graph(opened, read_pipeline(opened, source))
    return OpenVino().compile(graph.model, RuntimeOptions(threads=2), "f32"), graph.weights


def reference(model, ids, mask):
    """Pool the states of the reference as the head does."""
    with torch.inference_mode():
        given = {"input_ids": torch.tensor(ids).long(), "attention_mask": torch.tensor(mask).long()}
        states = model(**given).last_hidden_state.numpy()
    rows = []
    for text, kept in zip(states, mask.astype(bool), strict=True):
        seen = text[kept]
        rows.append(np.concatenate([seen[0], seen.max(axis=0), seen.mean(axis=0), seen[-1]]))
    return np.array(rows)


def batch(lengths, padding_id):
    """Give random ids of texts with these lengths, and their mask."""
    random = np.random.default_rng(3)
    ids = np.full((len(lengths), max(lengths)), padding_id, np.int32)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(5, VOCABULARY, length)
        mask[row, :length] = 1
    return ids, mask


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda name: name.replace(" ", "-"))
def family(request, tmp_path_factory):
    model, saved = random_model(*FAMILIES[request.param])
    folder = tmp_path_factory.mktemp("family")
    save(saved, folder)
    return model, *compile_folder(folder)


@pytest.mark.parametrize("lengths", [[1], [512], [1, 2, 17, 130]], ids=str)
def test_a_family_gives_what_transformers_gives(family, lengths):
    model, network, _weights = family
    ids, mask = batch(lengths, model.config.pad_token_id or 0)

    rows = network.run(ids, mask, None)

    np.testing.assert_allclose(rows, reference(model, ids, mask), atol=TOLERANCE, rtol=0)


def test_the_padding_token_may_stand_in_a_text(family):
    model, network, _weights = family
    padding_id = model.config.pad_token_id or 0
    ids, mask = batch([12, 9], padding_id)
    ids[0, 4:6] = padding_id

    rows = network.run(ids, mask, None)

    np.testing.assert_allclose(rows, reference(model, ids, mask), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_weights_of_half_precision_are_computed_with_in_single(tmp_path, dtype):
    model, saved = random_model(*FAMILIES["all-MiniLM"], dtype=dtype)
    save(saved, tmp_path)
    network, _weights = compile_folder(tmp_path)
    ids, mask = batch([1, 40], 0)

    rows = network.run(ids, mask, None)

    np.testing.assert_allclose(rows, reference(model, ids, mask), atol=TOLERANCE, rtol=0)


def test_a_model_in_several_files_is_put_together(tmp_path):
    model, saved = random_model(*FAMILIES["all-MiniLM"])
    save(saved, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    saved.save_pretrained(tmp_path, max_shard_size="8MB")
    network, _weights = compile_folder(tmp_path)
    ids, mask = batch([3, 40], 0)

    rows = network.run(ids, mask, None)

    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    np.testing.assert_allclose(rows, reference(model, ids, mask), atol=TOLERANCE, rtol=0)


class OnnxEncoder(torch.nn.Module):  # type: ignore[misc]  # read as Any
    """An encoder as exporters wrap it: by position in, states out."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


def test_local_row_012_a_graph_in_onnx_gives_what_transformers_gives(tmp_path):
    model, saved = random_model(*FAMILIES["all-MiniLM"])
    save(saved, tmp_path)
    ids, mask = batch([5, 30], 0)
    given = (torch.tensor(ids).long(), torch.tensor(mask).long(), torch.zeros(ids.shape).long())
    (tmp_path / "onnx").mkdir()
    torch.onnx.export(
        OnnxEncoder(model),
        given,
        tmp_path / "onnx/model.onnx",
        input_names=["input_ids", "attention_mask", "token_type_ids"],
        output_names=["last_hidden_state"],
        dynamic_shapes=[{0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}] * 3,
        dynamo=True,
        verbose=False,
    )
    (tmp_path / "model.safetensors").unlink()
    network, _weights = compile_folder(tmp_path)

    for lengths in ([5, 30], [1], [512]):
        ids, mask = batch(lengths, 0)
        rows = network.run(ids, mask, None)
        np.testing.assert_allclose(rows, reference(model, ids, mask), atol=TOLERANCE, rtol=0)
