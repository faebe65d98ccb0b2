"""A folder, loaded and run: padding, batches, prompts, precision, warm-up, and what is refused."""

from __future__ import annotations

import gc
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from inferry.domain import InputType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.errors import UnusableModel
from inferry.modeling import Encoded, ModelSource, Network, RuntimeOptions, ShapeLadder
from inferry.models.encoders import read_encoder
from inferry.models.folder import ModelFolder
from inferry.models.graphs.bert import build_bert
from inferry.models.graphs.blocks import Blocks
from inferry.models.networks import Networks
from inferry.models.probes import PROBES
from inferry.models.shapes import ROW_STEPS, length_steps
from inferry.models.text_model import load_model
from inferry.models.weights import Weights
from tests.models.folders import (
    BERT,
    MODULES,
    bert_tensors,
    write_json,
    write_model,
    write_safetensors,
)

TEXTS = ("a", "", "hello world", "one two 3 four 5 six seven", "z" * 10, "[SEP] a", "b c d e f g")


@pytest.fixture
def top(tmp_path):
    return write_model(tmp_path / "model")


def load(top, *, runtime=None, precision="f32", **changes):
    source = ModelSource(
        "demo",
        top,
        **{
            name: changes.pop(name)
            for name in changes.copy()
            if name in ("dimensions", "prompts", "checksums")
        },
    )
    options = RuntimeOptions(precision=precision, **changes)
    return load_model(source, options, runtime=runtime or OpenVino())


def embed(model, *texts, input_type=InputType.UNSPECIFIED):
    return model.rows(model.encode(texts, input_type))


# --- rows --------------------------------------------------------------------------------------


def test_a_text_becomes_a_vector_of_unit_length(top):
    model = load(top)

    rows = embed(model, "hello world")

    assert rows.shape == (1, model.dimensions) == (1, 16)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    assert model.max_tokens == 16
    np.testing.assert_allclose(np.linalg.norm(rows), 1, atol=1e-6)


def test_a_row_does_not_depend_on_what_else_is_in_the_batch(top):
    model = load(top)
    alone = np.concatenate([embed(model, text) for text in TEXTS])

    together = embed(model, *TEXTS)
    backwards = embed(model, *TEXTS[::-1])[::-1]

    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(backwards, alone, atol=1e-6)


def test_rows_are_not_overwritten_by_the_next_batch(top):
    model = load(top)
    first = embed(model, "a")
    copied = first.copy()

    embed(model, "hello")

    np.testing.assert_array_equal(first, copied)


def test_more_texts_than_the_ladder_has_rows_run_as_they_are(top):
    model = load(top)

    rows = embed(model, *TEXTS * 10)

    np.testing.assert_allclose(rows, np.tile(embed(model, *TEXTS), (10, 1)), atol=1e-6)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_weights_of_half_precision_live_as_long_as_the_model(tmp_path, dtype):
    model = load(write_model(tmp_path / "model", dtype=dtype))
    before = embed(model, *TEXTS)

    gc.collect()

    np.testing.assert_array_equal(embed(model, *TEXTS), before)
    exact = embed(load(write_model(tmp_path / "exact")), *TEXTS)
    np.testing.assert_allclose(before, exact, atol=0.05)


def test_a_shorter_vector_is_the_beginning_of_the_whole_one(top):
    whole = embed(load(top), *TEXTS)[:, :4]

    rows = embed(load(top, dimensions=4), *TEXTS)

    np.testing.assert_allclose(
        rows, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6
    )


# --- prompts -----------------------------------------------------------------------------------


def test_a_prompt_stands_before_the_text(top):
    model = load(top, prompts={"query": "ask "})

    rows = embed(model, "a", input_type=InputType.SEARCH)

    np.testing.assert_array_equal(rows, embed(model, "ask a"))
    assert not np.allclose(rows, embed(model, "a"), atol=1e-3)


