"""Cross-encoders against transformers and sentence-transformers' `CrossEncoder`, random weights.

The tolerance is 1e-4 on logits of size 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder

from inferry.domain import InputType, TaskType
from inferry.engine.runtimes.openvino import OpenVino
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.models.text_model import FolderModel, load_model
from tests.numeric.random_models import COUNTED, randomized, with_tokenizer
from tests.texts import real_texts

QUERY = "How are returned goods refunded?"
# transformers takes an empty second text for none.
DOCUMENTS = [text for text in real_texts(90)[::3] if text]
TOLERANCE = 1e-4
_WIDE = {"hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 192}
_DEBERTA = {
    **_WIDE,
    "num_hidden_layers": 2,
    "type_vocab_size": 0,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "position_biased_input": False,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
FAMILIES = {
    "bert": (transformers.BertConfig, {**_WIDE, "num_hidden_layers": 2}),
    "roberta": (transformers.RobertaConfig, {**_WIDE, **COUNTED, "num_hidden_layers": 2}),
    "xlm-roberta": (transformers.XLMRobertaConfig, {**_WIDE, **COUNTED, "num_hidden_layers": 1}),
    "mpnet": (transformers.MPNetConfig, {**_WIDE, **COUNTED, "num_hidden_layers": 2}),
    "distilbert": (
        transformers.DistilBertConfig,
        {"dim": 96, "n_heads": 4, "hidden_dim": 192, "n_layers": 2},
    ),
    "deberta-v3": (
        transformers.DebertaV2Config,
        {**_DEBERTA, "position_buckets": 32, "norm_rel_ebd": "layer_norm"},
    ),
    "deberta-v3-of-real-buckets": (
        transformers.DebertaV2Config,
        {**_DEBERTA, "position_buckets": 256, "norm_rel_ebd": "layer_norm"},
    ),
    "deberta-v2-of-plain-distances": (
        transformers.DebertaV2Config,
        {**_DEBERTA, "max_relative_positions": 64, "type_vocab_size": 2},
    ),
    "deberta-of-one-direction": (
        transformers.DebertaV2Config,
        {**_DEBERTA, "pos_att_type": ["c2p"], "position_buckets": 32, "type_vocab_size": 2},
    ),
    "deberta-with-positions": (
        transformers.DebertaV2Config,
        {**_DEBERTA, "position_biased_input": True, "position_buckets": 32},
    ),
}


def write_classifier(folder: Path, family: str = "bert", labels: int = 1):
    config_class, settings = FAMILIES[family]
    model = randomized(
        transformers.AutoModelForSequenceClassification,
        config_class,
        settings,
        num_labels=labels,
    )
    model.save_pretrained(with_tokenizer(folder))
    return model


def load(folder: Path, **more) -> FolderModel:
    source = ModelSource("random", folder, **more)
    return load_model(source, RuntimeOptions(precision="f32"), runtime=OpenVino())


def scores(model: FolderModel, documents=DOCUMENTS):
    encoded = model.encode(documents, InputType.UNSPECIFIED, QUERY)
    parts = [model.rows(encoded[at : at + 4]) for at in range(0, len(encoded), 4)]
    return np.concatenate(parts)[:, 0]


def reference(model, folder, documents=DOCUMENTS, max_length=512):
    """Give the logits of transformers, one pair at a time, cut as we cut."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    takes_types = getattr(model.config, "type_vocab_size", 0) > 1
    logits = []
    for document in documents:
        given = tokenizer(
            QUERY,
            document,
            truncation="only_second",
            max_length=max_length,
            return_tensors="pt",
            return_token_type_ids=takes_types,
        )
        with torch.inference_mode():
            logits.append(model(**given).logits[0].numpy())
    return np.array(logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_what_transformers_gives(tmp_path, family):
    saved = write_classifier(tmp_path, family)

    model = load(tmp_path)

    expected = reference(saved, tmp_path)[:, 0]
    assert model.task_type is TaskType.RERANK
    assert np.ptp(expected) > 100 * TOLERANCE
    np.testing.assert_allclose(scores(model), expected, atol=TOLERANCE, rtol=0)


def test_two_labels_are_no_and_yes(tmp_path):
    saved = write_classifier(tmp_path, labels=2)

    found = scores(load(tmp_path))

    expected = reference(saved, tmp_path)
    np.testing.assert_allclose(found, expected[:, 1] - expected[:, 0], atol=TOLERANCE, rtol=0)


def test_local_row_012_folders_of_sentence_transformers(tmp_path):
    write_classifier(tmp_path / "plain")
    cross_encoder = CrossEncoder(str(tmp_path / "plain"), device="cpu")
    cross_encoder.save_pretrained(str(tmp_path / "saved"))

    found = scores(load(tmp_path / "saved"), DOCUMENTS[:8])

    expected = cross_encoder.predict(
        [(QUERY, document) for document in DOCUMENTS[:8]],
        activation_fn=torch.nn.Identity(),
        show_progress_bar=False,
    )
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
