"""What the emoji encoder is trained for: telling captions apart, and being a sum of word directions.

| symbol | meaning | shape |
|---|---|---|
| z, t | unit-norm embeddings of images and of their captions | (batch, d) |
| w | unit-norm embeddings of the words | (n_words, d) |
| y | 1 where a word is true of an image, else 0 | (batch, n_words) |
| v, c | z and w, less their means, normalised: what sparse linear concept embeddings work with | |

Radford et al. 2021 (CLIP) give the first loss. A CLIP loss alone leaves no sparse decomposition to find: true words
are not the ones an image correlates with. The other three make it one, in the centred space where it is solved.
"""

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name
from torch import Tensor


def centred(embeddings: Tensor) -> Tensor:
    """Rows less their mean, normalised; (n, d) to (n, d)."""
    return F.normalize(embeddings - embeddings.mean(dim=0), dim=-1)


def caption_loss(z: Tensor, t: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of finding each image's caption in the batch, and each caption's image; their mean."""
    logits = scale * z @ t.T
    truth = torch.arange(len(z))
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def word_loss(v: Tensor, c: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Binary cross-entropy of each word of each image, from scale <v, c> + bias; sum over words, mean over images."""
    return F.binary_cross_entropy_with_logits(scale * v @ c.T + bias, y, reduction="sum") / len(v)


def sum_loss(v: Tensor, c: Tensor, y: Tensor) -> Tensor:
    """1 - cosine between an image and the sum of its true words, mean over images: 0 if they explain it entirely."""
    return 1 - (v * F.normalize(y @ c, dim=-1)).sum(dim=-1).mean()


def overlap_loss(c: Tensor) -> Tensor:
    """Squared cosines between different words, summed over the others, mean over words: 0 if all are orthogonal."""
    gram = c @ c.T
    return (gram - torch.eye(len(c))).square().sum() / len(c)
