"""Trainings of classifiers: they learn, repeat byte for byte, are logged, and leave a whole folder or none."""

import re
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from conceptry.evaluation.training import classifiers
from conceptry.evaluation.training.classifiers import run, score_classifier, train_command
from conceptry.evaluation.training.tracking import EXPERIMENT
from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.classifier import read_classifier
from conceptry.models.manifest import read_json, sha256_file
from conceptry.models.training import classifiers as trainer
from conceptry.models.training.classifiers import train_classifier
from conceptry.models.training.recipes import RECIPES, ClassifierTraining, data_of, recipe
from conceptry.models.zoo.datasets import Dataset, load_dataset

ROBUST = ClassifierTraining("vgg", epochs=6, batch_size=32, lr=0.01, hidden=4, adversarial_epsilon=1.0)
TINY = ClassifierTraining("mlp2", epochs=8, batch_size=32, lr=0.01, hidden=8)
WORDS = {1: ("fine", "warm", "great"), 0: ("dull", "cold", "awful")}


@pytest.fixture(scope="module")
def wine() -> Dataset:
    return load_dataset("wine")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """A few hundred of the digits, three of the classes."""
    data = load_dataset("digits")
    train, heldout = (rows[data.targets[rows] < 3] for rows in (data.train, data.heldout))
    return replace(data, train=train, heldout=heldout)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sentences whose one telling word decides, in the layout of SST-2."""
    folder = tmp_path_factory.mktemp("sst2")
    rng = np.random.default_rng(0)
    for part, n in (("train", 200), ("dev", 40)):
        labels = rng.integers(0, 2, n)
        fillers = rng.choice(["the", "film", "was", "a", "plot"], (n, 5))
        lines = [
            f"{' '.join(filler[:k])} {rng.choice(WORDS[label])} {' '.join(filler[k:])}\t{label}"
            for label, filler, k in zip(labels, fillers, rng.integers(0, 6, n), strict=True)
        ]
        (folder / f"{part}.tsv").write_text("sentence\tlabel\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return load_dataset(f"sst2:{folder}")


@pytest.mark.parametrize("arch", ["logistic", "mlp2", "mlp5", "resmlp5"])
def test_tables_are_learnt(arch: str, wine: Dataset):
    model = train_classifier(replace(TINY, arch=arch, epochs=15), wine)
    assert score_classifier(model, wine)["accuracy"] > 0.85


@pytest.mark.parametrize("arch", ["lstm2", "cnn"])
def test_texts_are_learnt_and_masked_words_are_known(arch: str, reviews: Dataset):
    settings = ClassifierTraining(arch, epochs=8, batch_size=20, lr=0.02, hidden=8, embedding=8)
    model = train_classifier(settings, reviews)
    assert score_classifier(model, reviews)["accuracy"] > 0.9
    assert model.description.shape.n_outputs == 1
    telling, masked = np.abs(model(["the film was fine", "the film was [MASK]"])[:, 0])
    assert masked < telling / 2


def test_a_network_that_is_trained_under_attack_withstands_attacks(digits: Dataset):
    robust, standard = (
        score_classifier(train_classifier(settings, digits), digits, 1.0)
        for settings in (ROBUST, replace(ROBUST, adversarial_epsilon=0.0))
    )
    assert robust["accuracy"] > 0.9
    assert standard["accuracy"] > 0.9
    assert robust["accuracy_attacked"] > standard["accuracy_attacked"] + 0.2


def test_the_radius_of_attacks_rises_evenly_and_stays(digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def attack(network: object, x: torch.Tensor, targets: torch.Tensor, epsilon: float, steps: int) -> torch.Tensor:
        seen.append((epsilon, steps))
        return x

    monkeypatch.setattr(trainer, "l2_attack", attack)
    settings = replace(ROBUST, epochs=2, batch_size=100, adversarial_epsilon=2.0, adversarial_steps=3)
    n_steps = 2 * -(-len(digits.train) // 100)
    train_classifier(replace(settings, adversarial_ramp=0.5), digits)
    radii = np.minimum(2.0, 2.0 * np.arange(n_steps) / (n_steps / 2))[1:]  # at the first step there is none
    assert [epsilon for epsilon, _ in seen] == pytest.approx(radii)
    assert {steps for _, steps in seen} == {3}
    seen.clear()
    train_classifier(replace(settings, adversarial_ramp=0.0), digits)
    assert [epsilon for epsilon, _ in seen] == [2.0] * n_steps
    seen.clear()
    train_classifier(replace(settings, adversarial_epsilon=0.0), digits)
    assert seen == []


def test_training_reads_the_training_rows_alone(wine: Dataset):
    broken = wine.inputs.copy()
    broken.iloc[wine.heldout] = np.nan
    targets = wine.targets.copy()
    targets[wine.heldout] = -1
    expected = train_classifier(TINY, wine).lineage
    assert train_classifier(TINY, replace(wine, inputs=broken, targets=targets)).lineage == expected


def test_the_learning_rate_falls_evenly_on_a_log_scale(wine: Dataset):
    seen = []
    train_classifier(replace(TINY, epochs=3, lr=0.1, logspace=2), wine, lambda epoch, v: seen.append((epoch, v)))
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert [values["learning_rate"] for _, values in seen] == pytest.approx([0.1, 0.01, 0.001])
    assert all(set(values) == {"loss", "learning_rate"} for _, values in seen)


def test_balanced_epochs_draw_rare_classes_as_often(wine: Dataset):
    few = np.concatenate([np.flatnonzero(wine.targets == 0), np.flatnonzero(wine.targets == 1)[:2]])
    order = classifier_orders(replace(wine, train=few), replace(TINY, balanced=True))
    assert 0.4 < np.mean(wine.targets[few][order]) < 0.6


def classifier_orders(dataset: Dataset, settings: ClassifierTraining) -> np.ndarray:
    from conceptry.models.training.classifiers import _order

    rng = np.random.default_rng(0)
    return np.concatenate([_order(settings, dataset, rng) for _ in range(20)])


def test_the_same_settings_give_the_same_bytes(wine: Dataset, tmp_path: Path):
    before = torch.get_rng_state()
    settings = replace(TINY, epochs=2, dropout=0.3, optimizer="sgd")
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        run(replace(settings, seed=seed), wine, tmp_path / name, tracking=False)
    weights = [sha256_file(tmp_path / name / "model.safetensors") for name in ("first", "second", "third")]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_under_attack_repeats_and_is_recorded(digits: Dataset, store: str, tmp_path: Path):
    before = torch.get_rng_state()
    first, second = (run(replace(ROBUST, epochs=1), digits, tmp_path / name) for name in ("first", "second"))
    assert first["sha256"] == second["sha256"]
    assert torch.equal(torch.get_rng_state(), before)
    read = read_classifier(tmp_path / "first", torch.device("cpu"), "zoo:digits-robust")
    assert first["scores"] == score_classifier(read, digits, ROBUST.adversarial_epsilon)
    assert set(first["scores"]) == {"accuracy", "accuracy_attacked", "majority_share", "n_heldout"}
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    logged = client.search_runs([experiment.experiment_id], "params.adversarial_epsilon = '1.0'")
    assert [one.info.run_name for one in logged] == ["digits-robust"] * 2
    assert logged[0].data.metrics["accuracy_attacked"] == first["scores"]["accuracy_attacked"]


def test_a_regression_is_recorded_and_logged(store: str, tmp_path: Path):
    dataset = load_dataset("diabetes")
    settings = replace(recipe("diabetes"), epochs=12, lr=0.01)
    provenance = run(settings, dataset, tmp_path / "diabetes")
    scores = provenance["scores"]
    assert scores["r2"] > 0.2
    assert scores["n_heldout"] == len(dataset.heldout)
    read = read_classifier(tmp_path / "diabetes", torch.device("cpu"), "zoo:diabetes")
    assert score_classifier(read, dataset) == scores
    assert read_json(tmp_path / "diabetes" / "provenance.json") == provenance
    assert provenance["data_sha256"] == dataset.digest
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    [logged] = client.search_runs([experiment.experiment_id], "params.data = 'diabetes'")
    assert logged.info.status == "FINISHED"
    assert logged.data.params["arch"] == "mlp2"
    assert logged.data.metrics["r2"] == scores["r2"]
    assert len(client.get_metric_history(logged.info.run_id, "loss")) == 12
    assert [file.path for file in client.list_artifacts(logged.info.run_id)] == ["provenance.json"]


def test_least_squares_are_those_of_scikit_learn():
    from sklearn.linear_model import LinearRegression

    data = load_dataset("diabetes")
    x = data.inputs.assign(sex=data.inputs["sex"].astype(float))
    model = LinearRegression().fit(x.iloc[data.train], data.targets[data.train])
    expected = model.score(x.iloc[data.heldout], data.targets[data.heldout])
    scores = score_classifier(train_classifier(replace(TINY, epochs=1), data), data)
    assert scores["r2_least_squares"] == pytest.approx(expected, abs=1e-4)


def test_the_command_trains_one_data_set_or_those_that_ship(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said = train_command(tmp_path / "one", data="wine", arch="logistic", epochs=2, batch_size=64, small=True)
    assert said.startswith("wine (logistic): accuracy ")
    provenance = read_json(tmp_path / "one" / "provenance.json")
    assert provenance["command"] == (
        "conceptry train classifiers --output FOLDER --data wine --arch logistic --epochs 2 --batch-size 64 --small"
    )
    assert provenance["settings"]["epochs"] == 2
    trained = []
    monkeypatch.setattr(
        classifiers,
        "run",
        lambda settings, dataset, directory, command: (
            trained.append((dataset.name, directory, settings, command)) or {"scores": {"accuracy": 1.0}}
        ),
    )
    train_command(tmp_path / "many", small=True)
    names = ["wine", "breast-cancer", "diabetes", "digits", "digits-robust", "digits-16", "digits-16-robust"]
    names += ["scenes", "scenes-spurious"]
    assert [(name, directory) for name, directory, *_ in trained] == [
        (data_of(name), tmp_path / "many" / name) for name in names
    ]
    assert [settings for _, _, settings, _ in trained] == [replace(RECIPES[name], epochs=5) for name in names]
    assert trained[6][3] == (
        "conceptry train classifiers --output FOLDER --data digits-16 --adversarial-epsilon 2 --small"
    )
    assert trained[-1][3] == "conceptry train classifiers --output FOLDER --data scenes-spurious --small"
    trained.clear()
    said = train_command(tmp_path / "robust", data="digits-16", adversarial_epsilon=2.0)
    assert said.startswith("digits-16-robust (vgg): accuracy 1; saved")
    assert trained[0][2] == RECIPES["digits-16-robust"]
    assert trained[0][3] == "conceptry train classifiers --output FOLDER --data digits-16 --adversarial-epsilon 2"
    train_command(tmp_path / "other", data="digits", adversarial_epsilon=0.5, adversarial_steps=3, adversarial_ramp=0.0)
    expected = {"adversarial_epsilon": 0.5, "adversarial_steps": 3, "adversarial_ramp": 0.0}
    assert trained[1][2] == replace(RECIPES["digits-robust"], **expected)
    assert trained[1][3].endswith(
        "--data digits --adversarial-epsilon 0.5 --adversarial-steps 3 --adversarial-ramp 0.0"
    )
    train_command(tmp_path / "standard", data="digits-16", adversarial_epsilon=0.0)
    assert trained[2][2] == RECIPES["digits-16"]


def test_paths_stay_out_of_the_record(reviews: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(classifiers, "load_dataset", lambda name: reviews)
    commands = []
    monkeypatch.setattr(
        classifiers, "run", lambda *_, command: commands.append(command) or {"scores": {"accuracy": 1.0}}
    )
    train_command(tmp_path / "model", data="sst2:/home/me/sst2", hidden=4)
    assert commands == ["conceptry train classifiers --output FOLDER --data sst2:PATH --hidden 4"]


def test_what_cannot_be_trained_is_refused_before_training(tmp_path: Path):
    with pytest.raises(InputError, match="arch mlp2 does not suit every data set; name one with data: wine, "):
        train_command(tmp_path / "new", arch="mlp2")
    with pytest.raises(InputError, match=r"adversarial_epsilon 1\.0 does not suit every data set; name one"):
        train_command(tmp_path / "new", adversarial_epsilon=1.0)
    with pytest.raises(InputError, match="adversarial_ramp says how to attack within adversarial_epsilon; give that"):
        train_command(tmp_path / "new", data="digits", adversarial_ramp=0.5)
    with pytest.raises(InputError, match="adversarial_epsilon is for images, and wine holds the kind table"):
        train_command(tmp_path / "new", data="wine", adversarial_epsilon=1.0)
    with pytest.raises(InputError, match="exists already; name a new folder"):
        train_command(tmp_path, data="wine")
    (tmp_path / "digits").mkdir()
    with pytest.raises(InputError, match="digits: exists already"):
        train_command(tmp_path)
    with pytest.raises(InputError, match=re.escape("lenet does not read wine (table); expected one of logistic, mlp2")):
        train_command(tmp_path / "new", data="wine", arch="lenet")
    with pytest.raises(InputError, match="unknown data 'whine'"):
        train_command(tmp_path / "new", data="whine")
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_a_training_that_breaks_off_leaves_nothing(wine: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(classifiers, "score_classifier", killed)
    with pytest.raises(KeyboardInterrupt):
        run(replace(TINY, epochs=1), wine, tmp_path / "wine", tracking=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"arch": "mlp3"}, "arch must be one of logistic, mlp2, "),
        ({"optimizer": "lbfgs"}, "optimizer must be adam or sgd, got 'lbfgs'"),
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"batch_size": -1}, "batch_size must be above 0, got -1"),
        ({"lr": 0.0}, "lr must be above 0, got 0.0"),
        ({"lr": float("nan")}, "lr must be above 0, got nan"),
        ({"logspace": -1.0}, "logspace must be at least 0, got -1.0"),
        ({"hidden": True}, "hidden must be a whole number, got True"),
        ({"dropout": 1.0}, "dropout must be below 1, got 1.0"),
        ({"adversarial_epsilon": -0.5}, "adversarial_epsilon must be at least 0, got -0.5"),
        ({"adversarial_epsilon": float("inf")}, "adversarial_epsilon must be at least 0, got inf"),
        ({"adversarial_steps": 0}, "adversarial_steps must be above 0, got 0"),
        ({"adversarial_ramp": 1.5}, "adversarial_ramp must be at most 1, got 1.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_wrong_settings_are_refused(values: dict, message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        ClassifierTraining(**{"arch": "mlp2", **values})
