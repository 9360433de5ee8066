"""Trials of counterfactuals: the largest changes make the class, and the changes hang on the network."""

import numpy as np
import pytest

from conceptry.evaluation.isolation.client import VersionProcess
from conceptry.evaluation.perturbation import trials
from conceptry.evaluation.perturbation.client import explain_cases
from conceptry.evaluation.perturbation.data import load_cases
from conceptry.evaluation.reports import Report


def quiet(share: float) -> None:
    assert 0 <= share <= 1


@pytest.fixture(scope="module")
def trial(perturbation_version):
    """A running version with eight counterfactuals."""
    cases = load_cases(None, {"model": "zoo:digits-robust", "classes": "10"}, 8, 0).toward_others()
    with VersionProcess(perturbation_version.uri, "cpu") as predict:
        yield predict, explain_cases(predict, cases, trials.COUNTERFACTUAL)


def test_changes_are_put_in_and_undone_by_size(trial) -> None:
    predict, explained = trial
    trials.faithfulness(predict, explained, report := Report(), quiet)
    found = report.metrics
    assert found["insertion_auc"] > found["insertion_random"]
    assert found["deletion_auc"] < found["deletion_random"]


def test_a_mixture_has_the_chosen_pixels_alone(trial) -> None:
    _, explained = trial
    e = explained[0]
    start, end = trials._pixels(e.case.content), np.asarray(e.image)
    changed = np.flatnonzero((start != end).any(axis=-1).ravel())
    put_in = trials._pixels(trials._mixed(e.case, start, end, changed[:1], True).content)
    undone = trials._pixels(trials._mixed(e.case, start, end, changed[:1], False).content)
    assert np.flatnonzero((put_in != start).any(axis=-1).ravel()).tolist() == changed[:1].tolist()
    assert np.flatnonzero((undone != end).any(axis=-1).ravel()).tolist() == changed[:1].tolist()


def test_changes_move_under_noise_and_hang_on_the_network(trial) -> None:
    predict, explained = trial
    trials.robustness(predict, explained, report := Report(), quiet)
    trials.randomisation(predict, explained, report, quiet)
    assert report.metrics["sensitivity_max"] > 0
    assert report.metrics["randomisation"] < 0.5
    assert set(report.samples.columns) == {"sample", "sensitivity_max", "output_change", "randomisation"}
