"""What the configuration files of a folder say about how it is run, in old and new layouts."""

from __future__ import annotations

import numpy as np
import pytest

from inferry.domain import InputType
from inferry.errors import UnusableModel
from inferry.modeling import ModelSource
from inferry.models.folder import ModelFolder
from inferry.models.heads import Cut, Dense, LayerNorm, Normalize, Pooling
from inferry.models.pipeline import read_pipeline
from tests.models.folders import BERT, MODULES, write_json, write_model, write_safetensors


@pytest.fixture
def top(tmp_path):
    return write_model(tmp_path)


def read(top, **changes):
    source = ModelSource("demo", top, **changes)
    return read_pipeline(ModelFolder(source), source)


def add_module(top, kind, path=""):
    row = {
        "idx": 3,
        "name": "3",
        "path": path or f"3_{kind}",
        "type": f"sentence_transformers.{kind}",
    }
    write_json(top / "modules.json", [*MODULES[:2], row])


# --- modules -----------------------------------------------------------------------------------


def test_modules_are_told_by_the_last_part_of_their_class(top):
    newer = [
        {
            "idx": 0,
            "name": "0",
            "path": "",
            "type": "sentence_transformers.base.modules.Transformer",
        },
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.x.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.x.Normalize"},
    ]
    older = read(top).head
    write_json(top / "modules.json", newer)

    assert read(top).head == older
    assert older.steps == (Pooling(("mean",)), Normalize())
    assert older.width == 16


def test_a_folder_without_modules_averages_and_says_so(top):
    (top / "modules.json").unlink()

    pipeline = read(top)

    assert pipeline.head.steps == (Pooling(("mean",)),)
    assert "averaged" in pipeline.remarks[0]


def test_an_encoder_may_have_a_folder_of_its_own(top):
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json"):
        (top / "0_Transformer").mkdir(exist_ok=True)
        (top / name).rename(top / "0_Transformer" / name)
    write_json(top / "modules.json", [MODULES[0] | {"path": "0_Transformer"}, *MODULES[1:]])

    pipeline = read(top)

    assert pipeline.transformer.file("config.json") == "0_Transformer/config.json"
    assert pipeline.max_tokens == 16


@pytest.mark.parametrize("kind", ["CNN", "StaticEmbedding", "WordWeights", "os.system"])
def test_a_module_that_cannot_be_run_is_named(top, kind):
    add_module(top, kind)

    with pytest.raises(UnusableModel, match=r"has the module \[\w+\], which cannot be run"):
        read(top)


def test_the_first_module_is_an_encoder(top):
    write_json(top / "modules.json", [MODULES[1]])

    with pytest.raises(UnusableModel, match=r"begins with the module \[Pooling\]"):
        read(top)


@pytest.mark.parametrize(
    "modules", [[MODULES[0]], [MODULES[0], MODULES[2]], [*MODULES[:2], MODULES[1]]]
)
def test_an_encoder_is_followed_by_one_pooling(top, modules):
    write_json(top / "modules.json", modules)

    with pytest.raises(UnusableModel, match="no pooling right after the encoder"):
        read(top)


def test_a_module_that_leads_out_of_the_folder_is_refused(top):
    write_json(top / "modules.json", [MODULES[0], MODULES[1] | {"path": "../1_Pooling"}])

    with pytest.raises(UnusableModel, match="is no path within the folder"):
        read(top)


# --- pooling and what follows ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode": "cls"}, ("cls",)),
        ({"pooling_mode": ["mean", "max"]}, ("mean", "max")),
        ({"pooling_mode_cls_token": True}, ("cls",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, ("lasttoken",)),
        ({"pooling_mode_weightedmean_tokens": True}, ("weightedmean",)),
        ({"word_embedding_dimension": 16}, ("mean",)),
    ],
)
def test_the_pooling_is_read_in_its_old_and_new_form(top, config, modes):
    write_json(top / "1_Pooling/config.json", config)

    pipeline = read(top)

    assert pipeline.head.steps[0] == Pooling(modes)
    assert pipeline.head.width == 16 * len(modes)


@pytest.mark.parametrize("modes", ["median", ["mean", "median"], []])
def test_an_unknown_pooling_is_named(top, modes):
    write_json(top / "1_Pooling/config.json", {"pooling_mode": modes})

    with pytest.raises(UnusableModel, match=r"has the pooling \[.*known are \[cls, max, mean,"):
        read(top)


