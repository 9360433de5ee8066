"""Metrics of MILAN versions: what is right, how it is worded, how much of a vocabulary is used, and how fast.

The CLIP score says how near a description is to what the unit is active on, to a dual encoder that had no part in it:

| symbol | meaning | shape |
|---|---|---|
| v_j | embedding of exemplar j, black outside of its mask, of unit norm | (d,) |
| u | embedding of the description, of unit norm | (d,) |

    score = mean_j v_j . u,    over units the mean; a unit that is not described counts 0

The encoder of the emoji world reads only the words that it was trained on, so that a description is handed to it as
the caption of what it names: "dogs or cats" as "a dog and a cat"; one that names nothing it knows counts 0.

Baselines describe the same units from the data alone, so that they are the same for every version:

| baseline | needs | says |
|---|---|---|
| net_dissect | the pixels of every concept | the concept of the largest IoU with the masks |
| clip_dissect | the encoder zoo:emoji-clip, its vocabulary | the word that a unit's exemplars share beyond others |
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.harness import Metric
from conceptry.evaluation.milan.client import ANNOTATED, COLOURS, PLANTED, CaseDescription, UnitCase
from conceptry.evaluation.milan.text_scores import (
    DEFINITIONS,
    is_exact,
    names_all,
    planted_score,
    properties,
    shuffled_score,
    text_scores,
)
from conceptry.models.zoo.emoji_world.emoji import COLOURS as COLOUR_WORDS
from conceptry.models.zoo.emoji_world.emoji import OBJECTS, PATTERNS, VOCABULARY, with_article

if TYPE_CHECKING:
    from conceptry.models.milan.baselines.clip_dissect import ClipDissect
    from conceptry.models.zoo.emoji_world.scenes import Scene


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


def right_names(texts: Sequence[str], described: Sequence[CaseDescription]) -> dict[str, list[float]]:
    """Whether each of `texts`, one for each unit, says what is true of it, by group of units: 0 or 1, else NaN."""

    def scores(group: str, is_right: Callable[[str, frozenset[str]], bool], sizes: Container[int]) -> list[float]:
        return [
            float(is_right(text, d.case.truth))
            if d.case.truth and d.case.group == group and len(d.case.truth) in sizes
            else math.nan
            for text, d in zip(texts, described, strict=True)
        ]

    found = {
        "property_set": scores(ANNOTATED, is_exact, range(2, 99)),
        "property_set_single": scores(ANNOTATED, is_exact, (1,)),
        "planted": scores(PLANTED, names_all, (1,)),
        "colour_units": scores(COLOURS, names_all, (1,)),
    }
    return {name: values for name, values in found.items() if not all(map(math.isnan, values))}


def controls(
    described: Sequence[CaseDescription], random: Sequence[CaseDescription], seed: int = 0
) -> dict[str, float]:
    """Chance levels of `planted`: with other units' truths, and with random pictures."""
    planted = [d for d in described if d.case.group == PLANTED]
    found = {}
    if len({_only(d.case.truth) for d in planted}) > 1:
        found["planted_shuffled"] = shuffled_score(
            [d.description for d in planted], [_only(d.case.truth) for d in planted], seed
        )
    if random:
        found["planted_random"] = planted_score([d.description for d in random], [_only(d.case.truth) for d in random])
    return found


def wording(described: Sequence[CaseDescription]) -> tuple[dict[str, float], list[str]]:
    """BLEU and its like for units with references, and notes on what is left out."""
    known = [d for d in described if d.case.references]
    return text_scores([d.description for d in known], [d.case.references for d in known]) if known else ({}, [])


def lengths(described: Sequence[CaseDescription]) -> list[float]:
    """Words of each description, NaN for inactive units."""
    return [float(word_counts(d.description).total()) if d.active else math.nan for d in described]


def vocabulary(described: Sequence[CaseDescription]) -> int:
    """Distinct words of all descriptions."""
    return len({word for d in described if d.active for word in word_counts(d.description)})


def word_counts(text: str) -> Counter[str]:
    """How often a text has each word, in lower case."""
    return Counter(word.lower() for word in _WORD.findall(text))


def speed(described: Sequence[CaseDescription]) -> dict[str, float]:
    return {"units_per_second": len(described) / max(sum(d.seconds for d in described), 1e-9)}


def descriptions_table(described: Sequence[CaseDescription]) -> pd.DataFrame:
    """One row for each unit."""
    return pd.DataFrame(
        [
            {"sample": d.case.key, "group": d.case.group, "layer": d.case.layer,
             "unit": d.case.unit if d.case.layer else "", "truth": "; ".join(sorted(d.case.truth or ())),
             "description": d.description, "right": is_right(d), "score": d.scores["score"], "pmi": d.scores["pmi"],
             "log_likelihood": d.scores["log_likelihood"], "active": d.active,
             "references": "; ".join(d.case.references)}
            for d in described
        ]
    )  # fmt: skip


