"""Aliases move by stated rules, and who moved them is on record."""

import getpass
import json
import re

import mlflow
import numpy as np
import pytest
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset

from conceptry.evaluation.comparison.requirements import parse_requirement
from conceptry.evaluation.reports import Report, log_report
from conceptry.evaluation.splice.data import ImageData
from conceptry.models.errors import ConceptryError, InputError
from conceptry.registry import Requirement, compare, find_version, promote, promotions, register

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(scope="module")
def pair(store, tiny_options):
    versions = [
        register("splice", tiny_options | {"l1_penalty": penalty}, name="race").version for penalty in (0.2, 0.3)
    ]
    for version, cosine in zip(versions, (0.5, 0.7), strict=True):
        mlflow.log_metrics({"cosine": cosine}, run_id=version.run_id, model_id=version.model_id)
    return [find_version(version.uri) for version in versions]


def test_a_version_must_meet_every_requirement(pair) -> None:
    with pytest.raises(ConceptryError, match=r"race/1 is not promoted: cosine>=0.6 is required, its cosine is 0.5"):
        promote("race", 1, require=[Requirement.parse("cosine >= 0.6")])
    with pytest.raises(ConceptryError, match="has no metric 'l0'; it has cosine"):
        promote("race", 2, require=[Requirement.parse("l0<=8")])
    assert promotions("race") == []


def test_promotions_are_recorded_in_order(pair) -> None:
    first = promote("race", 1)
    second = promote("race", 2, require=[Requirement.parse("cosine>=0.6")])
    assert first
    assert second
    assert promote("race", 2) is None  # it is there already: nothing is added
    assert promotions("race") == [first, second]
    assert (second.previous, second.version, second.rule) == (1, 2, "cosine>=0.6")
    assert second.by == getpass.getuser()
    assert find_version("race@champion").version == 2
    assert find_version("race/2").aliases == ("champion",)


@pytest.mark.parametrize(
    "text", ["cosine", "cosine=0.6", "cosine>=", ">=0.6", "cosine>=high", "cosine>=0.6,l0<=8", "cosine>=nan"]
)
def test_requirements_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="expected METRIC>=NUMBER"):
        Requirement.parse(text)


def test_the_data_set_to_judge_by_can_be_named(store, tiny_options) -> None:
    """A version measured on other data since is judged by the data that the rule is about."""
    version = register("splice", tiny_options | {"l1_penalty": 0.21}, name="judged").version
    for data, metrics in (("first", {"cosine": 0.7}), ("second", {"l0": 3.0})):
        described = MetaDataset(HTTPDatasetSource(f"conceptry:{data}"), name=data, digest=data)
        mlflow.log_metrics(metrics, run_id=version.run_id, model_id=version.model_id, dataset=described)
    bound = [Requirement.parse("cosine>=0.6")]
    with pytest.raises(ConceptryError, match="judged/1 has no metric 'cosine' on second; it has l0"):
        promote("judged", 1, require=bound)
    with pytest.raises(ConceptryError, match="judged/1 was not measured on third; it was on first, second"):
        promote("judged", 1, require=bound, data="third")
    promotion = promote("judged", 1, require=bound, data="first")
    assert promotion
    assert promotion.data == "first"


def test_bad_aliases_and_versions(pair) -> None:
    for alias in ("v1", "", "a b", "1st"):
        with pytest.raises(InputError, match="an alias is a letter followed by"):
            promote("race", 1, alias)
    with pytest.raises(InputError, match="no such version; versions: 1, 2"):
        promote("race", 3)


def test_a_comparison_shows_what_differs(pair) -> None:
    comparison = compare("race")
    assert [version.version for version in comparison.versions] == [1, 2]
    assert comparison.differing == ("l1_penalty",)
    assert comparison.metrics == ("cosine",)
    assert [comparison.scores[n]["cosine"] for n in (1, 2)] == [0.5, 0.7]
    assert not comparison.comparable  # nobody said on which data
    assert [v.version for v in compare("race", [2, 1, 2]).versions] == [2, 1]
    with pytest.raises(InputError, match="race has no version 7; versions: 1, 2"):
        compare("race", [7])
    with pytest.raises(InputError, match="no version of that name"):
        compare("nobody")


