"""Imports tiny models with the real `eland_import_hub_model`, and says what they say themselves.

Arguments: URL, API key, and a directory to write into. Prints for each model how the import ended,
and what the model in Python gives for the texts: {name: {"id", "code", "output", "expected"}}.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentence_transformers
import sentencepiece
import torch
import transformers
from sentence_transformers import models

URL, API_KEY, TOP = sys.argv[1], sys.argv[2], Path(sys.argv[3])
TEXTS = ["the man is here with her", "they have been new in this house for years"]
QUERY = "who is the man"
WORDS = [
    "the",
    "man",
    "is",
    "here",
    "with",
    "her",
    "they",
    "have",
    "been",
    "new",
    "in",
    "this",
    "house",
    "for",
    "years",
    "who",
    "and",
    "not",
    "all",
    "a",
    "of",
    "to",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 160,
}
SHORT = ["--max-model-input-length", "128"]


def bert_tokenizer(kind=transformers.BertTokenizerFast):
    """Write a vocabulary of whole words and of letters."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokens += [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    file = TOP / "vocab.txt"
    file.write_text("".join(f"{token}\n" for token in dict.fromkeys(tokens)))
    return kind(str(file), model_max_length=128)


def mpnet_tokenizer():
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[UNK]", *WORDS, *LETTERS]
    file = TOP / "mpnet.txt"
    file.write_text("".join(f"{token}\n" for token in dict.fromkeys(tokens)))
    return transformers.MPNetTokenizerFast(str(file), model_max_length=128)


def roberta_tokenizer():
    from tokenizers import ByteLevelBPETokenizer

    trainer = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer.train_from_iterator([" ".join(WORDS)] * 4, vocab_size=400, special_tokens=specials)
    trainer.save_model(str(TOP))
    return transformers.RobertaTokenizerFast(
        str(TOP / "vocab.json"), str(TOP / "merges.txt"), model_max_length=128
    )


def pieces():
    """Train a unigram model of sentencepiece, once."""
    prefix = TOP / "pieces"
    if not prefix.with_suffix(".model").exists():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(WORDS[at:] + WORDS[:at]) for at in range(20)] * 5),
            model_prefix=str(prefix),
            vocab_size=60,
            model_type="unigram",
            hard_vocab_limit=False,
            minloglevel=2,
        )
    return str(prefix.with_suffix(".model"))


def build(name, model_class, config_class, tokenizer, **settings):
    """Save a random model with its tokenizer, and give it with its folder."""
    torch.manual_seed(7)
    config = config_class(vocab_size=len(tokenizer), **{**SMALL, **settings})
    model = model_class(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.2)
    folder = TOP / name
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, folder


def import_model(name, folder, task, *more):
    """Run eland's own command as a user does."""
    ended = subprocess.run(
        [
            str(Path(sys.executable).with_name("eland_import_hub_model")),
            *("--url", URL, "--es-api-key", API_KEY, "--hub-model-id", str(folder)),
            *("--es-model-id", name, "--task-type", task, "--start", *more),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    return {"id": name, "code": ended.returncode, "output": (ended.stdout + ended.stderr)[-2000:]}


def run(model, tokenizer, *texts):
    """Give what a model says of a text or a pair, with token types of zero."""
    given = tokenizer(*texts, return_tensors="pt", truncation=True)
    if "token_type_ids" in given:
        given["token_type_ids"] = torch.zeros_like(given["token_type_ids"])
    with torch.inference_mode():
        return model(**given)


def dense(name, model_class, config_class, tokenizer, *more, **settings):
    """Import a sentence encoder with mean pooling and unit length."""
    _, folder = build(f"{name}-encoder", model_class, config_class, tokenizer, **settings)
    encoder = models.Transformer(str(folder), max_seq_length=128)
    pooling = models.Pooling(encoder.get_word_embedding_dimension())
    sentences = sentence_transformers.SentenceTransformer(
        modules=[encoder, pooling, models.Normalize()], device="cpu"
    )
    sentences.save(str(TOP / name))
    found = import_model(name, TOP / name, "text_embedding", *SHORT, *more)
    return {**found, "expected": sentences.encode(TEXTS).tolist()}


def sparse(name, model_class, config_class, tokenizer, **settings):
    """Import a masked language model; its weights are those of SPLADE pooling."""
    model, folder = build(name, model_class, config_class, tokenizer, **settings)
    found = import_model(name, folder, "text_expansion", *SHORT)
    rows = [run(model, tokenizer, text).logits[0].amax(dim=0) for text in TEXTS]
    expected = [
        {
            tokenizer.convert_ids_to_tokens(int(place)).replace(".", "__"): float(row[place])
            for place in torch.nonzero(row)[:, 0]
        }
        for row in (torch.log1p(torch.relu(row)) for row in rows)
    ]
    return {**found, "expected": expected}


def pairs(name, model_class, config_class, tokenizer, **settings):
    """Import a cross-encoder of one label."""
    model, folder = build(name, model_class, config_class, tokenizer, num_labels=1, **settings)
    found = import_model(name, folder, "text_similarity", *SHORT)
    expected = [float(run(model, tokenizer, QUERY, text).logits[0, 0]) for text in TEXTS]
    return {**found, "expected": expected}


def classes(name, tokenizer):
    """Import a classifier of three labels."""
    labels = {0: "sad", 1: "happy", 2: "neither"}
    model, folder = build(
        name,
        transformers.BertForSequenceClassification,
        transformers.BertConfig,
        tokenizer,
        id2label=labels,
        label2id={label: number for number, label in labels.items()},
    )
    found = import_model(name, folder, "text_classification", *SHORT)
    odds = [torch.softmax(run(model, tokenizer, text).logits[0], -1) for text in TEXTS]
    expected = [dict(zip(labels.values(), one.tolist(), strict=True)) for one in odds]
    return {**found, "expected": expected}


def main():
    t = transformers
    bert = bert_tokenizer()
    roberta = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    xlm = t.XLMRobertaTokenizerFast(pieces(), model_max_length=128)
    deberta = t.DebertaV2TokenizerFast(pieces(), model_max_length=128)
    distances = {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "type_vocab_size": 0,
    }
    distil = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    prefixes = ("--ingest-prefix", "the ", "--search-prefix", "who ")
    seen = {
        "bert text_embedding": dense("bert-dense", t.BertModel, t.BertConfig, bert, *prefixes),
        "mpnet text_embedding": dense(
            "mpnet-dense", t.MPNetModel, t.MPNetConfig, mpnet_tokenizer()
        ),
        "roberta text_embedding": dense(
            "roberta-dense", t.RobertaModel, t.RobertaConfig, roberta_tokenizer(), **roberta
        ),
        "xlm_roberta text_embedding": dense(
            "xlm-dense", t.XLMRobertaModel, t.XLMRobertaConfig, xlm, **roberta
        ),
        "bert text_expansion": sparse("bert-sparse", t.BertForMaskedLM, t.BertConfig, bert),
        "distilbert text_expansion": sparse(
            "distil-sparse",
            t.DistilBertForMaskedLM,
            t.DistilBertConfig,
            bert_tokenizer(t.DistilBertTokenizerFast),
            **distil,
        ),
        "bert text_similarity": pairs(
            "bert-pairs", t.BertForSequenceClassification, t.BertConfig, bert
        ),
        "deberta text_similarity": pairs(
            "deberta-pairs",
            t.DebertaV2ForSequenceClassification,
            t.DebertaV2Config,
            deberta,
            **distances,
        ),
        "bert text_classification": classes("bert-classes", bert),
    }
    sys.stdout.write(json.dumps(seen))


main()