def is_right(described: CaseDescription) -> bool | None:
    """Whether a description says what is true: exactly the properties of an annotated unit, the concept of others."""
    truth = described.case.truth
    if truth is None:
        return None
    return (is_exact if described.case.group == ANNOTATED else names_all)(described.description, truth)


def _only(truth: frozenset[str] | None) -> str:
    (concept,) = truth or ("",)
    return concept


EMOJI = "zoo:emoji-clip"


def mean_embeddings(encoder: str, units: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """mean_j v_j (n, d) of units, each images uint8 (k, 3, H, W) and masks (k, 1, H, W).

    Raises ConceptryError where the encoder cannot be had.
    """
    from torch.nn.functional import normalize  # torch is slow to import

    from conceptry.models.encoders.protocol import encode_images

    counts: list[int] = []

    def seen() -> Iterator[Image.Image]:
        for images, masks in units:
            counts.append(len(images))
            for pixels in np.moveaxis(images * (masks != 0), 1, -1):
                yield Image.fromarray(np.ascontiguousarray(pixels))

    embedded = normalize(encode_images(dual_encoder(encoder), seen()), dim=-1).cpu()
    return np.stack([part.mean(dim=0).numpy() for part in embedded.split(counts)])


def clip_scores(encoder: str, texts: Sequence[str], means: np.ndarray) -> list[float]:
    """The score of each description, given mean_j v_j (n, d) of their units."""
    return (means * embed_texts(encoder, texts)).sum(axis=1).tolist()


def embed_texts(encoder: str, texts: Sequence[str]) -> np.ndarray:
    """u (n, d) of descriptions; 0 of those in which the encoder reads nothing."""
    from torch.nn.functional import normalize

    from conceptry.models.encoders.protocol import encode_texts

    read = [emoji_caption(text) if encoder == EMOJI else text.strip() for text in texts]
    distinct = sorted(set(filter(None, read)))
    if not distinct:
        return np.zeros((len(read), 1))
    embedded = normalize(encode_texts(dual_encoder(encoder), distinct), dim=-1).cpu().numpy()
    rows = {text: row for row, text in enumerate(distinct)}
    nothing = np.zeros_like(embedded[0])
    return np.stack([embedded[rows[text]] if text else nothing for text in read])


def emoji_caption(text: str) -> str:
    """Put what a description names in words of the emoji encoder: "red stripes" as "a red striped background"."""
    named = properties(text)
    nouns = " and ".join(with_article(word) for word in OBJECTS if word in named)
    ground = " ".join(word for word in (*COLOUR_WORDS, *PATTERNS) if word in named)
    ground = f"{'an' if ground[:1] in set('aeiou') else 'a'} {ground} background" if ground else ""
    return " on ".join(filter(None, (nouns, ground)))


@cache
def dual_encoder(name: str) -> Any:
    """The dual encoder called `name`, read once. Raises ConceptryError where it cannot be had."""
    from conceptry.models.encoders.load import load_encoder

    return load_encoder(name)


REFERENCE_IMAGES = 1000  # by which the baselines know how frequent words and concepts are


def baselines(cases: Sequence[UnitCase]) -> dict[str, list[str]]:
    """Describe units by each baseline: a text for each unit, "" where it names none.

    Only for units of the emoji world: elsewhere neither the pixels of concepts nor a fitting vocabulary is known.
    """
    if not all(case.segmentations for case in cases):
        return {}
    return {"clip_dissect": _clip_dissected(cases), "net_dissect": _dissected(cases)}


def _dissected(cases: Sequence[UnitCase]) -> list[str]:
    from conceptry.models.milan.baselines.network_dissection import dissect  # the package imports torch

    shares = _shares()
    return [
        dissect(masks, case.segmentations, shares).concept or "" for case in cases if (masks := case.masks) is not None
    ]


def _clip_dissected(cases: Sequence[UnitCase]) -> list[str]:
    describer = _describer()
    units = [(case.images, case.masks) for case in cases if case.images is not None and case.masks is not None]
    return [describer.describe(images[None], masks[None])[0].text for images, masks in units]


@cache
def _reference() -> "list[Scene]":
    from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

    scenes = EmojiScenes("train", REFERENCE_IMAGES)
    return [scenes[index] for index in range(REFERENCE_IMAGES)]


@cache
def _shares() -> dict[str, float]:
    """The share of all pixels that each concept of the emoji world covers."""
    from conceptry.models.milan.baselines.network_dissection import concept_shares

    return dict.fromkeys(VOCABULARY, 0.0) | concept_shares([scene.segments for scene in _reference()])


@cache
def _describer() -> "ClipDissect":
    from conceptry.models.encoders.load import load_encoder
    from conceptry.models.milan.baselines.clip_dissect import build_clip_dissect

    images = (Image.fromarray(np.ascontiguousarray(scene.image)) for scene in _reference())
    return build_clip_dissect(load_encoder("zoo:emoji-clip"), VOCABULARY, images)