def test_metrics_of_different_data_are_never_mixed(tiny_options) -> None:
    """Two data sets, one shared: the comparison uses the shared one, the newest where there are several."""
    versions = [register("splice", tiny_options | {"l1_penalty": p}, name="mixed").version for p in (0.21, 0.22)]

    def log(version, digest: str, **metrics: float) -> None:
        data = MetaDataset(HTTPDatasetSource(f"test:{digest}"), name=digest, digest=digest)
        mlflow.log_metrics(metrics, run_id=version.run_id, model_id=version.model_id, dataset=data)

    log(versions[0], "first", cosine=0.1, recall=0.9)
    log(versions[1], "second", cosine=0.8)
    apart = compare("mixed")
    assert (apart.data, apart.comparable) == (None, False)
    log(versions[1], "first", cosine=0.2, recall=0.7)
    log(versions[0], "third", cosine=0.99)
    shared = compare("mixed")
    assert (shared.data, shared.comparable) == ("first", True)
    assert shared.scores == {1: {"cosine": 0.1, "recall": 0.9}, 2: {"cosine": 0.2, "recall": 0.7}}
    assert find_version("mixed/1").metrics == {"cosine": 0.99}  # the last evaluation alone
    with pytest.raises(ConceptryError, match="has no metric 'recall'"):
        promote("mixed", 1, require=[Requirement.parse("recall>=0.5")])
    promotion = promote("mixed", 2)
    assert promotion
    assert promotion.data == "first"


def test_a_promotion_counts_once_its_alias_has_moved(pair) -> None:
    """Its process may be killed between the record and the alias, and between the alias and its last word."""
    client = mlflow.MlflowClient()

    def planned(version: int, previous: int | None, at: str) -> None:
        record = {"alias": "staged", "version": version, "previous": previous, "rule": "r", "data": None, "by": "b"}
        text = json.dumps(record | {"at": at, "planned": True})
        client.set_registered_model_tag("race", f"conceptry.promotion.{at}", text)

    def staged() -> list[tuple[int, int | None]]:
        return [(p.version, p.previous) for p in promotions("race") if p.alias == "staged"]

    planned(1, None, "2020-01-01")
    assert staged() == []
    assert promote("race", 2, "staged")
    assert staged() == [(2, None)]
    planned(1, 2, "2999-01-01")
    client.set_registered_model_alias("race", "staged", "1")
    assert staged() == [(2, None), (1, 2)]
    assert promote("race", 1, "staged") is None  # which settles the record
    assert '"planned"' not in str(client.get_registered_model("race").tags)


def test_a_version_must_be_better_than_the_one_before(pair) -> None:
    """On the same samples, beyond chance, in the direction of the metric; the record keeps by how much."""
    data = ImageData("scenes", "d" * 64, ())
    hard = np.random.default_rng(0).normal(size=40)
    samples = [{"cosine": hard, "l0": hard}, {"cosine": hard + 0.1, "l0": hard + 0.01 * np.sign(hard)}]
    for version, columns in zip(pair, samples, strict=True):
        report = Report(metrics={"gap_max": 0.5, "cosine_std": 1.0})
        report.add_samples([f"s{k}" for k in range(40)], columns)
        log_report(version, data, report, ("basic",), revision=1, headlines={})
    better = parse_requirement("better:cosine")
    first = promote("race", 1, "best", [better])
    assert first
    assert first.rule == "better:cosine, the first, with none before to be better than"
    assert promote("race", 1, "best", [better]) is None
    for metric, sentence in {
        "l0": r"race/2 is not promoted: it is not better than models:/race/1 in l0 \(lower is better\) beyond chance; "
        r"the paired difference is [-+][\d.]+ \[-[\d.]+, \+[\d.]+\] over 40 samples",
        "cosine_std": "cosine_std has no direction, so no version is better in it; require a bound",
        "gap_max": "gap_max is no mean over samples that .* require a bound, as gap_max<0.5",
        "recall": "race/2 has no metric 'recall' on scenes; it has cosine, cosine_std, gap_max, l0",
    }.items():
        with pytest.raises(ConceptryError, match=sentence):
            promote("race", 2, "best", [Requirement.parse("cosine>=0"), better, parse_requirement(f"better:{metric}")])
    second = promote("race", 2, "best", [better, Requirement.parse("gap_max<1")])
    assert second
    assert re.fullmatch(
        r"better:cosine than version 1 by \+0.1 \[\+0.1, \+0.1\] over 40 samples, gap_max<1", second.rule
    )
    with pytest.raises(ConceptryError, match="models:/race/1 is not promoted: it is not better than models:/race/2"):
        promote("race", 1, "best", [better])
    log_report(pair[0], ImageData("others", "e" * 64, ()), Report({"cosine": 1.0}), (), revision=1, headlines={})
    with pytest.raises(ConceptryError, match="race/2, which it must be better than, has no cosine on others; run conc"):
        promote("race", 1, "best", [better])
