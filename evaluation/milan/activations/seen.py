"""Pictures of which no one says what they show: a dual encoder says how likely each shows what a description says.

| symbol | meaning | shape |
|---|---|---|
| s | cosines of the embeddings of pictures and descriptions | (n, D) |
| z | s less its mean over the pictures, in standard deviations over them, description by description | (n, D) |
| y | whether a picture lies in the folder of a class, 0 or 1 | (n, K) |
| c | presence | (n, D) |

    class folders    c = sigmoid(a (s + b)), a and b the logistic regression of y on the cosines with the classes' names
    otherwise        c = sigmoid(SLOPE (z - THRESHOLD))

The first is what Oikarinen and Weng do ("Linear Explanations for Individual Neurons", ICML 2024): of one encoder two
numbers, fitted on labelled pictures. That takes names that the encoder can read: fitted on one half of the pictures,
the names must find their pictures in the other half, else the second rule is taken, and the notes say so. No label
meets an activation.

The second needs no label. An encoder's cosines differ in level and spread from text to text, and standardised they can
share two numbers, which are the logistic regression of known presence on z over all words of the emoji world, of scenes
that nothing is scored on. z says how far a picture stands out from the others: a concept that more than one picture in
seven shows does not stand out so far, and its c stays below 1/2.
"""

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from PIL import Image

from conceptry.evaluation.milan.activations.scores import auprc
from conceptry.evaluation.milan.metrics import dual_encoder, embed_texts
from conceptry.models.errors import plural
from conceptry.models.milan.exemplars.sources import ImageSource

SLOPE, THRESHOLD = 2.87, 2.48
_TIMES_CHANCE = 2.0  # least average precision of the classes' names, over that by chance


class SeenImages:
    """Pictures of a source, and what a dual encoder sees in them.

    encoder: its name; notes: more of them for the report.
    """

    def __init__(self, source: ImageSource, encoder: str, notes: Sequence[str] = ()) -> None:
        self.source, self.encoder, self._notes = source, encoder, tuple(notes)

    @property
    def about(self) -> str:
        """Where c comes from."""
        return f"estimated by {self.encoder}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what c is worth."""
        return (f"what the {len(self.source):,} pictures show is {self.about}, {self._calibration[1]}", *self._notes)

    def names(self, texts: Sequence[str]) -> np.ndarray:
        """Whether there is anything in each description that the encoder reads, bool (D,)."""
        return np.abs(embed_texts(self.encoder, texts)).sum(axis=1) > 0

    def presence(self, texts: Sequence[str]) -> np.ndarray:
        """c of descriptions, float64 (n, D); 0 of those in which the encoder reads nothing."""
        fitted, _ = self._calibration
        cosines = self._cosines(texts)
        found = standardised(cosines) if fitted is None else presence_of(cosines, *fitted)
        return np.where(self.names(texts), found, 0.0)

    def constants(self, texts: Sequence[str]) -> Sequence[str]:
        """The descriptions of all units, each said of all of them."""
        return list(dict.fromkeys(text for text in texts if text)) or [""]

    def drawn(self, text: str) -> None:
        """No picture can be drawn."""

    @cached_property
    def _embedded(self) -> np.ndarray:
        from torch.nn.functional import normalize  # torch is slow to import

        from conceptry.models.encoders.protocol import encode_images

        images = (Image.fromarray(image) for i in range(len(self.source)) for image in self.source.read_images([i]))
        return normalize(encode_images(dual_encoder(self.encoder), images), dim=-1).double().cpu().numpy()

    def _cosines(self, texts: Sequence[str]) -> np.ndarray:
        embedded = embed_texts(self.encoder, texts)
        return self._embedded @ embedded.T if embedded.any() else np.zeros((len(self.source), len(texts)))

    @cached_property
    def _calibration(self) -> tuple[tuple[float, float] | None, str]:
        """a and b where names of class folders give them, else None; and what the calibration is."""
        unlabelled = "calibrated on the emoji world: pictures that stand out for a text"
        if self.source.labels is None:
            return None, unlabelled
        texts = [class_text(name) for name in self.source.classes]
        if not self.names(texts).all():
            return None, f"{unlabelled}; it does not read the names of all {plural(len(texts), 'class folder')}"
        y, cosines = (self.source.labels[:, None] == np.arange(len(texts))).astype(float), self._cosines(texts)
        halves = np.arange(len(y)) % 2 == 0
        a, b = fit(cosines[halves], y[halves])
        precision, chance = found_by_names(presence_of(cosines, a, b)[~halves], y[~halves])
        what = f"the names of {plural(len(y.T), 'class folder')} find their pictures with average precision"
        what += f" {precision:.2f} in the half that fitted nothing, {chance:.2f} by chance"
        if a <= 0 or precision < _TIMES_CHANCE * chance:
            return None, f"{unlabelled}; {what}: too little to calibrate on"
        return fit(cosines, y), f"calibrated on class folders: {what}"


def class_text(name: str) -> str:
    """The name of a class folder as a description: its last part, with spaces for underscores and hyphens."""
    return re.sub(r"[_-]+", " ", name.rpartition("/")[2]).strip()


def standardised(cosines: np.ndarray) -> np.ndarray:
    """c by the second rule of cosines (n, D); 0 where all pictures have the same."""
    spread = cosines.std(axis=0)
    varies = spread > 1e-9
    z = (cosines - cosines.mean(axis=0)) / np.where(varies, spread, 1.0)
    return np.where(varies, presence_of(z, SLOPE, -THRESHOLD), 0.0)


def presence_of(values: np.ndarray, a: float, b: float) -> np.ndarray:
    """sigmoid(a (values + b))."""
    from scipy.special import expit

    return expit(a * (values + b))


def fit(values: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """a and b of the logistic regression of y, 0 or 1, on values, both of any one shape.

    The targets are those of Platt, "Probabilistic Outputs for Support Vector Machines", 1999: (n_1 + 1) / (n_1 + 2) for
    1 and 1 / (n_0 + 2) for 0, so that values which tell the two apart without a mistake have a slope too.
    """
    from sklearn.linear_model import LogisticRegression

    is_one, spread = y.ravel() > 0, float(values.std()) or 1.0
    ones, zeros = is_one.sum(), (~is_one).sum()
    target = np.where(is_one, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    x = np.tile(values.reshape(-1, 1) / spread, (2, 1))
    sides, weights = np.repeat([1, 0], len(target)), np.concatenate([target, 1 - target])
    found = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(x, sides, weights)
    slope, intercept = float(found.coef_[0, 0]) / spread, float(found.intercept_[0])
    return slope, intercept / slope if slope else 0.0


def found_by_names(c: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Average precision of c (n, K) as a prediction of y (n, K), and that by chance: means over classes that occur."""
    occur = y.any(axis=0)
    shares = y[:, occur].mean(axis=0)
    each = [auprc(y[:, k], c[:, k], alpha=float(y[:, k].mean())) for k in np.flatnonzero(occur)]
    return float(np.mean(each)), float(shares.mean())
