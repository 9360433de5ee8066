"""The classifiers that ship: whole, small, as good on held-out rows as their records say, and told from encoders."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conceptry.evaluation.training.classifiers import SHIPPED, score_classifier
from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.classifier import Classifier, read_classifier
from conceptry.models.manifest import read_json, sha256_file
from conceptry.models.perturbation import L1qFrankWolfe, gradient_ascent
from conceptry.models.shipped import shipped_names, weights_directory
from conceptry.models.training.recipes import RECIPES, ClassifierTraining, data_of
from conceptry.models.zoo.datasets import load_dataset

NAMES = (*SHIPPED, "movie-reviews")
LEAST = {"wine": 0.95, "breast-cancer": 0.95, "digits": 0.97, "digits-16": 0.97, "movie-reviews": 0.78}
LEAST |= {"digits-robust": 0.93, "digits-16-robust": 0.93, "scenes": 0.99, "scenes-spurious": 0.8}
ATTACKED = {"digits": 1.25, "digits-16": 2.0}  # by how much their robust twins were, in training


def _read(name: str) -> Classifier:
    return read_classifier(weights_directory(name, "classifier"), torch.device("cpu"), f"zoo:{name}")


@pytest.mark.parametrize("name", NAMES)
def test_files_match_their_records(name: str):
    folder = weights_directory(name, "classifier")
    provenance = read_json(folder / "provenance.json")
    present = {path.name: sha256_file(path) for path in folder.iterdir() if path.name != "provenance.json"}
    assert present == provenance["sha256"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.5e6
    radius = f" --adversarial-epsilon {RECIPES[name].adversarial_epsilon:g}" if "robust" in name else ""
    if start := RECIPES[name].start:
        assert provenance["start_sha256"] == sha256_file(weights_directory(start, "classifier") / "model.safetensors")
    assert provenance["command"] == f"conceptry train classifiers --output FOLDER --data {data_of(name)}{radius}"
    assert ClassifierTraining(**provenance["settings"]) == RECIPES[name]
    assert set(provenance["scores"]) == set(provenance["score_definitions"])


@pytest.mark.parametrize("name", SHIPPED)
def test_held_out_scores_are_those_recorded(name: str):
    provenance = read_json(weights_directory(name, "classifier") / "provenance.json")
    dataset = load_dataset(data_of(name))
    assert dataset.digest == provenance["data_sha256"]
    assert len(dataset.train) == provenance["n_train"]
    model = _read(name)
    assert (model.modality, model.classes, model.columns) == (dataset.modality, dataset.classes, dataset.columns)
    scores = score_classifier(model, dataset, RECIPES[name].adversarial_epsilon)
    assert scores == pytest.approx(provenance["scores"], abs=0.003)


def test_scores_reach_the_targets():
    scores = {name: read_json(weights_directory(name, "classifier") / "provenance.json")["scores"] for name in NAMES}
    for name, least in LEAST.items():
        assert scores[name]["accuracy"] >= least > scores[name]["majority_share"]
    assert scores["diabetes"]["r2"] > scores["diabetes"]["r2_least_squares"]
    assert scores["diabetes"]["r2"] >= 0.4
    assert scores["scenes-spurious"]["accuracy_agreeing"] >= 0.99
    assert 0.6 < scores["scenes-spurious"]["accuracy_disagreeing"] < 0.75


@pytest.mark.parametrize("data", ATTACKED)
def test_robust_networks_withstand_what_the_others_do_not(data: str):
    dataset = load_dataset(data)
    robust, standard = (
        score_classifier(_read(name), dataset, ATTACKED[data])["accuracy_attacked"] for name in (f"{data}-robust", data)
    )
    assert RECIPES[f"{data}-robust"].adversarial_epsilon == ATTACKED[data]
    assert robust > 0.15
    assert standard < 0.05


def test_noise_turned_into_digits_by_the_robust_network_is_read_by_neighbours_among_real_digits():
    from sklearn.neighbors import KNeighborsClassifier

    dataset, targets = load_dataset("digits-16"), torch.arange(200) % 10
    noise = torch.rand(200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    read = {}
    for name in ("digits-16-robust", "digits-16"):
        model = _read(name)
        digits = model.encode(dataset.take(dataset.train)).flatten(1).numpy()
        judge = KNeighborsClassifier(5).fit(digits, dataset.targets[dataset.train])
        probes, _ = gradient_ascent(
            model=model.network, data=noise, target=targets, optimizer=L1qFrankWolfe, steps=45, targeted=True,
            q=0.9, epsilon=53.6, lr=2.0, pixel_range=(0, 1),
        )  # fmt: skip
        read[name] = (judge.predict(probes.flatten(1).numpy()) == targets.numpy()).mean()
    assert read["digits-16-robust"] >= 0.95
    assert read["digits-16"] <= read["digits-16-robust"] - 0.4


def test_sentences_are_told_apart_and_masked_words_say_little():
    model = _read("movie-reviews")
    good, bad, masked, nothing, part = model(
        [
            "a charming and often affecting journey",
            "a dull, lifeless and boring mess.",
            "[MASK] [MASK] [MASK] [MASK] [MASK]",
            "",
            "a [MASK] and often [MASK] journey",
        ]
    )[:, 0]
    assert good > 2
    assert bad < -2
    assert max(abs(masked), abs(nothing)) < 0.5
    assert part < good - 1


def test_the_word_list_holds_words_and_the_folder_says_whose_they_are():
    folder = weights_directory("movie-reviews", "classifier")
    assert all(len(token.split()) == 1 for token in _read("movie-reviews").description.vocabulary)
    attribution = (folder / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    assert all(word in attribution for word in ("vaderSentiment", "MIT", "C.J. Hutto", "rottentomatoes.com"))


def test_gradients_reach_the_features_of_every_shipped_model():
    for name in SHIPPED:
        dataset, model = load_dataset(data_of(name)), _read(name)
        x = model.encode(dataset.take(dataset.heldout[:2])).requires_grad_()
        outputs = model.forward(x)
        assert np.allclose(outputs.detach().numpy(), model(dataset.take(dataset.heldout[:2])), rtol=1e-5, atol=1e-5)
        outputs.sum().backward()
        assert x.grad is not None
        assert x.grad.abs().amax() > 0


def test_what_is_drawn_in_scenes_has_its_attribution():
    for name in ("scenes", "scenes-spurious"):
        text = (weights_directory(name, "classifier") / "ATTRIBUTION.txt").read_text(encoding="utf-8")
        assert all(word in text for word in ("Twemoji", "CC-BY 4.0"))


def test_encoders_and_classifiers_are_not_mixed_up():
    assert shipped_names() == ["emoji-clip", "photos"]
    assert shipped_names("classifier") == sorted(NAMES)
    assert isinstance(weights_directory("emoji-clip"), Path)
    with pytest.raises(InputError, match=r"no network 'wine' among its encoders; they are emoji-clip, photos$"):
        weights_directory("wine")
    with pytest.raises(InputError, match=r"'win' among its classifiers; they are breast-cancer, .*did you mean wine\?"):
        weights_directory("win", "classifier")
