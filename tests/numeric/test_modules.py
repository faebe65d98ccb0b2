"""Uploaded TorchScript modules, converted and run, against the modules themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import transformers
from structlog.testing import capture_logs

from inferry.domain import InputType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.engine.runtimes.torchscript import TorchScript
from inferry.errors import BadRequest, UnusableModel
from inferry.modeling import RuntimeOptions
from inferry.models.torchscript.encoding import EncodedText
from inferry.models.torchscript.model import load_module
from inferry.models.torchscript.preparation import prepare_module, read_verdict
from tests.models.torchscript.uploads import write_upload
from tests.numeric.modules import SMALL, mean_and_normalize, random_model, saved, trace

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
    "or",
    "had",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
    "all",
    "her",
    "she",
    "there",
    "would",
    "their",
    "we",
    "him",
    "been",
    "has",
    "when",
    "who",
    "will",
    "no",
    "more",
    "if",
    "out",
    "so",
    "up",
    "said",
    "what",
    "its",
    "about",
    "than",
    "into",
    "them",
    "can",
    "only",
    "other",
    "time",
    "new",
    "some",
    "could",
    "these",
    "two",
    "may",
    "first",
    "then",
    "do",
    "any",
    "like",
    "my",
    "now",
    "over",
    "such",
    "our",
    "man",
    "me",
    "even",
    "most",
    "made",
    "after",
    "also",
    "did",
    "many",
    "off",
    "before",
    "must",
    "well",
    "back",
    "through",
    "years",
    "much",
    "where",
    "your",
    "way",
]
BERT = {"vocabulary": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, ".", ","]}
ANGLES = ["<s>", "<pad>", "</s>", "<unk>"]
MPNET = {"vocabulary": [*ANGLES, "<mask>", "[UNK]", *WORDS, ".", ","]}
PIECES = [*ANGLES, *(f"▁{word}" for word in WORDS), *"abcdefghijklmnopqrstuvwxyz", "▁", "<mask>"]
XLM = {"vocabulary": PIECES, "scores": [0.0] * 4 + [-2.0 - n / 50 for n in range(len(PIECES) - 4)]}
BRACKETS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *PIECES[4:-1], "[MASK]"]
DEBERTA = {"vocabulary": BRACKETS, "scores": XLM["scores"]}
LETTERS = [*ANGLES, "<mask>", "Ġ", *"abcdefghijklmnopqrstuvwxyz", "Ġt", "he", "Ġthe"]
ROBERTA = {"vocabulary": LETTERS, "merges": ["Ġ t", "h e", "Ġt he"]}
TEXTS = (
    "the man is here.",
    "this is a new time, and they have been through many years of it, over and over",
    "one",
    "",
    "when were you in the house with her, and who said that it was so? " * 6,
)
CLOSE = 1e-5


def mean(found):
    return torch.nn.functional.normalize(found[0].mean(dim=1), dim=-1)


FAMILIES: dict[str, tuple[Any, Any, dict[str, Any], int, dict[str, Any]]] = {
    "bert": (transformers.BertModel, transformers.BertConfig, BERT, 4, {}),
    "mpnet": (transformers.MPNetModel, transformers.MPNetConfig, MPNET, 2, {}),
    "roberta": (
        transformers.RobertaModel,
        transformers.RobertaConfig,
        ROBERTA,
        2,
        {"pad_token_id": 1},
    ),
    "xlm_roberta": (
        transformers.XLMRobertaModel,
        transformers.XLMRobertaConfig,
        XLM,
        2,
        {"pad_token_id": 1},
    ),
    "deberta_v2": (
        transformers.DebertaV2Model,
        transformers.DebertaV2Config,
        DEBERTA,
        3,
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
        },
    ),
}


class Trial:
    """An upload, prepared and loaded, and the module it is made of."""

    def __init__(self, source, cache, *, precision="f32") -> None:
        self.source = source
        self.options = RuntimeOptions(threads=2, precision=precision, cache_dir=cache)
        prepare_module(source, self.options, torchscript=TorchScript(), openvino=OpenVino())
        self.verdict = read_verdict(source.module.prepared_in(cache))
        self.model = load_module(source, self.options, torchscript=TorchScript, openvino=OpenVino())
        file = source.folder / source.module.module_file
        self.network = TorchScript().compile(file, self.options, "f32")

    def expected(self, ids):
        """Give what the module itself says of one text, without padding."""
        given = np.array([ids], np.int32)
        return self.network.run(given, np.ones_like(given), None)[0]

    def vectors(self, texts, input_type=InputType.UNSPECIFIED):
        encoded = self.model.encode(texts, input_type)
        answers = self.model.run(encoded)
        return encoded, [np.frombuffer(answer, np.float32) for answer in answers]


@pytest.mark.parametrize("kind", FAMILIES)
def test_local_row_001_a_module_of_every_family_runs_without_pytorch_and_gives_its_vectors(
    kind, tmp_path
):
    model_class, config_class, vocabulary, inputs, more = FAMILIES[kind]
    model = random_model(model_class, config_class, len(vocabulary["vocabulary"]), **more)
    module = trace(model, inputs=inputs, pick=lambda found: found[0][:, 0])
    limits = {"kind": kind, "vocabulary": vocabulary, "max_sequence_length": 64}
    trial = Trial(write_upload(tmp_path / "m", module, **limits), tmp_path)

    encoded, vectors = trial.vectors(TEXTS)

    assert trial.verdict.runtime == "openvino", trial.verdict.reason
    assert trial.verdict.is_batchable
    assert trial.model.dimensions == SMALL["hidden_size"]
    for text, vector in zip(encoded, vectors, strict=True):
        np.testing.assert_allclose(vector, trial.expected(text.ids), atol=CLOSE)
    assert encoded[-1].is_truncated


def test_what_an_earlier_version_made_of_a_module_is_run_until_it_is_made_anew(tmp_path):
    model = random_model(transformers.BertModel, transformers.BertConfig, 120)
    module = trace(model, inputs=4, pick=lambda found: found[0][:, 0])
    source = write_upload(tmp_path / "m", module, vocabulary=BERT, max_sequence_length=64)
    cache = tmp_path / "cache"
    trial = Trial(source, cache)
    assert source.module is not None
    prepared = source.module.prepared_in(cache)
    former = prepared.replace(source.module._prepared_by(1, cache))

    load_module(source, trial.options, torchscript=TorchScript, openvino=OpenVino())
    again = Trial(source, cache)

    assert again.verdict == trial.verdict
    assert prepared.is_dir()
    assert not former.exists()


def test_a_module_that_pools_over_padding_is_run_text_by_text(tmp_path):
    model = random_model(transformers.BertModel, transformers.BertConfig, 120)
    module = trace(model, inputs=4, pick=mean)
    source = write_upload(tmp_path / "m", module, vocabulary=BERT, max_sequence_length=64)
    trial = Trial(source, tmp_path)

    encoded, vectors = trial.vectors(TEXTS)

    assert not trial.verdict.is_batchable
    for text, vector in zip(encoded, vectors, strict=True):
        np.testing.assert_allclose(vector, trial.expected(text.ids), atol=CLOSE)


def test_prefixes_stand_before_searches_and_documents(tmp_path):
    model = random_model(transformers.BertModel, transformers.BertConfig, 120)
    module = trace(model, inputs=4, pick=lambda found: found[0][:, 0])
    prefixes = {"search": "the ", "ingest": "of "}
    source = write_upload(
        tmp_path / "m", module, vocabulary=BERT, prefixes=prefixes, max_sequence_length=64
    )
    trial = Trial(source, tmp_path)

    given = {
        kind: trial.model.encode(["man"], kind)[0].ids
        for kind in (InputType.SEARCH, InputType.INTERNAL_INGEST, InputType.CLASSIFICATION)
    }

    place = BERT["vocabulary"].index
    assert given[InputType.SEARCH] == [2, place("the"), place("man"), 3]
    assert given[InputType.INTERNAL_INGEST] == [2, place("of"), place("man"), 3]
    assert given[InputType.CLASSIFICATION] == [2, place("man"), 3]


@pytest.mark.parametrize("kind", ["rows", "one row of three", "logits of tokens"])
def test_local_row_001_weights_of_tokens_are_those_of_the_module(kind, tmp_path):
    picks = {
        "rows": lambda found: torch.relu(found[0]).amax(dim=1),
        "one row of three": lambda found: torch.relu(found[0]).amax(dim=1, keepdim=True),
        "logits of tokens": lambda found: found,
    }
    words = [*BERT["vocabulary"], "3.5"]
    model = random_model(transformers.BertForMaskedLM, transformers.BertConfig, len(words))
    module = trace(model, inputs=4, pick=picks[kind])
    source = write_upload(
        tmp_path / "m",
        module,
        task="text_expansion",
        vocabulary={"vocabulary": words},
        max_sequence_length=64,
    )
    trial = Trial(source, tmp_path)

    encoded = trial.model.encode(TEXTS, InputType.UNSPECIFIED)
    answers = [msgspec.msgpack.decode(one) for one in trial.model.run(encoded)]

    for text, answer in zip(encoded, answers, strict=True):
        row = trial.expected(text.ids)
        if kind == "logits of tokens":
            row = np.log1p(np.maximum(row.max(axis=0), 0))
        row = row.reshape(-1)
        expected = {words[place].replace(".", "__"): row[place] for place in np.nonzero(row > 0)[0]}
        assert set(answer) == set(expected)
        assert list(answer.values()) == sorted(answer.values(), reverse=True)
        for token, weight in answer.items():
            assert weight == pytest.approx(expected[token], abs=CLOSE)


def test_words_that_a_module_gives_no_weights_are_told_of(tmp_path):
    model = random_model(
        transformers.BertForMaskedLM, transformers.BertConfig, len(BERT["vocabulary"])
    )
    module = trace(model, inputs=4, pick=lambda found: torch.relu(found[0]).amax(dim=1)[:, :-2])
    source = write_upload(
        tmp_path / "m", module, task="text_expansion", vocabulary=BERT, max_sequence_length=32
    )

    with capture_logs() as lines:
        Trial(source, tmp_path)

    (told,) = (line for line in lines if "gives no weights" in line["event"])
    assert told["words"] - told["weights"] == 2


@pytest.mark.parametrize("kind", ["bert", "deberta_v2"])
def test_local_row_001_scores_of_pairs_are_those_of_the_module_with_token_types_of_zero(
    kind, tmp_path
):
    config = {
        "bert": (transformers.BertForSequenceClassification, transformers.BertConfig, BERT, 4),
        "deberta_v2": (
            transformers.DebertaV2ForSequenceClassification,
            transformers.DebertaV2Config,
            DEBERTA,
            3,
        ),
    }
    model_class, config_class, vocabulary, inputs = config[kind]
    more: Any = FAMILIES[kind][4]
    size = len(vocabulary["vocabulary"])
    model = random_model(model_class, config_class, size, num_labels=1, **more)
    source = write_upload(
        tmp_path / "m",
        trace(model, inputs=inputs),
        task="text_similarity",
        kind=kind,
        vocabulary=vocabulary,
        max_sequence_length=32,
        truncate="second",
    )
    trial = Trial(source, tmp_path)

    encoded = trial.model.encode(TEXTS, InputType.UNSPECIFIED, "who is he")
    scores = [np.frombuffer(one, "<f8")[0] for one in trial.model.run(encoded)]

    for text, score in zip(encoded, scores, strict=True):
        assert score == pytest.approx(float(trial.expected(text.ids)[0]), abs=CLOSE)


@pytest.mark.parametrize("combine", ["max", "mean"])
def test_local_row_013_windows_of_a_long_document_are_combined(combine, tmp_path):
    model = random_model(
        transformers.BertForSequenceClassification,
        transformers.BertConfig,
        len(BERT["vocabulary"]),
        num_labels=1,
    )
    source = write_upload(
        tmp_path / "m",
        trace(model, inputs=4),
        task="text_similarity",
        vocabulary=BERT,
        config={"span_score_combination_function": combine},
        max_sequence_length=20,
        truncate="none",
        span=4,
    )
    trial = Trial(source, tmp_path)

    (encoded,) = trial.model.encode([TEXTS[-1]], InputType.UNSPECIFIED, "who is he")
    (answer,) = trial.model.run([encoded])

    assert isinstance(encoded, EncodedText)
    scores = [float(trial.expected(piece.ids)[0]) for piece in encoded.pieces]
    assert len(scores) > 3
    expected = max(scores) if combine == "max" else sum(scores) / len(scores)
    assert np.frombuffer(answer, "<f8")[0] == pytest.approx(expected, abs=CLOSE)
    assert not encoded.is_truncated


def test_a_token_that_is_in_the_vocabulary_and_not_in_the_module_is_refused(tmp_path):
    words = BERT["vocabulary"]
    model = random_model(transformers.BertModel, transformers.BertConfig, len(words) - 1)
    module = trace(model, inputs=4, pick=mean_and_normalize)
    source = write_upload(tmp_path / "m", module, vocabulary=BERT, max_sequence_length=32)

    trial = Trial(source, tmp_path)

    assert trial.verdict.known == len(words) - 1
    (encoded,), (vector,) = trial.vectors(["the man"])
    assert vector == pytest.approx(trial.expected(encoded.ids), abs=CLOSE)
    with pytest.raises(BadRequest, match=rf"token \[{words[-1]}\], .* first \[{len(words) - 1}\]"):
        trial.vectors([f"the man{words[-1]}"])


def test_vectors_of_a_module_are_not_cut(tmp_path):
    model = random_model(transformers.BertModel, transformers.BertConfig, len(BERT["vocabulary"]))
    module = trace(model, inputs=4, pick=mean_and_normalize)
    source = write_upload(tmp_path / "m", module, vocabulary=BERT, max_sequence_length=32)
    trial = Trial(replace(source, dimensions=32), tmp_path)

    assert trial.model.dimensions == 32
    with pytest.raises(UnusableModel, match=r"have \[32\] dimensions .* asked for are \[8\]"):
        Trial(replace(source, dimensions=8), tmp_path / "other")


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("truncate", ["first", "second", "balanced", "none"])
@pytest.mark.parametrize("task", ["text_similarity", "text_embedding"])
def test_a_module_of_any_truncation_is_loaded_though_the_probes_are_long(
    task, truncate, precision, tmp_path
):
    is_pair = task == "text_similarity"
    model = random_model(
        transformers.BertForSequenceClassification,
        transformers.BertConfig,
        len(BERT["vocabulary"]),
        num_labels=1 if is_pair else 8,
    )
    source = write_upload(
        tmp_path / "m",
        trace(model, inputs=4),
        task=task,
        vocabulary=BERT,
        max_sequence_length=5,
        truncate=truncate,
    )
    trial = Trial(source, tmp_path, precision=precision)
    text, query = trial.model.probe

    encoded = trial.model.encode([text], InputType.UNSPECIFIED, query)

    assert len(trial.model.run(encoded)) == 1


class Scripted(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """Control flow that depends on numbers, which no graph has."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(ids.shape[0], 3)
        for place in range(ids.shape[1]):
            if int(ids[0, place]) % 2 == 0:
                total = total + float(place)
        return total


