"""Scores of descriptions, by their wording and by the properties that they name.

Wording is compared with what people wrote: BLEU, chrF, ROUGE, and BERTScore where its model is present. Texts are
compared in lower case without full stops and spaces at their ends, as in MILAN. BLEU and chrF are of the whole corpus
(sacrebleu); ROUGE (torchmetrics) and BERTScore are means over units of the best reference of each.

| symbol | meaning | shape |
|---|---|---|
| x, y | unit token embeddings of a description, of a reference | (n, d), (m, d) |

BERTScore (Zhang, Kishore, Wu, Weinberger, Artzi, "BERTScore: Evaluating Text Generation with BERT", ICLR 2020):
precision is the mean over tokens of x of the largest cosine with a token of y, recall the same with x and y exchanged,
and F1 their harmonic mean. Without inverse document frequencies and without rescaling, start and end tokens left out.

BLEU rewards the right template around a wrong word; scores of properties do not:

| symbol | meaning |
|---|---|
| P(text) | properties that a text names: words of the emoji vocabulary, plurals and close synonyms folded |
| property set score | share of units with P(description) equal to the unit's properties |
| planted score | share of units whose description names their true concept |
| shuffled | the planted score with every truth replaced by another unit's (a seeded derangement): a control |
"""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conceptry.models.errors import InputError

if TYPE_CHECKING:  # torch and transformers are slow to import
    from torch import Tensor
import re
from collections.abc import Iterable

from conceptry.models.method import whole_number
from conceptry.models.milan.emoji_units.captions import WORD_FORMS

MODEL_VARIABLE = "CONCEPTRY_BERTSCORE_MODEL"
LAYER_VARIABLE = "CONCEPTRY_BERTSCORE_LAYER"
LEFT_OUT = f"bertscore is left out: {MODEL_VARIABLE} names no folder with a model of transformers"

DEFINITIONS = {
    "bleu": "corpus BLEU against all references of each unit, 0 to 100 (sacrebleu)",
    "chrf": "corpus chrF against all references of each unit, 0 to 100 (sacrebleu)",
    "rouge1": "F1 of shared words with the best reference, mean over units, 0 to 1",
    "rouge2": "F1 of shared pairs of words with the best reference, mean over units, 0 to 1",
    "rougeL": "F1 of the longest common subsequence with the best reference, mean over units, 0 to 1",
    "bertscore": f"F1 of matched token embeddings of the model in {MODEL_VARIABLE}, best reference, mean over units",
}

Embed = Callable[[Sequence[str]], "list[Tensor]"]  # of each text, the embeddings (n, d) of its tokens


def normalise(text: str) -> str:
    """The text as it is compared: lower case, no full stops or spaces at its ends."""
    return text.lower().strip(". ")


