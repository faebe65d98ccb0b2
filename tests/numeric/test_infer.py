"""`_infer` with the tasks that no endpoint runs, against PyTorch, at a real server."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from tests.numeric.modules import random_model, trace
from tests.numeric.test_modules import BERT
from tests.numeric.test_uploaded_endpoints import upload
from tests.server import run_server

LIMITS = {"do_lower_case": True, "max_sequence_length": 64}
TEXT = "she was in the house with him, and they were new"
NLI = ["contradiction", "neutral", "entailment"]
ONE = {"docs": [{"text_field": TEXT}]}
CLOSE = 1e-5


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("infer")
    with run_server(root / "data", environment={"INFERRY_ENGINE__PRECISION": "f32"}) as running:
        yield running


@pytest.fixture(scope="module")
def tokenizer():
    ids = {word: number for number, word in enumerate(BERT["vocabulary"])}
    return transformers.BertTokenizer(vocab=ids, do_lower_case=True)


def deployed(server, model_id, model_class, task, *, config=None, labels=0, pick=None):
    """Upload and start a model, and give it; `pick` is what its module gives."""
    more = {"num_labels": labels} if labels else {}
    size = len(BERT["vocabulary"])
    model = random_model(model_class, transformers.BertConfig, size, **more)
    module = trace(model, inputs=4, **({} if pick is None else {"pick": pick}))
    upload(server, model_id, module, task, config=config, **LIMITS)
    start = f"/_ml/trained_models/{model_id}/deployment/_start?timeout=120s"
    started = server.call("POST", start)
    assert started.status == 200, started.content
    return model


def infer(server, model_id, *texts, config=None):
    body = {"docs": [{"text_field": text} for text in texts]}
    if config is not None:
        body["inference_config"] = config
    reply = server.call("POST", f"/_ml/trained_models/{model_id}/_infer?timeout=60s", body)
    assert reply.status == 200, reply.content
    return reply.json["inference_results"]


def logits_of(model, tokenizer, *texts):
    ids = torch.tensor([tokenizer(*texts)["input_ids"]])
    with torch.inference_mode():
        return model(input_ids=ids, token_type_ids=torch.zeros_like(ids)), ids[0].tolist()


def softmax(numbers):
    return torch.softmax(torch.as_tensor(numbers, dtype=torch.float64), -1).numpy()


def test_a_word_is_found_for_the_mask(server, tokenizer):
    model = deployed(server, "masked", transformers.BertForMaskedLM, "fill_mask")
    text = "she was in the [MASK] with him"

    (found,) = infer(server, "masked", text, config={"fill_mask": {"num_top_classes": 3}})
    refused, double = infer(server, "masked", "no mask", f"{text} and [MASK]")

    output, ids = logits_of(model, tokenizer, text)
    odds = softmax(output.logits[0, ids.index(4)])
    best = np.argsort(-odds)[:3]
    words = [BERT["vocabulary"][one].removeprefix("##") for one in best]
    assert found["predicted_value"] == words[0]
    assert found["predicted_value_sequence"] == text.replace("[MASK]", words[0])
    assert [one["class_name"] for one in found["top_classes"]] == words
    for one, place in zip(found["top_classes"], best, strict=True):
        assert one["class_probability"] == pytest.approx(odds[place], abs=CLOSE)
    assert "no mask token" in refused["warning"]
    assert "only one [MASK] token" in double["warning"]


def test_a_text_is_classified(server, tokenizer):
    labels = ["sad", "happy", "neither"]
    model = deployed(
        server,
        "classes",
        transformers.BertForSequenceClassification,
        "text_classification",
        config={"classification_labels": labels},
        labels=3,
    )

    first, second = infer(server, "classes", TEXT, "the man is here")

    for text, found in ((TEXT, first), ("the man is here", second)):
        odds = softmax(logits_of(model, tokenizer, text)[0].logits[0])
        assert found["predicted_value"] == labels[int(odds.argmax())]
        assert found["prediction_probability"] == pytest.approx(odds.max(), abs=CLOSE)
        shown = {one["class_name"]: one["class_probability"] for one in found["top_classes"]}
        assert shown == pytest.approx(dict(zip(labels, odds, strict=True)), abs=CLOSE)


@pytest.mark.parametrize("multi_label", [True, False])
def test_labels_of_the_request_are_told_apart(server, tokenizer, multi_label):
    model_id = f"zero-shot-{multi_label}".lower()
    model = deployed(
        server,
        model_id,
        transformers.BertForSequenceClassification,
        "zero_shot_classification",
        config={"classification_labels": NLI, "hypothesis_template": "this is {}"},
        labels=3,
    )
    labels = ["new", "over", "a house"]

    asked = {"zero_shot_classification": {"labels": labels, "multi_label": multi_label}}
    (found,) = infer(server, model_id, TEXT, config=asked)
    refused = server.call("POST", f"/_ml/trained_models/{model_id}/_infer", ONE)

    rows = [logits_of(model, tokenizer, TEXT, f"this is {one}")[0].logits[0] for one in labels]
    if multi_label:
        odds = [softmax(row[[2, 0]])[0] for row in rows]
    else:
        odds = softmax([float(row[2]) for row in rows])
    shown = {one["class_name"]: one["class_probability"] for one in found["top_classes"]}
    assert shown == pytest.approx(dict(zip(labels, odds, strict=True)), abs=CLOSE)
    assert found["predicted_value"] == labels[int(np.argmax(odds))]
    assert refused.status == 400
    assert "[labels] is required" in refused.json["error"]["reason"]


def test_names_are_found_and_written_into_the_text(server, tokenizer):
    labels = ["O", "B_PER", "I_PER", "B_LOC", "I_LOC"]
    model = deployed(
        server,
        "names",
        transformers.BertForTokenClassification,
        "ner",
        config={"classification_labels": labels},
        labels=5,
    )

    (found,) = infer(server, "names", TEXT)

    output, ids = logits_of(model, tokenizer, TEXT)
    tags = [labels[one] for one in output.logits[0, 1:-1].argmax(-1).tolist()]
    assert len(tags) == len(ids) - 2
    marked = sum(tag != "O" for tag in tags)
    assert 0 < len(found["entities"]) <= marked
    for one in found["entities"]:
        assert TEXT[one["start_pos"] : one["end_pos"]] == one["entity"]
        assert f"[{one['entity']}]({one['class_name']}&" in found["predicted_value"]


def test_an_answer_is_found_in_the_text(server, tokenizer):
    def both(found):
        return torch.stack(list(found[:2]), dim=0)

    model = deployed(
        server, "answers", transformers.BertForQuestionAnswering, "question_answering", pick=both
    )
    asked = {"question_answering": {"question": "who was it", "num_top_classes": 3}}

    (found,) = infer(server, "answers", TEXT, config=asked)

    output, ids = logits_of(model, tokenizer, "who was it", TEXT)
    first = ids.index(3) + 1
    starts, ends = (
        np.where(_is_answer(len(ids), first), one[0].numpy(), -10_000.0)
        for one in (output.start_logits, output.end_logits)
    )
    odds = np.outer(softmax(starts), softmax(ends))
    best = max(
        odds[start, end]
        for start in range(first, len(ids) - 1)
        for end in range(start, min(start + 15, len(ids) - 1))
    )
    assert found["prediction_probability"] == pytest.approx(best, abs=CLOSE)
    assert TEXT[found["start_offset"] : found["end_offset"]] == found["predicted_value"]
    assert len(found["top_classes"]) == 3


def _is_answer(tokens, first):
    places = np.arange(tokens)
    return (places == 0) | ((places >= first) & (places < tokens - 1))


def test_numbers_are_passed_through(server, tokenizer):
    model = deployed(
        server, "numbers", transformers.BertModel, "pass_through", pick=lambda found: found[0]
    )

    (found,) = infer(server, "numbers", TEXT)

    output, _ = logits_of(model, tokenizer, TEXT)
    np.testing.assert_allclose(
        found["predicted_value"], output.last_hidden_state[0].numpy(), atol=CLOSE
    )


def test_an_endpoint_on_a_model_for_another_task_is_refused(server):
    body = {
        "service": "elasticsearch",
        "service_settings": {"deployment_id": "masked", "num_threads": 1, "num_allocations": 1},
    }

    refused = server.call("PUT", "/_inference/text_embedding/on-masked", body)

    assert refused.status == 400
    assert "which does not map to any supported task types" in refused.json["error"]["reason"]