def test_local_row_002_a_hand_made_module_without_special_tokens_works(tmp_path):
    words = ["[PAD]", "[UNK]", *WORDS[:12]]
    source = write_upload(
        tmp_path / "m",
        saved(torch.jit.script(Scripted())),
        vocabulary={"vocabulary": words},
        with_special_tokens=False,
    )
    trial = Trial(source, tmp_path)

    encoded, vectors = trial.vectors(["the of and", "to"])

    assert [text.ids for text in encoded] == [[2, 3, 4], [5]]
    for text, vector in zip(encoded, vectors, strict=True):
        np.testing.assert_allclose(vector, trial.expected(text.ids), atol=CLOSE)


class Different(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """What gives other numbers each time: no graph is equal to it."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.rand(ids.shape[0], 3)


def test_a_module_that_no_graph_is_equal_to_is_run_by_pytorch(tmp_path):
    source = write_upload(tmp_path / "m", saved(torch.jit.script(Different())), vocabulary=BERT)
    trial = Trial(source, tmp_path)

    _, vectors = trial.vectors(["one"])

    assert trial.verdict.runtime == "torchscript"
    assert vectors[0].shape == (3,)


def test_a_quantized_module_gives_its_vectors(tmp_path):
    model = random_model(transformers.BertModel, transformers.BertConfig, 120)
    torch.backends.quantized.engine = "onednn"
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
    module = trace(quantized, inputs=4, pick=lambda found: found[0][:, 0])
    source = write_upload(tmp_path / "m", module, vocabulary=BERT, max_sequence_length=64)
    trial = Trial(source, tmp_path)

    encoded, vectors = trial.vectors(TEXTS)

    for text, vector in zip(encoded, vectors, strict=True):
        np.testing.assert_allclose(vector, trial.expected(text.ids), atol=1e-4)


class Five(torch.nn.Module):  # type: ignore[misc]  # a class without types
    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return a


def test_a_module_with_other_inputs_is_refused(tmp_path):
    source = write_upload(tmp_path / "m", saved(torch.jit.script(Five())))

    with pytest.raises(UnusableModel, match=r"takes \[1\] tensors"):
        Trial(source, tmp_path)


def test_a_module_that_knows_fewer_positions_than_it_says_takes_shorter_texts(tmp_path):
    model = random_model(transformers.BertModel, transformers.BertConfig, 120)
    module = trace(model, inputs=4, pick=lambda found: found[0][:, 0])
    trial = Trial(write_upload(tmp_path / "m", module, vocabulary=BERT), tmp_path)

    encoded, vectors = trial.vectors(["the man " * 300])

    assert trial.verdict.longest == SMALL["max_position_embeddings"]
    assert trial.model.max_tokens == len(encoded[0].ids) == 140
    assert encoded[0].is_truncated
    np.testing.assert_allclose(vectors[0], trial.expected(encoded[0].ids), atol=CLOSE)


class Failing(torch.nn.Module):  # type: ignore[misc]  # a class without types
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ids.reshape(7, 7)


class Raising(torch.nn.Module):  # type: ignore[misc]  # a class without types
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if bool((mask == 1).any()):
            raise RuntimeError("it will not")
        return torch.ones(ids.shape[0], 3)


@pytest.mark.parametrize("module", [Failing(), Raising()])
def test_a_module_that_fails_is_refused(module, tmp_path):
    source = write_upload(tmp_path / "m", saved(torch.jit.script(module)))

    with pytest.raises(UnusableModel, match="fails on a text"):
        Trial(source, tmp_path)

    assert [one.name for one in tmp_path.iterdir()] == ["m"]


def test_a_module_that_opens_files_is_refused(tmp_path):
    class Reading(torch.nn.Module):  # type: ignore[misc]  # a class without types
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.from_file("/etc/passwd", size=1, dtype=torch.uint8)

    source = write_upload(tmp_path / "m", saved(torch.jit.script(Reading())))

    with pytest.raises(UnusableModel, match=r"names \[from_file\], which is for files"):
        Trial(source, tmp_path)


@pytest.mark.parametrize("precision", ["auto", "bf16", "f32"])
def test_a_module_that_gives_no_vectors_is_loaded_without_labels(tmp_path, precision):
    labels = ["entailment", "neutral", "contradiction"]
    model = random_model(
        transformers.BertForSequenceClassification, transformers.BertConfig, 120, num_labels=3
    )
    module = trace(model, inputs=4, pick=lambda found: found[0])
    source = write_upload(
        tmp_path / "m",
        module,
        task="zero_shot_classification",
        vocabulary=BERT,
        config={"classification_labels": labels},
        max_sequence_length=64,
    )

    trial = Trial(source, tmp_path, precision=precision)

    assert trial.model.arithmetic.precision == ("bf16" if precision == "bf16" else "f32")
    assert trial.model.cosine is None


@pytest.mark.skipif(OpenVino().fastest() != "bf16", reason="this processor has no bf16")
@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_a_converted_module_at_reduced_precision_is_held_against_f32(tmp_path, precision):
    model = random_model(transformers.BertModel, transformers.BertConfig, 120)
    module = trace(model, inputs=4, pick=lambda found: found[0][:, 0])
    source = write_upload(tmp_path / "m", module, vocabulary=BERT, max_sequence_length=64)

    trial = Trial(source, tmp_path, precision=precision)

    assert trial.model.arithmetic.precision == "bf16"
    assert trial.model.cosine is not None
    assert trial.model.cosine > 0.99
