"""Does a probe look like its class? Asked of classifiers that share nothing with the probed network.

| symbol | meaning | shape |
|---|---|---|
| p | grey values of a probe, in [0, 1] | (H, W) |
| c | the class that it was drawn for | - |
| R_c | real pictures of the class c | (n_c, H, W) |

5-NN and SVC are fitted on all of R, and asked for the class of p. Margin: the least ||p - r|| over R of other classes
minus the least over R_c; above 0 where the nearest real picture is one of c.

Madry-type robust networks draw probes that people recognise (Santurkar et al. 2019, "Image synthesis with a single
(robust) classifier"); these judges put a number on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conceptry.models.errors import InputError

NEIGHBOURS = 5


@dataclass(frozen=True)
class Reference:
    """Real pictures (n, H, W), grey in [0, 1], and the class of each."""

    images: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """Judgement of n probes: the classes that they see (n,), and the margins (n,).

    `knn`, `svc`: shares of probes in which they see the target; `margin`: the mean of the margins.
    """

    targets: np.ndarray
    knn_classes: np.ndarray
    svc_classes: np.ndarray
    margins: np.ndarray

    @property
    def knn(self) -> float:
        return float(np.mean(self.knn_classes == self.targets))

    @property
    def svc(self) -> float:
        return float(np.mean(self.svc_classes == self.targets))

    @property
    def margin(self) -> float:
        return float(np.mean(self.margins))


def judge(probes: np.ndarray, targets: Sequence[str], reference: Reference) -> Judgement:
    """The judges' word on probes (n, H, W), grey in [0, 1], drawn for the classes `targets`.

    Raises InputError where the pictures differ in size from those of the reference, and for a class that it lacks.
    """
    from sklearn.metrics import pairwise_distances  # slow to import
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    if probes.shape[1:] != reference.images.shape[1:]:
        sizes = [" x ".join(map(str, shape[1:])) for shape in (probes.shape, reference.images.shape)]
        raise InputError(f"probes of {sizes[0]} pixels cannot be judged by pictures of {sizes[1]}")
    labels, wanted = np.array(reference.labels), np.array(targets)
    if missing := sorted(set(wanted.tolist()) - set(reference.labels)):
        raise InputError(
            f"the judges know no class {missing[0]!r}; they know {', '.join(sorted(set(labels.tolist())))}"
        )
    r = reference.images.reshape(len(labels), -1).astype(np.float64)
    p = probes.reshape(len(probes), -1).astype(np.float64)
    distances = pairwise_distances(p, r)
    own = wanted[:, None] == labels
    margins = np.where(own, np.inf, distances).min(axis=1) - np.where(own, distances, np.inf).min(axis=1)
    knn = KNeighborsClassifier(NEIGHBOURS).fit(r, labels).predict(p)
    return Judgement(wanted, knn, SVC().fit(r, labels).predict(p), margins)


def to_grey(images: np.ndarray) -> np.ndarray:
    """Grey values (n, H, W) in [0, 1] of pictures uint8 (n, H, W, 3): the mean of the channels."""
    return images.astype(np.float64).mean(axis=-1) / 255
