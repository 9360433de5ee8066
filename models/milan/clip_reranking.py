r"""Rank descriptions by how well a dual encoder matches them to the exemplars.

| symbol | meaning | shape |
|---|---|---|
| x_j, m_j | an exemplar and its mask | (3, H, W), (1, H, W) |
| s | a description of the unit | |
| v(.), u(.) | embedding of a picture and of a text, of unit norm | (d,) |
| w | weight of the whole picture, from 0 to 1 | |

    score(s) = sum_j  (1 - w) v(m_j x_j) . u(s)  +  w v(x_j) . u(s)

What lies outside of a mask is black. The original's factory left w at 1, so that masks were unused; here it is .5. An
encoder of a closed vocabulary is given what it can read of a text, see `readable`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from conceptry.models.encoders.protocol import PackagedEncoder, encode_images, encode_texts
from conceptry.models.milan.readable import readable


def clip_scores(
    encoder: PackagedEncoder, images: np.ndarray, masks: np.ndarray, texts: Sequence[Sequence[str]], weight: float
) -> list[Tensor]:
    """The score of each text of each unit, on the CPU.

    images: uint8 (n, k, 3, H, W). masks: (n, k, 1, H, W), not 0 where the unit is active. texts: of each of the n
    units. weight: w. A text that several units have is encoded once.
    """
    distinct = list(dict.fromkeys(text for unit in texts for text in unit))
    if not distinct:
        return [torch.zeros(0) for _ in texts]
    rows = {text: row for row, text in enumerate(distinct)}
    embedded = normalize(encode_texts(encoder, readable(encoder, distinct)), dim=-1)
    scores: list[Tensor] = []
    for pictures, where, unit in zip(images, masks, texts, strict=True):
        summed = torch.zeros_like(embedded[0])
        for share, seen in ((1 - weight, pictures * (where != 0)), (weight, pictures)):
            if share:
                summed += share * normalize(encode_images(encoder, _pictures(seen)), dim=-1).sum(dim=0)
        scores.append((embedded[[rows[text] for text in unit]] * summed).sum(dim=-1).cpu())
    return scores


def _pictures(pixels: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, -1))) for picture in pixels]