def text_scores(descriptions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[dict[str, float], list[str]]:
    """The scores of `DEFINITIONS`, and a note on what could not be measured.

    descriptions: one a unit; references: the texts of each unit, at least one, not the same number for all. Raises
    InputError where there are no units, numbers differ, or a unit has no reference with a word.
    """
    said, known = _normalised(descriptions, references)
    scores = _sacrebleu_scores(said, known) | _rouge_scores(said, known)
    embed = bert_embedder()
    if embed is None:
        return scores, [LEFT_OUT]
    return scores | {"bertscore": bert_score(said, known, embed)}, []


def _normalised(descriptions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    if not descriptions or len(descriptions) != len(references):
        raise InputError(
            "expected at least one description and the references of each, "
            f"got {len(descriptions)} descriptions and references of {len(references)} units"
        )
    known = [[text for text in map(normalise, texts) if text] for texts in references]
    if missing := [row for row, texts in enumerate(known) if not texts]:
        raise InputError(f"unit {missing[0]} has no reference; expected one or more texts")
    return [normalise(text) for text in descriptions], known


def _sacrebleu_scores(said: list[str], known: list[list[str]]) -> dict[str, float]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    width = max(map(len, known))
    streams: Any = [[texts[i] if i < len(texts) else None for texts in known] for i in range(width)]
    return {"bleu": BLEU().corpus_score(said, streams).score, "chrf": CHRF().corpus_score(said, streams).score}


def _rouge_scores(said: list[str], known: list[list[str]]) -> dict[str, float]:
    from torchmetrics.functional.text.rouge import rouge_score

    names = ("rouge1", "rouge2", "rougeL")  # rougeLsum would need a tokenizer's data from the network
    found = rouge_score(said, known, accumulate="best", rouge_keys=names)
    return {name: float(found[f"{name}_fmeasure"]) for name in names}


def bert_score(descriptions: Sequence[str], references: Sequence[Sequence[str]], embed: Embed) -> float:
    """Mean over units of the F1 with the best reference. Texts without a token score 0."""
    distinct = sorted({*descriptions, *(text for texts in references for text in texts)})
    tokens = dict(zip(distinct, embed(distinct), strict=True))
    pairs = zip(descriptions, references, strict=True)
    return float(np.mean([max(bert_f1(tokens[said], tokens[text]) for text in texts) for said, texts in pairs]))


def bert_f1(x: "Tensor", y: "Tensor") -> float:
    """Harmonic mean of precision and recall. x: (n, d); y: (m, d); neither need have unit norm."""
    from torch.nn.functional import normalize

    if not len(x) or not len(y):
        return 0.0
    cosines = normalize(x.double(), dim=1) @ normalize(y.double(), dim=1).T
    precision, recall = cosines.amax(dim=1).mean().item(), cosines.amax(dim=0).mean().item()
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def bert_embedder() -> Embed | None:
    """Token embeddings by the model that the environment names, None where it names none. Nothing is downloaded.

    CONCEPTRY_BERTSCORE_MODEL: a folder that transformers wrote; CONCEPTRY_BERTSCORE_LAYER: the hidden layer, the last
    where it is not set. Raises InputError where either does not hold, or transformers is not installed.
    """
    named = os.environ.get(MODEL_VARIABLE, "")
    if not named:
        return None
    if not (Path(named) / "config.json").is_file():
        raise InputError(f"{MODEL_VARIABLE}: expected a folder with a model of transformers, got {named}")
    try:
        import transformers  # pyright: ignore[reportMissingImports]: optional, only users of BERTScore have it
    except ModuleNotFoundError:
        raise InputError(f"{MODEL_VARIABLE} is set, which needs transformers; pip install transformers") from None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(named, local_files_only=True)
        model = transformers.AutoModel.from_pretrained(named, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{MODEL_VARIABLE}: transformers cannot read {named}: {first}") from None
    return functools.partial(_hidden_tokens, tokenizer, model, _layer(model.config.num_hidden_layers))


def _layer(n_layers: int) -> int:
    text = os.environ.get(LAYER_VARIABLE, "") or str(n_layers)
    layer = whole_number(text)
    if layer is None or layer > n_layers:
        raise InputError(f"{LAYER_VARIABLE}: expected a layer from 0 to {n_layers}, got {text}")
    return layer


def _hidden_tokens(tokenizer: Any, model: Any, layer: int, texts: Sequence[str]) -> "list[Tensor]":
    import torch

    found: list[Tensor] = []
    for start in range(0, len(texts), 64):
        given = tokenizer(
            list(texts[start : start + 64]),
            padding=True,
            truncation=True,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        inside = given.pop("special_tokens_mask") == 0
        with torch.inference_mode():
            hidden = model(**given, output_hidden_states=True).hidden_states[layer]
        found += [tokens[kept] for tokens, kept in zip(hidden, inside, strict=True)]
    return found


_WORD = re.compile(r"[a-z]+")


def properties(text: str) -> frozenset[str]:
    """The words of the emoji vocabulary that a text names, each in the vocabulary's own form; any case."""
    return frozenset(WORD_FORMS[word] for word in _WORD.findall(text.lower()) if word in WORD_FORMS)


def is_exact(text: str, truth: Iterable[str]) -> bool:
    """Whether a text names exactly the true properties."""
    return properties(text) == frozenset(truth)


def names_all(text: str, truth: Iterable[str]) -> bool:
    """Whether a text names the true properties, whatever else it names."""
    return frozenset(truth) <= properties(text)


def property_set_score(descriptions: Sequence[str], truths: Sequence[Iterable[str]]) -> float:
    """Share of descriptions that name exactly the true properties. Raises InputError where lengths differ or are 0."""
    _check(descriptions, truths)
    pairs = zip(descriptions, truths, strict=True)
    return sum(is_exact(text, truth) for text, truth in pairs) / len(truths)


def planted_score(descriptions: Sequence[str], truths: Sequence[str]) -> float:
    """Share of descriptions that name the true concept, whatever else they name. Raises InputError as above."""
    _check(descriptions, truths)
    return sum(names_all(text, (truth,)) for text, truth in zip(descriptions, truths, strict=True)) / len(truths)


def shuffled_score(descriptions: Sequence[str], truths: Sequence[str], seed: int = 0, repeats: int = 20) -> float:
    """The planted score with truths that are another unit's, a mean over `repeats` derangements: the chance level."""
    return float(
        np.mean([planted_score(descriptions, derangement(truths, seed + repeat)) for repeat in range(repeats)])
    )


def derangement(truths: Sequence[str], seed: int = 0) -> list[str]:
    """The truths in another order, such that no unit has its own position's (a random cyclic shift of a shuffle).

    Raises InputError for fewer than two.
    """
    if len(truths) < 2:
        raise InputError(f"truths must be at least 2 to be shuffled, got {len(truths)}")
    order = np.random.default_rng(np.random.SeedSequence([seed, 23])).permutation(len(truths))
    shuffled = list(truths)
    for position, source in zip(order, np.roll(order, 1), strict=True):
        shuffled[position] = truths[source]
    return shuffled


def _check(descriptions: Sequence[str], truths: Sequence[object]) -> None:
    if len(descriptions) != len(truths) or not truths:
        raise InputError(
            f"expected as many descriptions as truths, at least 1, got {len(descriptions)} and {len(truths)}"
        )