def test_a_prompt_may_be_left_out_of_the_pooling(top):
    write_json(top / "1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False})

    assert not read(top).head.includes_prompt


def dense(top, weight_shape=(4, 16), **changes):
    add_module(top, "Dense")
    config = {"in_features": 16, "out_features": 4, "bias": True} | changes
    write_json(top / "3_Dense/config.json", config)
    tensors = {
        "linear.weight": np.ones(weight_shape, np.float32),
        "linear.bias": np.ones(4, np.float32),
    }
    write_safetensors(top / "3_Dense/model.safetensors", tensors)


@pytest.mark.parametrize(
    ("function", "activation"),
    [
        ("torch.nn.modules.linear.Identity", "identity"),
        ("torch.nn.modules.activation.Tanh", "tanh"),
        ("torch.nn.GELU", "gelu"),
        ("torch.nn.modules.activation.ReLU", "relu"),
    ],
)
def test_a_dense_layer_narrows_the_vector(top, function, activation):
    dense(top, activation_function=function)

    head = read(top).head

    assert head.width == 4
    assert isinstance(head.steps[1], Dense)
    assert head.steps[1].activation == activation


def test_a_dense_layer_without_bias_has_none(top):
    dense(top, bias=False)

    step = read(top).head.steps[1]

    assert isinstance(step, Dense)
    assert step.bias is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"activation_function": "os.system"}, r"has the activation \[os.system\], known are"),
        ({"in_features": 8}, r"takes \[8\] numbers, what comes before gives \[16\]"),
        ({"weight_shape": (16, 4)}, r"\[linear.weight\] in the shape \[16, 4\].* for \[4, 16\]"),
        ({"module_input_name": "token_embeddings"}, r"works on \[token_embeddings\]"),
        ({"out_features": 0}, "cannot be read"),
    ],
)
def test_a_dense_layer_that_does_not_fit_is_named(top, changes, problem):
    dense(top, **changes)

    with pytest.raises(UnusableModel, match=problem):
        read(top)


def test_a_dense_layer_as_a_pickle_is_refused(top):
    dense(top)
    (top / "3_Dense/model.safetensors").rename(top / "3_Dense/pytorch_model.bin")

    with pytest.raises(UnusableModel, match=r"\[3_Dense/pytorch_model.bin\] is a pickle"):
        read(top)


def test_a_layer_norm_is_read(top):
    add_module(top, "LayerNorm")
    tensors = {"norm.weight": np.ones(16, np.float32), "norm.bias": np.zeros(16, np.float32)}
    write_safetensors(top / "3_LayerNorm/model.safetensors", tensors)

    assert isinstance(read(top).head.steps[1], LayerNorm)


def test_dropout_does_nothing(top):
    add_module(top, "Dropout")

    assert read(top).head.steps == (Pooling(("mean",)),)


# --- Matryoshka --------------------------------------------------------------------------------


def test_a_shorter_vector_gets_unit_length_again(top):
    head = read(top, dimensions=8).head

    assert head.steps[-2:] == (Cut(8), Normalize())
    assert head.width == 8


def test_a_shorter_vector_keeps_its_length_where_the_model_does_not_normalize(top):
    write_json(top / "modules.json", MODULES[:2])

    assert read(top, dimensions=8).head.steps[-1] == Cut(8)


def test_a_model_may_say_how_short_its_vectors_are(top):
    write_json(top / "config_sentence_transformers.json", {"truncate_dim": 4})

    assert read(top).head.width == 4
    assert read(top, dimensions=8).head.width == 8


def test_the_whole_width_cuts_nothing(top):
    assert read(top, dimensions=16).head == read(top).head


@pytest.mark.parametrize("dimensions", [17, 1000, -1])
def test_a_width_that_the_model_does_not_have_is_refused(top, dimensions):
    with pytest.raises(
        UnusableModel, match=rf"it has \[16\] dimensions, asked for are \[{dimensions}\]"
    ):
        read(top, dimensions=dimensions)


# --- pairs -------------------------------------------------------------------------------------


def test_a_folder_may_say_how_pairs_are_cut_and_an_id_before_it(top):
    assert read(top).truncation == "second"

    write_json(top / "config_sentence_transformers.json", {"inferry_truncation": "balanced"})

    assert read(top).truncation == "balanced"
    assert read(top, truncation="first").truncation == "first"


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "tokenizer", "positions", "expected"),
    [
        ({"max_seq_length": 16}, {}, 24, 16),
        ({"max_seq_length": None}, {"model_max_length": 20}, 24, 20),
        ({}, {"model_max_length": 1000000000000000019884624838656}, 24, 24),
        ({"max_seq_length": 100}, {"model_max_length": 100}, 24, 24),
        ({}, {}, 24, 24),
    ],
)
def test_a_text_may_have_the_least_of_what_the_files_allow(
    top, limits, tokenizer, positions, expected
):
    write_json(top / "sentence_bert_config.json", limits)
    write_json(top / "tokenizer_config.json", tokenizer)
    write_json(top / "config.json", BERT | {"max_position_embeddings": positions})

    assert read(top).max_tokens == expected


