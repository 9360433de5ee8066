"""Comparisons of versions of one method under several names; those of one name are in test_promotion."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from conceptry.evaluation.presenter import check_beside, version_titles
from conceptry.evaluation.tables import comparison_records, comparison_table
from conceptry.models.errors import InputError
from conceptry.registry.comparison import compare_versions, versions_named
from conceptry.registry.versions import Measured, Version

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def version(name: str, number: int, method: str = "perturbation", score: float | None = None, **params: str) -> Version:
    measured = () if score is None else (Measured("digits", "d1", {"success": score}, NOW),)
    return Version(name, number, method, "f", (), params, measured, {}, NOW, "run", "m-1")


def test_versions_of_several_names_have_their_names_in_the_comparison() -> None:
    robust, standard = version("robust", 1, score=0.5, q="0.9"), version("standard", 1, score=0.75, q="0.8")
    comparison = compare_versions([robust, standard])
    assert (comparison.data, comparison.differing) == ("digits", ("q",))
    assert comparison.scores == {"robust/1": {"success": 0.5}, "standard/1": {"success": 0.75}}
    assert [comparison.heading(v) for v in comparison.versions] == ["robust/1", "standard/1"]
    table = comparison_table(comparison)
    assert table.title == "robust, standard (perturbation)"
    assert [column.header for column in table.columns] == ["", "robust/1", "standard/1"]
    assert [r["metrics"]["success"] for r in comparison_records(comparison)] == [0.5, 0.75]
    alone = compare_versions([robust, version("robust", 2, score=0.6, q="0.9")])
    assert (list(alone.scores), alone.heading(robust)) == ([1, 2], "v1")


def test_versions_of_two_methods_are_not_compared() -> None:
    with pytest.raises(InputError, match=r"models:/a/1 is of splice, models:/b/2 of harsanyi$"):
        compare_versions([version("a", 1, "splice"), version("b", 2, "harsanyi")])


def test_contents_tell_versions_apart_that_names_do_not() -> None:
    def differing(*versions: Version) -> tuple[str, ...]:
        return compare_versions(versions).differing

    words = [version("a", k, vocabulary=name, vocabulary_digest=d) for k, (name, d) in enumerate(["x1", "x2", "y3"], 1)]
    assert differing(words[0], words[1]) == ("vocabulary_digest",)
    assert differing(words[0], words[2]) == ("vocabulary",)  # whose digest says no more
    assert differing(*words) == ("vocabulary", "vocabulary_digest")
    assert version_titles(words[:2]) == ["a/1 (vocabulary_digest=1)", "a/2 (vocabulary_digest=2)"]
    assert differing(version("a", 1), version("a", 2)) == ()


def test_a_comparison_of_versions_that_differ_is_never_empty(tiny_version) -> None:
    other = replace(tiny_version, version=99, fingerprint="f" * 64)
    compared = compare_versions([tiny_version, other])
    assert compared.differing == ("fingerprint",)
    assert [v.params["fingerprint"] for v in compared.versions] == [tiny_version.fingerprint[:8], "f" * 8]
    assert compared.versions[0].params["code"]


def test_titles_name_as_many_hyperparameters_as_tell_versions_apart() -> None:
    settings = [("1", "1", "1"), ("1", "1", "2"), ("2", "2", "1")]
    versions = [version("a", k, p=p, q=q, r=r) for k, (p, q, r) in enumerate(settings, 1)]
    assert version_titles(versions)[:2] == ["a/1 (p=1, q=1, r=1)", "a/2 (p=1, q=1, r=2)"]


def test_names_stand_for_versions_once(store, tiny_version) -> None:
    named = versions_named(["tiny", tiny_version.uri, f"tiny/{tiny_version.version}"])
    assert [v.uri for v in named].count(tiny_version.uri) == 1
    with pytest.raises(InputError, match="nobody: conceptry has registered no version of that name here"):
        versions_named(["tiny", "nobody"])


def test_titles_tell_versions_apart_by_what_differs() -> None:
    l1 = version("err", 1, model="zoo:digits", optimizer="l1q_frank_wolfe", q="0.9", epsilon="52", steps="45")
    l2 = version("err", 2, model="zoo:digits", optimizer="l2_frank_wolfe", epsilon="4", steps="45")
    other = version("err", 3, model="zoo:other", optimizer="l2_frank_wolfe", epsilon="4", steps="45")
    assert version_titles([l1]) == ["err/1 (zoo:digits)"]
    assert version_titles([l2, other]) == ["err/2 (zoo:digits)", "err/3 (zoo:other)"]
    assert version_titles([l1, l2]) == ["err/1 (optimizer=l1q_frank_wolfe, q=0.9)", "err/2 (optimizer=l2_frank_wolfe)"]
    assert version_titles([version("a", 1), version("a", 2)]) == ["a/1", "a/2"]


def test_what_cannot_be_drawn_together_is_refused() -> None:
    one = version("err", 1)
    check_beside([one, version("err", 2), version("err", 3)])
    with pytest.raises(InputError, match="models:/err/1 is given twice; expected versions that differ"):
        check_beside([one, version("err", 2), one])
    with pytest.raises(InputError, match="models:/s/1 is of the method splice"):
        check_beside([one, version("s", 1, "splice")])
