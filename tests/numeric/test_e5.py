"""An E5 in small, by way of a hub on loopback: prefixes by `input_type`, as sentence-transformers.

Its folder is as the published one: XLM-R, a unigram tokenizer, averaged states of unit length, and
no prompts, which the built-in id has. (Uploaded by eland it is tested with the official clients.)
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from tests.models.hubs import serve_hub
from tests.numeric.random_models import COUNTED, randomized
from tests.server import Server, run_server
from tests.texts import real_texts

TEXTS = real_texts(80)[::2]
LONGEST = 64
CLOSE = 1e-5
PRECONFIGURED = ".multilingual-e5-small-elasticsearch"
SHAPE = {
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "type_vocab_size": 1,
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[SentenceTransformer, Path]:
    """Make the model, and give it with the folder that it is saved in."""
    top = tmp_path_factory.mktemp("e5")
    tokenizer = transformers.XLMRobertaTokenizer(vocab=pieces(), model_max_length=LONGEST)
    model = randomized(
        transformers.AutoModel,
        transformers.XLMRobertaConfig,
        {**SHAPE, **COUNTED, "vocab_size": len(tokenizer)},
        std=0.2,
    )
    model.save_pretrained(top / "encoder")
    tokenizer.save_pretrained(top / "encoder")
    modules = [Transformer(str(top / "encoder")), Pooling(SHAPE["hidden_size"]), Normalize()]
    sentences = SentenceTransformer(modules=modules, device="cpu")
    sentences.save(str(top / "e5"))
    return sentences, top / "e5"


def pieces() -> list[tuple[str, float]]:
    """Train a unigram model, and give its pieces as XLM-R has them."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["query: passage: ", *TEXTS]),
        model_writer=written,
        vocab_size=1500,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    learned = [(trained.id_to_piece(one), trained.get_score(one)) for one in range(len(trained))]
    specials = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    return [*specials, *learned[3:], ("<mask>", 0.0)]


@pytest.fixture(scope="module")
def server(reference, tmp_path_factory):
    """Run a server whose hub has the model."""
    with serve_hub() as hub:
        hub.add("intfloat/multilingual-e5-small", reference[1])
        environment = {
            "INFERRY_ENGINE__PRECISION": "f32",
            "INFERRY_MODELS__ALLOW_DOWNLOAD": "any",
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
        }
        data_dir = tmp_path_factory.mktemp("server") / "data"
        with run_server(data_dir, environment=environment) as running:
            yield running


def put(server: Server, model_id: str) -> str:
    settings = {"model_id": model_id, "num_threads": 1, "num_allocations": 1}
    inference_id = f"on-{model_id.strip('.').replace('/', '-')}"
    path = f"/_inference/text_embedding/{inference_id}"
    body = {"service": "elasticsearch", "service_settings": settings}
    created = server.call("PUT", f"{path}?timeout=60s", body)
    assert created.status == 200, created.content
    return inference_id


def vectors(server: Server, inference_id: str, input_type: str | None) -> Any:
    body: dict[str, Any] = {"input": TEXTS}
    if input_type is not None:
        body["input_type"] = input_type
    reply = server.call("POST", f"/_inference/text_embedding/{inference_id}?timeout=60s", body)
    assert reply.status == 200, reply.content
    return np.array([one["embedding"] for one in reply.json["text_embedding"]])


@pytest.mark.parametrize(
    "model_id", [None, ".multilingual-e5-small", ".multilingual-e5-small_linux-x86_64"]
)
def test_local_row_003_e5_puts_its_prefixes_before_searches_and_documents(
    server, reference, model_id
):
    sentences, _ = reference
    inference_id = put(server, model_id) if model_id else PRECONFIGURED

    for input_type, prefix in (("search", "query: "), ("ingest", "passage: "), (None, "")):
        found = vectors(server, inference_id, input_type)

        expected = sentences.encode([prefix + text for text in TEXTS])
        np.testing.assert_allclose(found, expected, atol=CLOSE)
        shorter = [len(sentences.tokenizer(prefix + text).input_ids) <= LONGEST for text in TEXTS]
        assert True in shorter
        assert False in shorter


def test_e5_under_its_name_at_the_hub_has_no_prefixes_and_says_so(server, reference):
    sentences, _ = reference
    inference_id = put(server, "intfloat/multilingual-e5-small")

    found = vectors(server, inference_id, "search")

    np.testing.assert_allclose(found, sentences.encode(TEXTS), atol=CLOSE)
    assert "models of the E5 family want prompts" in server.log.read_text()