def test_a_prompt_that_is_not_pooled_still_changes_what_the_text_means(top):
    config = {"pooling_mode": "cls", "include_prompt": False}
    write_json(top / "1_Pooling/config.json", config)
    model = load(top, prompts={"query": "ask "})

    (encoded,) = model.encode(["b"], InputType.SEARCH)

    assert encoded.skipped == 4  # [CLS] a s k
    states = load(top, prompts={}).rows([Encoded(encoded.ids, 6, skipped=4)])
    np.testing.assert_array_equal(model.rows([encoded]), states)
    assert not np.allclose(states, load(top).rows([Encoded(encoded.ids, 6)]), atol=1e-3)


def test_a_prompt_that_fills_the_whole_text_leaves_the_last_token(top):
    write_json(top / "1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False})
    model = load(top, prompts={"query": "ask " * 10})

    assert np.isfinite(embed(model, "b", input_type=InputType.SEARCH)).all()


# --- threads, shapes ---------------------------------------------------------------------------


def test_threads_may_share_a_model(top):
    model = load(top, threads=1, streams=2)
    expected = embed(model, *TEXTS)
    found: list[Any] = []

    def work():
        found.extend(embed(model, *TEXTS) for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert len(found) == 80
    for rows in found:
        np.testing.assert_allclose(rows, expected, atol=1e-6)


@dataclass
class Recording:
    """A runtime that notes precisions and shapes. error: what a reduced precision gets wrong."""

    error: float = 0.0
    device: str = "bf16"
    compiled: list[str] = field(default_factory=list)
    shapes: list[tuple[int, int]] = field(default_factory=list)

    def fastest(self):
        return self.device

    def compile(self, graph, options, precision):
        self.compiled.append(precision)
        network = OpenVino().compile(graph, options, "f32")
        return RecordingNetwork(network, self.shapes, 0 if precision == "f32" else self.error)


@dataclass
class RecordingNetwork:
    network: Network
    shapes: list[tuple[int, int]]
    error: float

    def run(self, ids, mask, pooled):
        self.shapes.append(ids.shape)
        rows = self.network.run(ids, mask, pooled)
        return rows + np.float32(self.error) * np.arange(rows.shape[1], dtype=np.float32)


def test_batches_run_in_the_shapes_of_the_ladder(top):
    runtime = Recording()
    model = load(top, runtime=runtime)
    runtime.shapes.clear()

    embed(model, *TEXTS[:5])

    assert runtime.shapes == [(5, 16)]
    assert model.ladder.pad(13, 13) == (14, 16)


def test_warming_runs_the_shapes_of_small_batches_once_those_of_queries_last(top):
    runtime = Recording()
    model = load(top, runtime=runtime)
    runtime.shapes.clear()

    model.warm(threading.Event())

    costs = [rows * length for rows, length in runtime.shapes]
    assert costs == sorted(costs, reverse=True)
    assert max(costs) == model.ladder.wide_budget
    assert len(set(runtime.shapes)) == len(runtime.shapes)
    assert {length for _, length in runtime.shapes} == {4, 6, 8, 10, 12, 16}
    model.warm(threading.Event())
    assert len(costs) == len(runtime.shapes)


def test_warming_that_was_stopped_goes_on_where_it_was(top):
    stop = threading.Event()
    runtime = Recording()
    model = load(top, runtime=runtime)
    runtime.shapes.clear()
    network = model._networks.wide

    class Stopping:
        def run(self, ids, mask, pooled):
            if len(runtime.shapes) == 2:
                stop.set()
            return network.run(ids, mask, pooled)

    model._networks = Networks(network, Stopping())
    model.warm(stop)
    first = len(runtime.shapes)
    model.warm(threading.Event())

    assert first == 3
    assert len(set(runtime.shapes)) == len(runtime.shapes) > 3


@pytest.mark.parametrize("max_tokens", [3, 5, 16, 256, 384, 514, 8192])
def test_lengths_have_few_steps_and_end_where_the_model_does(top, max_tokens):
    write_json(top / "config.json", BERT | {"max_position_embeddings": max_tokens})
    write_json(top / "sentence_bert_config.json", {"max_seq_length": max_tokens})
    config = BERT | {"max_position_embeddings": max_tokens}
    write_safetensors(top / "model.safetensors", bert_tensors(config))

    ladder = load(top).ladder

    assert ladder.pad(1, max_tokens) == (1, max_tokens)
    assert list(ladder.lengths) == sorted(set(ladder.lengths))
    waste = [ladder.tokens(1, length) / length for length in range(129, max_tokens + 1)]
    assert max(waste, default=1) < 1.12
    assert len(ladder.lengths) <= 280


@pytest.mark.parametrize(
    ("longest", "padded"),
    [(1, 4), (5, 6), (13, 16), (33, 36), (41, 48), (60, 64), (66, 68), (69, 80), (200, 208)],
)
def test_a_length_is_padded_to_a_multiple_of_16_or_a_little_above_one(longest, padded):
    assert ShapeLadder(ROW_STEPS, length_steps(512)).pad(1, longest) == (1, padded)


# --- precision ---------------------------------------------------------------------------------


def test_a_reduced_precision_is_held_against_f32(top):
    runtime = Recording(error=0.001)

    model = load(top, runtime=runtime, precision="auto")

    assert model.arithmetic.precision == "bf16"
    assert 0.999 < model.cosine < 1
    assert runtime.compiled == ["f32", "bf16", "bf16"]


def test_where_the_device_has_no_faster_arithmetic_auto_is_f32(top):
    runtime = Recording(device="f32")

    model = load(top, runtime=runtime, precision="auto")

    assert (model.arithmetic.precision, model.cosine, runtime.compiled) == (
        "f32",
        None,
        ["f32", "f32"],
    )


@pytest.mark.parametrize("error", [1.0, float("nan")])
def test_auto_stays_at_f32_where_the_other_is_too_rough(top, error):
    runtime = Recording(error=error)

    model = load(top, runtime=runtime, precision="auto")

    assert (model.arithmetic.precision, model.cosine) == ("f32", None)
    assert runtime.compiled == ["f32", *["bf16"] * 4, "f32", "f32"]


def test_a_precision_that_was_asked_for_is_used_and_its_cosine_told(top):
    model = load(top, runtime=Recording(error=1.0), precision="bf16")

    assert model.arithmetic.precision == "bf16"
    assert model.cosine < 0.9


def test_the_next_start_needs_f32_no_more(top, tmp_path):
    load(top, runtime=Recording(error=0.001), precision="auto", cache_dir=tmp_path / "cache")
    runtime = Recording(error=0.001)

    model = load(top, runtime=runtime, precision="auto", cache_dir=tmp_path / "cache")

    assert runtime.compiled == ["bf16", "bf16"]
    assert 0.999 < model.cosine < 1


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"x" * 500])
def test_rows_that_were_kept_and_are_damaged_are_computed_again(top, tmp_path, damage):
    load(top, runtime=Recording(), precision="auto", cache_dir=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(damage)
    runtime = Recording()

    load(top, runtime=runtime, precision="auto", cache_dir=tmp_path / "cache")

    assert runtime.compiled == ["f32", "bf16", "bf16"]
    assert np.load(kept).shape == (len(PROBES), 16)


def test_a_cache_that_cannot_be_written_does_no_harm(top, tmp_path):
    (tmp_path / "cache").write_text("a file")

    assert load(top, precision="auto", runtime=Recording(), cache_dir=tmp_path / "cache").cosine


@pytest.mark.skipif(OpenVino().fastest() != "bf16", reason="this processor has no bf16")
def test_bf16_is_close_to_f32(top):
    model = load(top, precision="bf16")

    assert model.cosine > 0.999
    np.testing.assert_allclose(embed(model, *TEXTS), embed(load(top), *TEXTS), atol=0.05)


# --- graphs of files ---------------------------------------------------------------------------


def write_graph(top, *, name="openvino/openvino_model.xml", inputs=(), as_vector=False):
    """Write the encoder of a folder as a graph file, of a family that is not built."""
    source = ModelSource("demo", top)
    folder = ModelFolder(source)
    encoder = read_encoder(folder, "config.json")
    assert encoder is not None
    names = ("input_ids", "attention_mask", "token_type_ids", *inputs)
    given = [op.parameter([-1, -1], ov.Type.i64) for _ in names]
    for parameter, called in zip(given, names, strict=True):
        parameter.output(0).set_names({called})
    ids, mask, *ignored = (op.convert(one, "i32") for one in given)
    states = build_bert(Blocks(encoder, Weights(folder)), ids, mask)
    for one in ignored:
        zero = op.multiply(op.convert(one, "f32"), op.constant(np.float32(0)))
        states = op.add(states, op.unsqueeze(zero, op.constant([2])))
    output = op.reduce_mean(states, op.constant([1])) if as_vector else states
    output.output(0).set_names({"sentence_embedding" if as_vector else "last_hidden_state"})
    (top / name).parent.mkdir(exist_ok=True)
    ov.save_model(ov.Model([output], given), top / name, compress_to_fp16=False)
    (top / "model.safetensors").unlink()
    write_json(top / "config.json", BERT | {"model_type": "other"})


def test_a_graph_of_a_file_gives_what_the_built_one_gives(top):
    expected = embed(load(top), *TEXTS)
    write_graph(top)

    np.testing.assert_allclose(embed(load(top), *TEXTS), expected, atol=1e-6)


def test_a_graph_that_gives_a_vector_is_finished(top):
    expected = embed(load(top), "hello world zz")
    write_graph(top, as_vector=True)

    rows = load(top, dimensions=4).rows([Encoded([2, *range(5, 19), 3], 16)])

    assert rows.shape == (1, 4)
    np.testing.assert_allclose(np.linalg.norm(rows), 1, atol=1e-6)
    assert expected.shape == (1, 16)


def test_a_graph_of_a_family_that_is_built_stands_behind_its_safetensors(top):
    expected = embed(load(top), *TEXTS)
    (top / "openvino").mkdir()
    (top / "openvino/openvino_model.xml").write_text("not read")

    np.testing.assert_array_equal(embed(load(top), *TEXTS), expected)


def test_positions_are_counted_for_graphs_that_want_them(top):
    write_graph(top, inputs=("position_ids",))

    assert embed(load(top), "a").shape == (1, 16)


def test_an_input_that_texts_do_not_give_is_named(top):
    write_graph(top, inputs=("pixel_values",))

    with pytest.raises(UnusableModel, match=r"has the input \['pixel_values'\], which texts"):
        load(top)


@pytest.mark.parametrize("name", ["openvino/openvino_model.xml", "onnx/model.onnx"])
def test_a_graph_that_is_none_is_named(top, name):
    write_graph(top)
    (top / "openvino/openvino_model.xml").rename(top / "openvino/openvino_model.bak")
    (top / name).parent.mkdir(exist_ok=True)
    (top / name).write_bytes(b"\0nothing")

    with pytest.raises(UnusableModel, match=rf"\[{name}\] cannot be read"):
        load(top)


def test_a_graph_without_its_numbers_is_refused(top):
    write_graph(top)
    (top / "openvino/openvino_model.bin").unlink()

    with pytest.raises(UnusableModel, match=r"\[openvino/openvino_model.bin\] is missing"):
        load(top)


def test_int8_needs_a_graph_that_was_quantized(top):
    with pytest.raises(UnusableModel, match=r"no int8 graph in \[openvino/\] or \[onnx/\]"):
        load(top, precision="int8")


def test_int8_runs_the_graph_that_was_quantized(top, tmp_path):
    other = write_model(tmp_path / "other")
    write_graph(other)
    for suffix in ("xml", "bin"):
        (top / "openvino").mkdir(exist_ok=True)
        graph = (other / f"openvino/openvino_model.{suffix}").read_bytes()
        (top / f"openvino/openvino_model_qint8_quantized.{suffix}").write_bytes(graph)

    model = load(top, precision="int8")

    assert model.arithmetic.precision == "int8"
    assert model.cosine > 0.99


# --- what is refused ---------------------------------------------------------------------------


def test_a_folder_without_anything_to_run_says_what_is_missing(top):
    write_json(top / "config.json", BERT | {"model_type": "other"})

    with pytest.raises(
        UnusableModel, match=r"no graph in \[openvino/\] or \[onnx/\], and none is built"
    ):
        load(top)


def test_a_folder_with_a_pickle_only_is_refused(top):
    (top / "model.safetensors").rename(top / "pytorch_model.bin")

    with pytest.raises(UnusableModel, match="is a pickle"):
        load(top)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hidden_size": 32}, r"in the shape \[80, 16\], the configuration asks for \[80, 32\]"),
        ({"num_hidden_layers": 3}, r"lacks the tensor \[encoder.layer.2."),
        ({"num_hidden_layers": 10**9}, r"lacks the tensor \[encoder.layer.2."),
        ({"intermediate_size": 12}, r"tensor \[encoder.layer.0.intermediate.dense.weight\]"),
        ({"vocab_size": 70}, r"has \[77\] tokens, the encoder \[70\]"),
        ({"max_position_embeddings": 10**9}, r"tensor \[embeddings.position_embeddings.weight\]"),
        ({"model_type": "distilbert"}, r"lacks the tensor|in the shape"),
    ],
)
def test_a_configuration_that_does_not_fit_the_weights_is_named(top, changes, problem):
    write_json(top / "config.json", BERT | changes)

    with pytest.raises(UnusableModel, match=problem):
        load(top)


