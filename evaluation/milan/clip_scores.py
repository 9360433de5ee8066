"""CLIP score: how near a description is to what the unit is active on, to a dual encoder that had no part in it.

| symbol | meaning | shape |
|---|---|---|
| v_j | embedding of exemplar j, black outside of its mask, of unit norm | (d,) |
| u | embedding of the description, of unit norm | (d,) |

    score = mean_j v_j . u,    over units the mean; a unit that is not described counts 0

The encoder of the emoji world reads only the words that it was trained on, so that a description is handed to it as
the caption of what it names: "dogs or cats" as "a dog and a cat"; one that names nothing it knows counts 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from conceptry.evaluation.milan.word_sets import properties
from conceptry.models.zoo.emoji import COLOURS as COLOUR_WORDS
from conceptry.models.zoo.emoji import OBJECTS, PATTERNS, with_article

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

    embedded = normalize(encode_images(_encoder(encoder), seen()), dim=-1).cpu()
    return np.stack([part.mean(dim=0).numpy() for part in embedded.split(counts)])


def clip_score(encoder: str, texts: Sequence[str], means: np.ndarray) -> float:
    """The mean score of descriptions, given mean_j v_j (n, d) of their units."""
    from torch.nn.functional import normalize

    from conceptry.models.encoders.protocol import encode_texts

    read = [emoji_caption(text) if encoder == EMOJI else text for text in texts]
    distinct = sorted(set(filter(None, read)))
    if not distinct:
        return 0.0
    embedded = normalize(encode_texts(_encoder(encoder), distinct), dim=-1).cpu().numpy()
    rows = {text: row for row, text in enumerate(distinct)}
    scores = [float(means[k] @ embedded[rows[text]]) if text else 0.0 for k, text in enumerate(read)]
    return float(np.mean(scores))


def emoji_caption(text: str) -> str:
    """What a description names, in words of the emoji encoder: "red stripes" as "a red striped background"."""
    named = properties(text)
    nouns = " and ".join(with_article(word) for word in OBJECTS if word in named)
    ground = " ".join(word for word in (*COLOUR_WORDS, *PATTERNS) if word in named)
    ground = f"{'an' if ground[:1] in set('aeiou') else 'a'} {ground} background" if ground else ""
    return " on ".join(filter(None, (nouns, ground)))


@cache
def _encoder(name: str) -> Any:
    from conceptry.models.encoders.load import load_encoder

    return load_encoder(name)
