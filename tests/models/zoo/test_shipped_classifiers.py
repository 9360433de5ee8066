"""The classifiers that ship: whole, small, as good on held-out rows as their records say, and told from encoders."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conceptry.evaluation.classifier_training import score_classifier
from conceptry.models.artifacts import read_json, sha256_file
from conceptry.models.errors import InputError
from conceptry.models.zoo.classifier import Classifier, read_classifier
from conceptry.models.zoo.classifier_training import RECIPES, ClassifierTraining
from conceptry.models.zoo.datasets import SKLEARN, load_dataset
from conceptry.models.zoo.shipped import shipped_names, weights_directory

NAMES = (*SKLEARN, "movie-reviews")
LEAST = {"wine": 0.95, "breast-cancer": 0.95, "digits": 0.97, "movie-reviews": 0.78}


def _read(name: str) -> Classifier:
    return read_classifier(weights_directory(name, "classifier"), torch.device("cpu"), f"zoo:{name}")


@pytest.mark.parametrize("name", NAMES)
def test_files_match_their_records(name: str):
    folder = weights_directory(name, "classifier")
    provenance = read_json(folder / "provenance.json")
    present = {path.name: sha256_file(path) for path in folder.iterdir() if path.name != "provenance.json"}
    assert present == provenance["sha256"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.5e6
    assert provenance["command"] == f"conceptry train classifiers --output FOLDER --data {name}"
    assert ClassifierTraining(**provenance["settings"]) == RECIPES[name]
    assert set(provenance["scores"]) == set(provenance["score_definitions"])


@pytest.mark.parametrize("name", SKLEARN)
def test_held_out_scores_are_those_recorded(name: str):
    dataset, provenance = load_dataset(name), read_json(weights_directory(name, "classifier") / "provenance.json")
    assert dataset.digest == provenance["data_sha256"]
    assert len(dataset.train) == provenance["n_train"]
    model = _read(name)
    assert (model.modality, model.classes, model.columns) == (dataset.modality, dataset.classes, dataset.columns)
    scores = score_classifier(model, dataset)
    assert scores == pytest.approx(provenance["scores"], abs=0.003)


def test_scores_reach_the_targets():
    scores = {name: read_json(weights_directory(name, "classifier") / "provenance.json")["scores"] for name in NAMES}
    for name, least in LEAST.items():
        assert scores[name]["accuracy"] >= least > scores[name]["majority_share"]
    assert scores["diabetes"]["r2"] > scores["diabetes"]["r2_least_squares"]
    assert scores["diabetes"]["r2"] >= 0.4


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
    for name in SKLEARN:
        dataset, model = load_dataset(name), _read(name)
        x = model.encode(dataset.take(dataset.heldout[:2])).requires_grad_()
        outputs = model.forward(x)
        assert np.allclose(outputs.detach().numpy(), model(dataset.take(dataset.heldout[:2])), rtol=1e-5, atol=1e-5)
        outputs.sum().backward()
        assert x.grad is not None
        assert x.grad.abs().amax() > 0


def test_encoders_and_classifiers_are_not_mixed_up():
    assert shipped_names() == ["emoji-clip"]
    assert shipped_names("classifier") == sorted(NAMES)
    assert isinstance(weights_directory("emoji-clip"), Path)
    with pytest.raises(InputError, match=r"no network 'wine' among its encoders; they are emoji-clip$"):
        weights_directory("wine")
    with pytest.raises(InputError, match=r"'win' among its classifiers; they are breast-cancer, .*did you mean wine\?"):
        weights_directory("win", "classifier")