def test_weights_that_are_not_finite_are_refused(top):
    tensors = bert_tensors()
    tensors["embeddings.LayerNorm.bias"][:] = np.nan
    write_safetensors(top / "model.safetensors", tensors)

    with pytest.raises(UnusableModel, match=r"at \[f32\] it gives numbers that are not finite"):
        load(top)


def test_files_with_another_digest_are_refused_before_they_are_read(top):
    (top / "modules.json").write_text("broken")

    with pytest.raises(UnusableModel, match="has the SHA-256"):
        load(top, checksums={"model.safetensors": "0" * 64})


def test_old_names_of_normalization_are_understood(top):
    expected = embed(load(top), *TEXTS)
    older = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): numbers
        for name, numbers in bert_tensors().items()
    }
    write_safetensors(
        top / "model.safetensors", {f"bert.{name}": one for name, one in older.items()}
    )

    np.testing.assert_array_equal(embed(load(top), *TEXTS), expected)


def test_modules_may_come_in_any_spelling_of_their_class(top):
    write_json(
        top / "modules.json", [row | {"type": row["type"].rsplit(".", 1)[1]} for row in MODULES]
    )

    assert embed(load(top), "a").shape == (1, 16)


# --- code --------------------------------------------------------------------------------------


def test_code_in_a_model_folder_is_never_run(top):
    """`auto_map` names classes that other programs import under `trust_remote_code`."""
    trap = top / "it_ran"
    code = f"import pathlib; pathlib.Path({str(trap)!r}).touch()\n"
    for name in ("modeling_trap.py", "tokenization_trap.py", "__init__.py", "conftest.py"):
        (top / name).write_text(code)
    classes = dict.fromkeys(("AutoConfig", "AutoModel"), "modeling_trap.Trap")
    config = {**BERT, "auto_map": classes, "custom_pipelines": {"x": {"impl": "modeling_trap.T"}}}
    write_json(top / "config.json", config)
    tokenizer = {"auto_map": {"AutoTokenizer": ["tokenization_trap.T", None]}}
    write_json(top / "tokenizer_config.json", {**tokenizer, "trust_remote_code": True})
    plain = embed(load(write_model(top.parent / "plain")), "hello world")

    rows = embed(load(top), "hello world")

    np.testing.assert_array_equal(rows, plain)
    assert not trap.exists()
