"""Metrics of milan versions: what is right, how it is worded, how much of a vocabulary is used, and how fast."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from conceptry.evaluation.harness import Metric
from conceptry.evaluation.milan.asking import Described
from conceptry.evaluation.milan.cases import ANNOTATED, COLOURS, PLANTED
from conceptry.evaluation.milan.text_scores import DEFINITIONS, text_scores
from conceptry.evaluation.milan.word_sets import planted_score, properties, property_set_score, shuffled_score

METRICS = {
    "property_set": Metric(
        "higher",
        ".3f",
        "share of units of two properties, not seen together in training, described by exactly the two",
    ),
    "property_set_single": Metric("higher", ".3f", "share of units of one property described by exactly that"),
    "planted": Metric("higher", ".3f", "share of planted concepts that the description names"),
    "planted_shuffled": Metric("lower", ".3f", "the same with the truths of other units: chance"),
    "planted_random": Metric("lower", ".3f", "the same with random pictures in place of exemplars: chance"),
    "colour_units": Metric("higher", ".3f", "share of units of colour arithmetic whose description names the colour"),
    "clip_score": Metric("higher", ".3f", "cosine of descriptions with masked exemplars by a dual encoder, mean"),
    **{name: Metric("higher", ".3f" if name != "bleu" else ".1f", text) for name, text in DEFINITIONS.items()},
    "vocabulary": Metric(None, ".0f", "distinct words of all descriptions"),
    "length": Metric(None, ".2f", "words of a description, mean"),
    "inactive": Metric(None, ".3f", "share of units without any active pixel, which get no description"),
    "units_per_second": Metric("higher", ".1f", "units described in a second, requests of 32 units"),
}
NAMED = ("property_set", "property_set_single", "planted", "colour_units")  # shares of descriptions that are right
METRICS |= {
    f"{baseline}_{name}": Metric(None, ".3f", f"{name} of {title} on the same units")
    for baseline, title in (("clip_dissect", "CLIP-Dissect"), ("net_dissect", "Network Dissection"))
    for name in NAMED
}

_WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*")


def right_names(texts: Sequence[str], described: Sequence[Described]) -> dict[str, float]:
    """How often `texts`, one for each unit, say what is true of it, for the groups of units that there are."""
    pairs = [(text, d.case.group, d.case.truth) for text, d in zip(texts, described, strict=True) if d.case.truth]
    found = {}
    for name, single in (("property_set", False), ("property_set_single", True)):
        known = [(text, truth) for text, group, truth in pairs if group == ANNOTATED and (len(truth) == 1) == single]
        if known:
            found[name] = property_set_score([text for text, _ in known], [truth for _, truth in known])
    for name, group in (("planted", PLANTED), ("colour_units", COLOURS)):
        known = [(text, _only(truth)) for text, its, truth in pairs if its == group]
        if known:
            found[name] = planted_score([text for text, _ in known], [concept for _, concept in known])
    return found


def controls(described: Sequence[Described], random: Sequence[Described], seed: int = 0) -> dict[str, float]:
    """Chance levels of `planted`: with other units' truths, and with random pictures."""
    planted = [d for d in described if d.case.group == PLANTED]
    found = {}
    if len({_only(d.case.truth) for d in planted}) > 1:
        found["planted_shuffled"] = shuffled_score(
            [d.text for d in planted], [_only(d.case.truth) for d in planted], seed
        )
    if random:
        found["planted_random"] = planted_score([d.text for d in random], [_only(d.case.truth) for d in random])
    return found


def wording(described: Sequence[Described]) -> tuple[dict[str, float], list[str]]:
    """BLEU and its like for units with references, and notes on what is left out."""
    known = [d for d in described if d.case.references]
    return text_scores([d.text for d in known], [d.case.references for d in known]) if known else ({}, [])


def use_of_words(described: Sequence[Described]) -> dict[str, float]:
    """Vocabulary, length, share of inactive units."""
    said = [[word.lower() for word in _WORD.findall(d.text)] for d in described if d.answer["active"]]
    found = {"inactive": 1 - len(said) / len(described), "vocabulary": float(len({w for words in said for w in words}))}
    return found | ({"length": float(np.mean([len(words) for words in said]))} if said else {})


def speed(described: Sequence[Described]) -> dict[str, float]:
    return {"units_per_second": len(described) / max(sum(d.seconds for d in described), 1e-9)}


def descriptions_table(described: Sequence[Described]) -> pd.DataFrame:
    """One row for each unit."""
    return pd.DataFrame(
        [
            {"sample": d.case.key, "group": d.case.group, "layer": d.case.layer,
             "unit": d.case.unit if d.case.layer else "", "truth": "; ".join(sorted(d.case.truth or ())),
             "description": d.text, "right": is_right(d), "score": d.answer["score"], "pmi": d.answer["pmi"],
             "log_likelihood": d.answer["log_likelihood"], "active": bool(d.answer["active"]),
             "references": "; ".join(d.case.references)}
            for d in described
        ]
    )  # fmt: skip


def is_right(described: Described) -> bool | None:
    """Whether a description says what is true: exactly the properties of an annotated unit, the concept of others."""
    truth = described.case.truth
    if truth is None:
        return None
    named = properties(described.text)
    return named == truth if described.case.group == ANNOTATED else truth <= named


def _only(truth: frozenset[str] | None) -> str:
    (concept,) = truth or ("",)
    return concept
