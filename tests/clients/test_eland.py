"""The real `eland_import_hub_model` uploads and starts models; they say what they say in Python.

The key of the import has one privilege, `manage_ml`. Every task is tried with several families; all
that there are of both is the long form.
"""

import pytest

from tests.clients.importing import run_importer
from tests.server import Server, run_server

pytestmark = pytest.mark.clients

TEXTS = ["the man is here with her", "they have been new in this house for years"]
QUERY = "who is the man"
LABELS = ["a house", "new", "the years"]
CLOSE = 1e-5

FAMILIES = ("bert", "distilbert", "electra", "mpnet", "roberta", "xlm_roberta", "deberta")
MORE_FAMILIES = ("mobilebert", "squeezebert", "bart")
SHORT = {
    "text_embedding": ("bert", "mpnet", "roberta", "xlm_roberta", "squeezebert"),
    "text_expansion": ("bert", "distilbert"),
    "text_similarity": ("bert", "deberta"),
    "text_classification": ("bert", "electra"),
    "zero_shot_classification": ("bert", "bart"),
    "fill_mask": ("roberta", "deberta"),
    "ner": ("bert", "xlm_roberta"),
    "question_answering": ("bert", "roberta"),
    "pass_through": ("mobilebert",),
}
# transformers has no such class, or eland cannot export what it gives.
MISSING = {
    *(("deberta", task) for task in ("text_embedding", "question_answering")),
    ("distilbert", "pass_through"),
    *(("bart", task) for task in ("text_embedding", "ner", "pass_through", "question_answering")),
    *(("bart", task) for task in ("text_expansion", "fill_mask")),
}


def families(task: str):
    """Give what a task is tried with: a few, and the rest in the long form."""
    return [
        pytest.param(family, marks=() if family in SHORT[task] else pytest.mark.soak)
        for family in (*FAMILIES, *MORE_FAMILIES)
        if (family, task) not in MISSING
    ]


