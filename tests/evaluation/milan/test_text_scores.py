"""Scores of texts against references: by hand, and against the libraries' own definitions written out."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from conceptry.evaluation.milan.text_scores import (
    DEFINITIONS,
    LAYER_VARIABLE,
    LEFT_OUT,
    MODEL_VARIABLE,
    bert_f1,
    bert_score,
    normalise,
    text_scores,
)
from conceptry.models.errors import InputError


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    monkeypatch.delenv(LAYER_VARIABLE, raising=False)


def ngrams(text, n):
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def literal_bleu(said, known):
    """Papineni et al. 2002: clipped n-gram precisions, brevity penalty by the nearest reference length."""
    hits, totals, said_length, known_length = [0] * 4, [0] * 4, 0, 0
    for text, references in zip(said, known, strict=True):
        length = len(text.split())
        said_length += length
        known_length += min((abs(len(r.split()) - length), len(r.split())) for r in references)[1]
        for n in range(4):
            most = Counter()
            for reference in references:
                most |= ngrams(reference, n + 1)
            found = ngrams(text, n + 1)
            hits[n] += sum((found & most).values())
            totals[n] += sum(found.values())
    penalty = min(1.0, math.exp(1 - known_length / said_length))
    return 100 * penalty * math.prod((h / t) ** 0.25 for h, t in zip(hits, totals, strict=True))


def literal_rouge_n(said, known, n):
    def f1(text, reference):
        a, b = ngrams(text, n), ngrams(reference, n)
        hits = sum((a & b).values())
        return 2 * hits / (sum(a.values()) + sum(b.values())) if a and b else 0.0

    return np.mean([max(f1(text, reference) for reference in texts) for text, texts in zip(said, known, strict=True)])


def literal_lcs(a, b):
    if not a or not b:
        return 0
    return literal_lcs(a[1:], b[1:]) + 1 if a[0] == b[0] else max(literal_lcs(a[1:], b), literal_lcs(a, b[1:]))


SAID = ["red dogs on striped backgrounds", "the sky above the tall trees", "wheels of cars"]
KNOWN = [
    ["dogs on red striped backgrounds", "red dogs on striped backgrounds everywhere", "dogs"],
    ["the sky above trees", "the blue sky above the tall trees and hills"],
    ["the wheels of many cars"],
]


def test_scores_are_those_of_their_definitions():
    scores, notes = text_scores(SAID, KNOWN)
    assert scores["bleu"] == pytest.approx(literal_bleu(SAID, KNOWN))
    assert scores["rouge1"] == pytest.approx(literal_rouge_n(SAID, KNOWN, 1), abs=1e-6)
    assert scores["rouge2"] == pytest.approx(literal_rouge_n(SAID, KNOWN, 2), abs=1e-6)

    def f1(text, reference):
        a, b = text.split(), reference.split()
        return 2 * literal_lcs(a, b) / (len(a) + len(b))

    expected = np.mean([max(f1(text, r) for r in texts) for text, texts in zip(SAID, KNOWN, strict=True)])
    assert scores["rougeL"] == pytest.approx(expected, abs=1e-6)
    assert 0 < scores["chrf"] < 100
    assert notes == [LEFT_OUT]
    assert scores.keys() == DEFINITIONS.keys() - {"bertscore"}


def test_case_and_full_stops_at_the_ends_do_not_count():
    assert normalise(" Dogs. On. grass. ") == "dogs. on. grass"
    scores, _ = text_scores(["Red dogs on GRASS."], [["red dogs on grass", "a cat."]])
    assert scores == pytest.approx({"bleu": 100, "chrf": 100, "rouge1": 1, "rouge2": 1, "rougeL": 1})


def test_nothing_in_common_scores_nothing():
    scores, _ = text_scores(["", "qqq"], [["dogs on grass"], ["mmm nnn"]])
    assert scores["rouge1"] == scores["rouge2"] == scores["rougeL"] == scores["chrf"] == 0
    assert scores["bleu"] == 0


def test_references_in_another_order_score_the_same():
    assert text_scores(SAID, [texts[::-1] for texts in KNOWN]) == text_scores(SAID, KNOWN)


@pytest.mark.parametrize(
    ("said", "known", "message"),
    [
        ([], [], "at least one description"),
        (["a"], [["a"], ["b"]], "got 1 descriptions and references of 2 units"),
        (["a", "b"], [["a"], []], "unit 1 has no reference; expected one or more texts"),
        (["a", "b"], [[" . "], ["b"]], "unit 0 has no reference"),
    ],
)
def test_what_cannot_be_scored_is_refused(said, known, message):
    with pytest.raises(InputError, match=message):
        text_scores(said, known)


def test_matched_embeddings_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    y = torch.tensor([[3.0, 0.0]])
    # precision (1 + 0) / 2, recall 1
    assert bert_f1(x, y) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert bert_f1(y, x) == bert_f1(x, y)
    assert bert_f1(x, x) == pytest.approx(1)
    assert bert_f1(x, y[:0]) == bert_f1(-y, y) == 0


def test_the_best_reference_counts_whatever_the_lengths():
    axes = {word: torch.eye(5)[i] for i, word in enumerate(("dogs", "cats", "on", "grass", "sky"))}

    def embed(texts):
        return [torch.stack([axes[word] for word in text.split()]) for text in texts]

    said = ["dogs on grass", "sky", "cats on grass sky"]
    known = [["sky", "dogs on grass"], ["sky"], ["cats on dogs sky", "grass"]]
    # the third: three of four tokens are found both ways
    assert bert_score(said, known, embed) == pytest.approx((1 + 1 + 0.75) / 3)


def test_a_model_that_is_not_there_is_an_error_not_a_download(monkeypatch, tmp_path):
    monkeypatch.setenv(MODEL_VARIABLE, "roberta-large")
    with pytest.raises(InputError, match="expected a folder with a model of transformers, got roberta-large"):
        text_scores(SAID, KNOWN)
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="expected a folder with a model"):
        text_scores(SAID, KNOWN)


def test_a_folder_with_a_model(monkeypatch, tmp_path):
    transformers = pytest.importorskip("transformers", reason="BERTScore is optional")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "dogs", "on", "striped", "backgrounds", "the"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(tmp_path)
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path))
    scores, notes = text_scores(SAID, KNOWN)
    assert notes == []
    assert 0 < scores["bertscore"] < 1
    assert text_scores([t[0] for t in KNOWN], KNOWN)[0]["bertscore"] == pytest.approx(1)
    monkeypatch.setenv(LAYER_VARIABLE, "3")
    with pytest.raises(InputError, match="expected a layer from 0 to 2, got 3"):
        text_scores(SAID, KNOWN)
