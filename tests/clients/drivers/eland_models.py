"""Imports tiny models with the real `eland_import_hub_model`, and says what they say themselves.

Arguments: URL, API key, and a directory to write into. A line of standard input names a family and
a task; it is answered with a line of JSON: {"id", "code", "output", "expected"}, how the import
ended and what the model in Python gives for the texts.
"""

import contextlib
import io
import json
import os
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentence_transformers
import torch
import transformers
from eland_families import FAMILIES, LENGTH
from sentence_transformers import models

URL, API_KEY, TOP = sys.argv[1], sys.argv[2], Path(sys.argv[3])
TEXTS = ["the man is here with her", "they have been new in this house for years"]
QUERY = "who is the man"
LABELS = ["a house", "new", "the years"]
NLI = ["contradiction", "neutral", "entailment"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
COMMAND = next(iter(entry_points(group="console_scripts", name="eland_import_hub_model"))).load()


def import_model(name, folder, task, *more):
    """Run eland's own command as a user does, but for the start of an interpreter."""
    sys.argv[1:] = [
        *("--url", URL, "--es-api-key", API_KEY, "--hub-model-id", str(folder)),
        *("--es-model-id", name, "--task-type", task, "--start", *more),
    ]
    told = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            COMMAND()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:  # noqa: BLE001  whatever it is, the test shows it
            code = 1
            told.write(traceback.format_exc())
    return {"id": name, "code": code, "output": told.getvalue()[-2000:]}


def run(model, tokenizer, *texts):
    """Give what a model says of a text or a pair, with token types of zero."""
    given = tokenizer(*texts, return_tensors="pt", truncation=True)
    if "token_type_ids" in given:
        given["token_type_ids"] = torch.zeros_like(given["token_type_ids"])
    with torch.inference_mode():
        return model(**given)


def labelled(labels):
    """Give the settings of a classifier."""
    numbered = dict(enumerate(labels))
    return {"id2label": numbered, "label2id": {label: one for one, label in numbered.items()}}


def text_embedding(family, name):
    """Import a sentence encoder with mean pooling and unit length, and with E5's prefixes."""
    _, _, folder = family.build(f"{name}-encoder", "Model", TOP)
    encoder = models.Transformer(str(folder), max_seq_length=LENGTH)
    pooling = models.Pooling(encoder.get_word_embedding_dimension())
    sentences = sentence_transformers.SentenceTransformer(
        modules=[encoder, pooling, models.Normalize()], device="cpu"
    )
    sentences.save(str(TOP / name))
    prefixes = ("--ingest-prefix", "passage: ", "--search-prefix", "query: ")
    found = import_model(name, TOP / name, "text_embedding", *prefixes)
    # A text at a time: MobileBERT sees of each word its neighbours, and so the padding of a batch.
    expected = {
        prefix: [sentences.encode(prefix + text).tolist() for text in TEXTS]
        for prefix in ("", "passage: ", "query: ")
    }
    return {**found, "expected": expected}


def text_expansion(family, name):
    """Import a masked language model; its weights are those of SPLADE pooling."""
    model, tokenizer, folder = family.build(name, "ForMaskedLM", TOP)
    found = import_model(name, folder, "text_expansion")
    rows = [run(model, tokenizer, text).logits[0].amax(dim=0) for text in TEXTS]
    expected = [
        {
            tokenizer.convert_ids_to_tokens(int(place)).replace(".", "__"): float(row[place])
            for place in torch.nonzero(row)[:, 0]
        }
        for row in (torch.log1p(torch.relu(row)) for row in rows)
    ]
    return {**found, "expected": expected}


def text_similarity(family, name):
    """Import a cross-encoder of one label."""
    model, tokenizer, folder = family.build(name, "ForSequenceClassification", TOP, num_labels=1)
    found = import_model(name, folder, "text_similarity")
    expected = [float(run(model, tokenizer, QUERY, text).logits[0, 0]) for text in TEXTS]
    return {**found, "expected": expected}


def text_classification(family, name):
    """Import a classifier; expected: how likely each class is."""
    settings = labelled(["sad", "happy", "neither"])
    model, tokenizer, folder = family.build(name, "ForSequenceClassification", TOP, **settings)
    found = import_model(name, folder, "text_classification")
    odds = [torch.softmax(run(model, tokenizer, text).logits[0], -1) for text in TEXTS]
    names = settings["label2id"]
    return {**found, "expected": [dict(zip(names, one.tolist(), strict=True)) for one in odds]}


def zero_shot_classification(family, name):
    """Import a classifier of entailment; expected: how likely each label is, and for itself."""
    settings = labelled(NLI)
    model, tokenizer, folder = family.build(name, "ForSequenceClassification", TOP, **settings)
    found = import_model(name, folder, "zero_shot_classification")
    expected = []
    for text in TEXTS:
        hypotheses = (f"This example is {label}." for label in LABELS)
        rows = torch.stack([run(model, tokenizer, text, one).logits[0] for one in hypotheses])
        expected.append(
            {
                "one": torch.softmax(rows[:, 2], 0).tolist(),
                "several": torch.softmax(rows[:, [0, 2]], 1)[:, 1].tolist(),
            }
        )
    return {**found, "expected": expected}


def fill_mask(family, name):
    """Import a masked language model; expected: words and how likely they are, as transformers."""
    model, tokenizer, folder = family.build(name, "ForMaskedLM", TOP)
    found = import_model(name, folder, "fill_mask")
    fill = transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
    texts = [text.replace("in this", tokenizer.mask_token) for text in TEXTS[1:]]
    return {**found, "texts": texts, "expected": [fill(text, top_k=5) for text in texts]}


def ner(family, name):
    """Import a classifier of tokens; expected: the entities that transformers finds."""
    model, tokenizer, folder = family.build(name, "ForTokenClassification", TOP, **labelled(TAGS))
    found = import_model(name, folder, "ner")
    recognize = transformers.pipeline(
        "token-classification",
        model=model,
        tokenizer=tokenizer,
        aggregation_strategy="average",
        device="cpu",
    )
    expected = [
        [{**one, "score": float(one["score"])} for one in recognize(text)] for text in TEXTS
    ]
    return {**found, "expected": expected}


def question_answering(family, name):
    """Import what finds answers; expected: the three that transformers finds likeliest."""
    model, tokenizer, folder = family.build(name, "ForQuestionAnswering", TOP)
    with torch.no_grad():  # so that the types of transformers and ours, zeros, are the same
        for part, weight in model.named_parameters():
            if "token_type_embeddings" in part and len(weight) > 1:
                weight[1] = weight[0]
    model.save_pretrained(folder)
    found = import_model(name, folder, "question_answering")
    answer = transformers.pipeline(
        "question-answering", model=model, tokenizer=tokenizer, device="cpu"
    )
    expected = [
        answer(question=QUERY, context=text, top_k=3, max_answer_len=15, align_to_words=False)
        for text in TEXTS
    ]
    return {**found, "expected": expected}


def pass_through(family, name):
    """Import an encoder as it is; expected: the states of its tokens."""
    model, tokenizer, folder = family.build(name, "Model", TOP)
    found = import_model(name, folder, "pass_through")
    states = [run(model, tokenizer, text).last_hidden_state[0].tolist() for text in TEXTS]
    return {**found, "expected": states}


TASKS = {
    one.__name__: one
    for one in (
        text_embedding,
        text_expansion,
        text_similarity,
        text_classification,
        zero_shot_classification,
        fill_mask,
        ner,
        question_answering,
        pass_through,
    )
}


def main():
    """Import what each line names."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is for nobody
    for line in sys.stdin:
        family, task = line.split()
        name = f"{family}-{task}".replace("_", "-")
        seen = TASKS[task](FAMILIES[family], name)
        answers.write(json.dumps(seen) + "\n")
        answers.flush()


main()
