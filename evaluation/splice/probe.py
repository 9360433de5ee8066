"""Linear probe over the weights of words: a concept bottleneck, beside probes over whole embeddings.

A sparse probe reads the class off a few words, so one sees what it lives of, and can take a word away from it.

| symbol | meaning | shape |
|---|---|---|
| W | weights of words, each column over its largest training weight | (n, words) |
| B | coefficients of a multinomial logistic regression with an L1 penalty of strength 1 / C | (classes, words) |

The path runs from few words to many, as that of glmnet: over multiples of the largest C at which B is 0. The probe
that leads is that of the C which does best in cross-validation on the training images alone. Accuracy is measured on
images that no probe has seen. A word is taken away from the answers, so that the probe is fitted without it, or from
the fitted probe, whose coefficients become 0.

Koh et al., "Concept Bottleneck Models", ICML 2020; Yuksekgonul et al., "Post-hoc Concept Bottleneck Models", ICLR 2023.
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from packaging.version import Version as Release
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conceptry.evaluation.intervals import mean_intervals
from conceptry.evaluation.isolation.client import Predict, VersionProcess
from conceptry.evaluation.reports import Report, log_report
from conceptry.evaluation.splice.client import ImageExplanations, explain_images
from conceptry.evaluation.splice.data import ImageData, content_digest, load_images
from conceptry.evaluation.splice.harness import EVALUATION
from conceptry.evaluation.splice.plots import draw_probe
from conceptry.models.errors import InputError, closest
from conceptry.models.method import Progress
from conceptry.registry.versions import Version, check_loggable

GROUP = "probe"  # under which the metrics are logged, beside those of the evaluation
PATH = tuple(np.geomspace(1.1, 300, 14))  # C of the path, over the largest C that leaves no word
EMBEDDING_STRENGTHS = tuple(10.0 ** np.arange(-3, 1.01, 1.0))
HELD_OUT = 0.3  # of the data, where none to train on are named
FOLDS = 5
ITERATIONS, TOLERANCE = 400, 1e-3
SHOWN = 5  # words of each class
_L1: dict[str, Any] = {"l1_ratio": 1.0} if Release(sklearn.__version__) >= Release("1.8") else {"penalty": "l1"}


@dataclass(frozen=True)
class Probe:
    """A fitted probe: coefficients B (classes, words), intercepts (classes,), and its C."""

    coefficients: np.ndarray
    intercepts: np.ndarray
    strength: float

    @property
    def used(self) -> np.ndarray:
        """Positions of the words that it reads."""
        return np.flatnonzero(np.any(self.coefficients != 0, axis=0))

    def classify(self, weights: csr_array) -> np.ndarray:
        """Class of each row of W (n, words): (n,)."""
        return (weights @ self.coefficients.T + self.intercepts).argmax(axis=1)

    def without(self, positions: Sequence[int]) -> "Probe":
        """The same probe with coefficients of 0 for the words at `positions`."""
        kept = self.coefficients.copy()
        kept[:, positions] = 0.0
        return replace(self, coefficients=kept)


def divide(data: ImageData, seed: int) -> tuple[ImageData, ImageData]:
    """Parts of labelled data to train on and to measure on, each class in both. Raises InputError where one cannot."""
    data = _labelled(data)
    labels = [image.label for image in data.images]
    rare = [label for label, count in Counter(labels).items() if count < 2]
    if rare:
        raise InputError(f"{data.name}: the class {rare[0]!r} has one picture; name data to train on, or add pictures")
    try:
        parts = train_test_split(np.arange(len(labels)), test_size=HELD_OUT, random_state=seed, stratify=labels)
    except ValueError:
        raise InputError(
            f"{data.name}: {len(labels)} labelled pictures of {len(set(labels))} classes are too few to hold out "
            f"{HELD_OUT:.0%} of each; name data to train on, or add pictures"
        ) from None
    train, test = ([data.images[i] for i in sorted(part)] for part in parts)
    known = {image.key for image in train}
    test = [image for image in test if image.key not in known]  # a picture that is there twice is no other one
    if not test:
        raise InputError(f"{data.name}: holds the same pictures again and again; a probe is measured on others")
    return tuple(  # type: ignore[return-value]
        replace(data, name=f"{data.name} ({what})", digest=content_digest(part, data.suppressed), images=part)
        for what, part in (("to train on", train), ("held out", test))
    )


def log_probe(
    version: Version,
    data: str,
    train: str | None,
    edit: Sequence[str],
    size: int | None,
    seed: int,
    device: str,
    progress: Progress,
) -> dict:
    """Probe a version in a process of its own, by names of data, and log the report to it; the record.

    Without `train`, HELD_OUT of `data` are measured on and the rest are trained on. `size` limits both.
    """
    check_loggable(version)
    progress("reading data", 0.0)
    test = load_images(data, size, seed)
    fitted, test = (load_images(train, size, seed), test) if train else divide(test, seed)
    progress("loading the version", 0.0)
    with VersionProcess(version.uri, device) as predict:
        record, report = probe(predict, fitted, test, edit, seed, progress)
    report.notes.append(f"the probe was trained on {fitted.name} (SHA-256 {fitted.digest[:8]})")
    drawn = {"size": size, "seed": seed}
    about = {"revision": EVALUATION.revision, "headlines": EVALUATION.headlines(report.metrics), "drawn": drawn}
    log_report(version, _measured(fitted, test, train is not None), report, (GROUP,), **about)
    return record


def _measured(train: ImageData, test: ImageData, other: bool) -> ImageData:
    """The data measured on, as the report names them; where those trained on are `other` data, these belong to it."""
    test = _labelled(test)
    if not other:
        return test
    digest = hashlib.sha256(f"{test.digest} {train.digest}".encode()).hexdigest()
    return replace(test, name=f"{test.name} (trained on {train.name})", digest=digest)


def probe(
    predict: Predict, train: ImageData, test: ImageData, edit: Sequence[str], seed: int, progress: Progress
) -> tuple[dict, Report]:
    """Fit probes to `train` and measure them on `test`; the record, JSON-ready, and the report for the version.

    edit: words that are taken away from the fitted probe. Raises InputError for data without labels, for classes of
    `test` that `train` lacks, and for words that no training image names.
    """
    train, test = _labelled(train), _labelled(test)
    if both := {image.key for image in train.images} & {image.key for image in test.images}:
        raise InputError(
            f"{len(both):,} of the pictures of {test.name} are in {train.name} too; a probe is measured on pictures "
            "that it has not seen"
        )
    y, classes = _numbers(train, test)
    shown = [
        explain_images(data.through(predict), data.images, lambda share, k=k: progress("explaining", (k + share) * 0.4))
        for k, data in enumerate((train, test))
    ]
    words = sorted({word for weights in shown[0].weights for word in weights})
    if len(words) < 1:
        raise InputError(f"{train.name}: the version names no word of any picture, so there is nothing to probe")
    if unknown := [word for word in edit if word not in words]:
        near = ", ".join(closest(unknown[0], words) or words[:5])
        raise InputError(f"--edit {unknown[0]}: no training picture is named by it; near: {near}")
    fitted, tested = _scaled(shown[0], shown[1], words)
    progress("fitting probes", 0.8)
    path = fit_path(fitted, y[0], seed)
    best = path[_best(fitted, y[0], [each.strength for each in path], seed)]
    hits = {"probe_accuracy": best.classify(tested) == y[1]}
    if edit:
        hits["probe_accuracy_edited"] = best.without([words.index(w) for w in edit]).classify(tested) == y[1]
    progress("fitting probes of embeddings", 0.9)
    for name, z in (("embedding", [each.z for each in shown]), ("recomposed", [each.z_hat for each in shown])):
        hits[f"probe_accuracy_{name}"] = _dense(z[0], y[0], seed).predict(z[1]) == y[1]
    report = Report()
    report.add_samples([image.key for image in test.images], hits)
    report.metrics["probe_concepts"] = float(len(best.used))
    curve = [_point(each, tested, y[1]) for each in path]
    report.tables["probe"] = pd.DataFrame(curve)
    measured = {name: vars(found) for name, found in mean_intervals(report.samples).items()}
    record = {
        "data": test.name,
        "train": train.name,
        "count": len(y[1]),
        "trained_on": len(y[0]),
        "classes": classes,
        "suppressed": list(test.suppressed),
        "edited": list(edit),
        "concepts": len(best.used),
        "strength": best.strength,
        "accuracy": measured,
        "constant": float(np.mean(y[1] == np.bincount(y[0]).argmax())),
        "curve": curve,
        "words": {name: _heaviest(best.coefficients[k], words) for k, name in enumerate(classes)},
    }
    report.figures["probe"] = draw_probe(record)
    return record, report


def fit_path(weights: csr_array, y: np.ndarray, seed: int) -> list[Probe]:
    """A probe for each C of the path, given W (n, words) and classes (n,)."""
    model = _sparse(seed).set_params(warm_start=True)
    return [_read(_fit(model.set_params(C=strength), weights, y)) for strength in strengths(weights, y)]


def strengths(weights: csr_array, y: np.ndarray) -> list[float]:
    """Each C of the path. At B = 0 the slope of the loss is W^T (the shares of the classes less the classes)."""
    is_class = np.eye(y.max() + 1)[y]
    steepest = np.abs(weights.T @ (is_class - is_class.mean(axis=0))).max()
    return [multiple / max(float(steepest), 1e-12) for multiple in PATH]


def _numbers(train: ImageData, test: ImageData) -> tuple[list[np.ndarray], list[str]]:
    """Class of each image of both, and the names of the classes."""
    given = [[str(image.label) for image in data.images] for data in (train, test)]
    classes = sorted(set(given[0]))
    if len(classes) < 2:
        raise InputError(f"{train.name}: a probe tells classes apart, but all pictures are of {classes[0]!r}")
    if rare := [name for name, count in Counter(given[0]).items() if count < 2]:
        raise InputError(f"{train.name}: cross-validation needs two pictures of each class, {rare[0]!r} has one")
    if strange := sorted(set(given[1]) - set(classes)):
        raise InputError(f"{test.name}: {train.name} has no pictures of the class {strange[0]!r}")
    number = {name: k for k, name in enumerate(classes)}
    return [np.array([number[label] for label in labels]) for labels in given], classes


def _labelled(data: ImageData) -> ImageData:
    """The images whose class is known. Raises InputError where there are none."""
    images = [image for image in data.images if image.label is not None]
    if not images:
        raise InputError(f"{data.name} has no labels; a probe needs the class of each picture")
    if len(images) == len(data.images):
        return data
    return replace(data, digest=content_digest(images, data.suppressed), images=images)


def _scaled(train: ImageExplanations, test: ImageExplanations, words: Sequence[str]) -> tuple[csr_array, csr_array]:
    """W of both; words that no training image names are left out."""
    position = {word: k for k, word in enumerate(words)}
    parts = []
    for explained in (train, test):
        cells = [(i, position[w], v) for i, ws in enumerate(explained.weights) for w, v in ws.items() if w in position]
        at = np.array([cell[:2] for cell in cells], dtype=np.int32).reshape(-1, 2)  # scikit-learn takes 32 bits alone
        shape = len(explained.weights), len(words)
        parts.append(csr_array(([value for *_, value in cells], (at[:, 0], at[:, 1])), shape=shape, dtype=float))
    scale = 1 / np.maximum(parts[0].max(axis=0).toarray().ravel(), 1e-12)
    train_weights, test_weights = (part.multiply(scale).tocsr() for part in parts)
    return train_weights, test_weights


def _sparse(seed: int) -> LogisticRegression:
    return LogisticRegression(**_L1, solver="saga", max_iter=ITERATIONS, tol=TOLERANCE, random_state=seed)


def _fit(model: Any, x: Any, y: np.ndarray) -> Any:
    with warnings.catch_warnings():
        # Weak penalties need many passes for digits that no prediction depends on.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def _read(model: LogisticRegression) -> Probe:
    coefficients, intercepts = np.array(model.coef_), np.array(model.intercept_)
    if len(coefficients) == 1:  # two classes have one row, that of the second
        coefficients, intercepts = (np.concatenate([-each, each]) for each in (coefficients, intercepts))
    return Probe(coefficients, intercepts, float(model.C))


def _folds(y: np.ndarray, seed: int) -> StratifiedKFold:
    return StratifiedKFold(min(FOLDS, int(np.bincount(y).min())), shuffle=True, random_state=seed)


def _best(weights: csr_array, y: np.ndarray, every: list[float], seed: int) -> int:
    """Position on the path of what does best in cross-validation, of equals the sparsest."""
    search = GridSearchCV(_sparse(seed), {"C": every}, cv=_folds(y, seed), refit=False)
    return every.index(_fit(search, weights, y).best_params_["C"])


def _dense(z: np.ndarray, y: np.ndarray, seed: int) -> Any:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS, tol=TOLERANCE))
    return _fit(GridSearchCV(model, {"logisticregression__C": EMBEDDING_STRENGTHS}, cv=_folds(y, seed)), z, y)


def _point(probe: Probe, weights: csr_array, y: np.ndarray) -> dict[str, float]:
    found = mean_intervals(pd.DataFrame({"accuracy": probe.classify(weights) == y}))["accuracy"]
    return {
        "strength": probe.strength,
        "concepts": len(probe.used),
        "accuracy": found.mean,
        "low": found.low,
        "high": found.high,
    }


def _heaviest(row: np.ndarray, words: Sequence[str]) -> list[dict]:
    order = [k for k in np.argsort(-row, kind="stable")[:SHOWN] if row[k] > 0]
    return [{"concept": words[k], "weight": float(row[k])} for k in order]