def tried_with(task: str):
    return pytest.mark.parametrize("family", families(task))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("eland") / "data"
    environment = {"INFERRY_ENGINE__PRECISION": "f32"}
    with run_server(data_dir, auth=True, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def imported(server: Server, tmp_path_factory):
    with run_importer(server, tmp_path_factory.mktemp("models")) as importer:
        yield importer


@pytest.fixture
def importing(imported):
    """Give what imports models; they go at the end, so that few take memory at a time."""
    yield imported
    imported.clear()


def infer(server: Server, model_id: str, texts, **config):
    """Ask the model itself about each text."""
    body = {"docs": [{"text_field": text} for text in texts]}
    if config:
        body["inference_config"] = config
    reply = server.call("POST", f"/_ml/trained_models/{model_id}/_infer?timeout=60s", body)
    assert reply.status == 200, reply.content
    return reply.json["inference_results"]


def bare(text, place):
    """Give where a word is, without the blank that transformers takes for a part of it."""
    start, end = place["start"], place["end"]
    return start + (text[start] == " "), end


def close(expected):
    return pytest.approx(expected, abs=CLOSE)


@tried_with("text_embedding")
def test_local_row_001_an_imported_encoder_embeds_as_in_python(server, importing, family):
    seen = importing.start(family, "text_embedding")
    path = importing.attach(seen["id"], "text_embedding")

    for prefix, input_type in (("", None), ("passage: ", "ingest"), ("query: ", "search")):
        body = {"input": TEXTS} | ({"input_type": input_type} if input_type else {})
        reply = server.call("POST", path, body)

        assert reply.status == 200, reply.content
        found = [one["embedding"] for one in reply.json["text_embedding"]]
        for vector, expected in zip(found, seen["expected"][prefix], strict=True):
            assert vector == close(expected)
    for one, expected in zip(infer(server, seen["id"], TEXTS), seen["expected"][""], strict=True):
        assert one["predicted_value"] == close(expected)


@tried_with("text_expansion")
def test_local_row_001_an_imported_language_model_gives_weights_as_in_python(
    server, importing, family
):
    seen = importing.start(family, "text_expansion")
    path = importing.attach(seen["id"], "sparse_embedding")

    reply = server.call("POST", path, {"input": TEXTS})

    assert reply.status == 200, reply.content
    for found, expected in zip(reply.json["sparse_embedding"], seen["expected"], strict=True):
        assert found["embedding"] == close(expected)


@tried_with("text_similarity")
def test_local_row_001_an_imported_cross_encoder_ranks_as_in_python(server, importing, family):
    seen = importing.start(family, "text_similarity")
    path = importing.attach(seen["id"], "rerank")

    reply = server.call("POST", path, {"query": QUERY, "input": TEXTS})
    asked = infer(server, seen["id"], TEXTS, text_similarity={"text": QUERY})

    assert reply.status == 200, reply.content
    scores = {one["index"]: one["relevance_score"] for one in reply.json["rerank"]}
    assert [scores[0], scores[1]] == close(seen["expected"])
    assert [one["predicted_value"] for one in asked] == close(seen["expected"])


@tried_with("text_classification")
def test_local_row_001_an_imported_classifier_tells_classes_as_in_python(server, importing, family):
    seen = importing.start(family, "text_classification")

    found = infer(server, seen["id"], TEXTS)

    for one, expected in zip(found, seen["expected"], strict=True):
        odds = {top["class_name"]: top["class_probability"] for top in one["top_classes"]}
        assert odds == close(expected)
        assert one["predicted_value"] == max(expected, key=expected.get)


@tried_with("zero_shot_classification")
def test_local_row_001_an_imported_model_of_entailment_tells_labels_as_in_python(
    server, importing, family
):
    seen = importing.start(family, "zero_shot_classification")

    for how_many in ("one", "several"):
        config = {"labels": LABELS, "multi_label": how_many == "several"}
        found = infer(server, seen["id"], TEXTS, zero_shot_classification=config)

        for one, expected in zip(found, seen["expected"], strict=True):
            odds = {top["class_name"]: top["class_probability"] for top in one["top_classes"]}
            assert odds == close(dict(zip(LABELS, expected[how_many], strict=True)))


@tried_with("fill_mask")
def test_local_row_001_an_imported_language_model_fills_masks_as_in_python(
    server, importing, family
):
    seen = importing.start(family, "fill_mask")

    found = infer(server, seen["id"], seen["texts"])

    for one, expected in zip(found, seen["expected"], strict=True):
        shown = [(top["class_name"], top["class_probability"]) for top in one["top_classes"]]
        wanted = [top["token_str"].strip().removeprefix("##") for top in expected]
        assert [word for word, _ in shown] == wanted
        assert [chance for _, chance in shown] == close([top["score"] for top in expected])


@tried_with("ner")
def test_local_row_001_an_imported_model_finds_names_as_in_python(server, importing, family):
    seen = importing.start(family, "ner")

    found = infer(server, seen["id"], TEXTS)

    assert any(seen["expected"])
    for text, one, expected in zip(TEXTS, found, seen["expected"], strict=True):
        shown = [
            (entity["class_name"], entity["start_pos"], entity["end_pos"])
            for entity in one["entities"]
        ]
        assert shown == [(top["entity_group"], *bare(text, top)) for top in expected]
        chances = [entity["class_probability"] for entity in one["entities"]]
        assert chances == close([top["score"] for top in expected])


@tried_with("question_answering")
def test_local_row_001_an_imported_model_finds_answers_as_in_python(server, importing, family):
    seen = importing.start(family, "question_answering")

    config = {"question": QUERY, "num_top_classes": 3}
    found = infer(server, seen["id"], TEXTS, question_answering=config)

    for text, one, expected in zip(TEXTS, found, seen["expected"], strict=True):
        answers = [
            (top["answer"], top["start_offset"], top["end_offset"]) for top in one["top_classes"]
        ]
        assert answers == [(top["answer"].strip(), *bare(text, top)) for top in expected]
        assert [top["score"] for top in one["top_classes"]] == close(
            [top["score"] for top in expected]
        )
        assert one["predicted_value"] == expected[0]["answer"].strip()


@tried_with("pass_through")
def test_local_row_001_an_imported_encoder_passes_its_states_through(server, importing, family):
    seen = importing.start(family, "pass_through")

    found = infer(server, seen["id"], TEXTS)

    for one, expected in zip(found, seen["expected"], strict=True):
        assert len(one["predicted_value"]) == len(expected)
        for row, wanted in zip(one["predicted_value"], expected, strict=True):
            assert row == close(wanted)
