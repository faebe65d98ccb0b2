"""Tokenizers rebuilt from a vocabulary alone, against those that the vocabulary comes from.

BERT, MPNet and RoBERTa against transformers, BERT also against its tokenizer in plain Python; XLM-R
and DeBERTa against sentencepiece itself, whose model also has the table that an upload lacks.
Texts with special tokens in them are left out: those are text here, and tokens there. Of the other
393, three come out otherwise in one of the older tokenizers; they are named where they do.
"""

from __future__ import annotations

import io
import json

import pytest
import sentencepiece
import transformers
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from inferry.models.torchscript.vocabulary import Tokenization, Vocabulary, build_tokenizer
from tests.texts import real_texts

SPECIALS = ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "<s>", "</s>", "<mask>", "<pad>", "<unk>")
UNASSIGNED, DECOMPOSED = "\U0010ffff", "e\u0301"
CONTROLS, TIE = "\x85 \x9f", "a" * 99  # the last one is a token there; ways of the same score
TEXTS = [text for text in real_texts(400) if not any(one in text for one in SPECIALS)]
PAIRS = list(zip(TEXTS[:60], TEXTS[60:120], strict=True))


def rules(**given):
    return Tokenization(False, True, 512, "first", -1, **given)


def wordpieces(lowercase, specials):
    trainer = BertWordPieceTokenizer(lowercase=lowercase, strip_accents=lowercase)
    trainer.train_from_iterator(TEXTS, vocab_size=3000, special_tokens=list(specials))
    tokens = trainer.get_vocab()
    return sorted(tokens, key=tokens.__getitem__)


def assert_equal(fast, expected, *, but=()):
    """Compare every text and pair. expected: gives the ids of one or of two texts.

    but: what texts are left out that have it in them.
    """
    for text in TEXTS:
        if any(one in text for one in but):
            continue
        assert fast.encode(text).ids == expected(text), text
    for first, second in PAIRS:
        if any(one in first + second for one in but):
            continue
        assert fast.encode(first, second).ids == expected(first, second), (first, second)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("reference", [transformers.BertTokenizer, BertTokenizerLegacy])
def test_local_row_009_bert_tokenizes_as_transformers_does(lowercase, reference, tmp_path):
    tokens = wordpieces(lowercase, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    settings = Tokenization(lowercase, True, 512, "first", -1)
    file = tmp_path / "vocab.txt"
    file.write_text("".join(f"{token}\n" for token in tokens))
    if reference is BertTokenizerLegacy:
        expected = reference(str(file), do_lower_case=lowercase)
    else:
        ids = {token: number for number, token in enumerate(tokens)}
        expected = reference(vocab=ids, do_lower_case=lowercase)

    fast = build_tokenizer("bert", Vocabulary(tokens), settings)

    # The one in plain Python takes what is no character for a control character, and composes.
    but = (UNASSIGNED, DECOMPOSED) if reference is BertTokenizerLegacy else ()
    assert_equal(fast, lambda *texts: expected(*texts)["input_ids"], but=but)


def test_local_row_009_mpnet_tokenizes_as_transformers_does():
    tokens = wordpieces(True, ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "[UNK]"))
    ids = {token: number for number, token in enumerate(tokens)}
    expected = transformers.MPNetTokenizer(vocab=ids, do_lower_case=True)

    settings = Tokenization(True, True, 512, "first", -1)
    fast = build_tokenizer("mpnet", Vocabulary(tokens), settings)

    assert_equal(fast, lambda *texts: expected(*texts)["input_ids"])


@pytest.mark.parametrize("add_prefix_space", [True, False])
def test_local_row_009_roberta_tokenizes_as_transformers_does(add_prefix_space):
    trainer = ByteLevelBPETokenizer(add_prefix_space=add_prefix_space)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer.train_from_iterator(TEXTS, vocab_size=3000, special_tokens=specials)
    ids = trainer.get_vocab()
    merges = _merges_of(trainer)
    expected = transformers.RobertaTokenizer(
        vocab=ids,
        merges=[tuple(merge.split(" ")) for merge in merges],
        add_prefix_space=add_prefix_space,
    )

    tokens = sorted(ids, key=ids.__getitem__)
    settings = rules(add_prefix_space=add_prefix_space)
    fast = build_tokenizer("roberta", Vocabulary(tokens, merges), settings)

    assert_equal(fast, lambda *texts: expected(*texts)["input_ids"])


def _merges_of(trainer):
    model = json.loads(trainer.to_str())["model"]
    return [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]


@pytest.fixture(scope="module")
def pieces():
    """Train a unigram model as XLM-R's was."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=written,
        vocab_size=2000,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def test_local_row_009_xlm_roberta_tokenizes_as_sentencepiece_does(pieces):
    trained = [(pieces.id_to_piece(one), pieces.get_score(one)) for one in range(len(pieces))]
    specials = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    rows = [*specials, *trained[3:], ("<mask>", 0.0)]
    vocabulary = Vocabulary([name for name, _ in rows], scores=[score for _, score in rows])
    fast = build_tokenizer("xlm_roberta", vocabulary, rules())

    def expected(*texts):
        # Ids of pieces are one higher than sentencepiece's; its unknown one is ours of `<unk>`.
        parts = [[one + 1 if one else 3 for one in pieces.encode(text)] for text in texts]
        return [0, *parts[0], 2, *([2, *parts[1], 2] if len(parts) > 1 else [])]

    assert_equal(fast, expected, but=[CONTROLS, TIE])


def test_local_row_009_deberta_tokenizes_as_sentencepiece_does(pieces):
    trained = [(pieces.id_to_piece(one), pieces.get_score(one)) for one in range(len(pieces))]
    specials = [("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0)]
    rows = [*specials, *trained[3:], ("[MASK]", 0.0)]
    vocabulary = Vocabulary([name for name, _ in rows], scores=[score for _, score in rows])
    fast = build_tokenizer("deberta_v2", vocabulary, rules())

    def expected(*texts):
        parts = [[one + 1 if one else 3 for one in pieces.encode(text)] for text in texts]
        return [1, *parts[0], 2, *([*parts[1], 2] if len(parts) > 1 else [])]

    assert_equal(fast, expected, but=[CONTROLS, TIE])