def test_the_limit_may_be_in_the_file_of_another_family(top):
    (top / "sentence_bert_config.json").rename(top / "sentence_distilbert_config.json")

    assert read(top).max_tokens == 16


def test_lower_case_is_asked_for_beside_the_limit(top):
    write_json(top / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": True})

    assert read(top).lowers_case


# --- prompts and similarity --------------------------------------------------------------------


def prompts(top, **settings):
    write_json(top / "config_sentence_transformers.json", settings)
    return read(top).prompts


@pytest.mark.parametrize(
    ("name", "input_types"),
    [
        ("query", (InputType.SEARCH, InputType.INTERNAL_SEARCH)),
        ("retrieval.query", (InputType.SEARCH, InputType.INTERNAL_SEARCH)),
        ("document", (InputType.INGEST, InputType.INTERNAL_INGEST)),
        ("passage", (InputType.INGEST, InputType.INTERNAL_INGEST)),
        ("classification", (InputType.CLASSIFICATION,)),
        ("clustering", (InputType.CLUSTERING,)),
    ],
)
def test_a_prompt_is_found_by_what_the_text_is_for(top, name, input_types):
    found = prompts(top, prompts={name: "X: "})

    assert {one for one, prompt in found.items() if prompt} == set(input_types)
    assert set(found.values()) == {"X: ", ""}


def test_what_has_no_prompt_of_its_own_has_the_default(top):
    found = prompts(top, prompts={"query": "Q: ", "other": "O: "}, default_prompt_name="other")

    assert found[InputType.SEARCH] == "Q: "
    assert found[InputType.INGEST] == "O: "
    assert found[InputType.UNSPECIFIED] == "O: "


def test_an_empty_prompt_is_none_and_hides_the_default(top):
    found = prompts(
        top, prompts={"query": "", "document": None, "x": "X: "}, default_prompt_name="x"
    )

    assert found[InputType.SEARCH] == found[InputType.INGEST] == ""


def test_prompts_of_the_source_replace_those_of_the_model(top):
    write_json(top / "config_sentence_transformers.json", {"prompts": {"query": "Q: "}})

    found = read(top, prompts={"passage": "P: "}).prompts

    assert found[InputType.INGEST] == "P: "
    assert found[InputType.SEARCH] == ""


def test_an_e5_model_without_prompts_is_remarked(top):
    source = ModelSource("intfloat/multilingual-e5-small", top)

    assert "prompts" in read_pipeline(ModelFolder(source), source).remarks[0]
    assert read(top).remarks == ()


@pytest.mark.parametrize(
    ("named", "similarity"),
    [("cosine", "cosine"), ("dot", "dot_product"), ("euclidean", "l2_norm"), ("manhattan", None)],
)
def test_the_similarity_comes_in_words_of_the_wire(top, named, similarity):
    write_json(top / "config_sentence_transformers.json", {"similarity_fn_name": named})

    assert read(top).similarity == similarity


# --- encoders ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hidden_size": "wide"}, r"\[config.json\] cannot be read"),
        ({"num_attention_heads": 0}, r"\[config.json\] cannot be read"),
        ({"num_attention_heads": 3}, r"has \[3\] attention heads for a width of \[16\]"),
        ({"hidden_act": "quick"}, r"has the activation \[quick\], known are \[gelu,"),
        ({"model_type": "mpnet", "max_position_embeddings": 2}, r"has \[2\] positions, too few"),
    ],
)
def test_an_encoder_that_cannot_be_is_named(top, changes, problem):
    write_json(top / "config.json", BERT | changes)

    with pytest.raises(UnusableModel, match=problem):
        read(top)


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert", "mpnet"])
def test_positions_that_are_counted_begin_behind_the_padding(top, model_type):
    write_json(top / "config.json", BERT | {"model_type": model_type, "pad_token_id": 1})
    write_json(top / "sentence_bert_config.json", {})

    pipeline = read(top)

    assert pipeline.max_tokens == 22
    assert pipeline.padding_id == 1


@pytest.mark.parametrize(
    "changes",
    [{"model_type": "gpt2"}, {"position_embedding_type": "relative_key"}, {"is_decoder": True}],
)
def test_a_family_that_is_not_built_has_no_encoder(top, changes):
    write_json(top / "config.json", BERT | changes)

    pipeline = read(top)

    assert pipeline.encoder is None
    assert pipeline.width == 16


def test_an_encoder_of_unknown_width_is_refused(top):
    write_json(top / "config.json", {"model_type": "unheard-of"})

    with pytest.raises(
        UnusableModel, match=r"does not tell the width of the encoder \[hidden_size\]"
    ):
        read(top)
