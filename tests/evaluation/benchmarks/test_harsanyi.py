"""The benchmark of Harsanyi interactions at small sizes: its references are right, and it has all of its parts."""

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from conceptry.evaluation.benchmarks import harsanyi as benchmark
from conceptry.evaluation.benchmarks.harsanyi import proxies, rivals, sampled, table, trees, wide_games
from conceptry.evaluation.benchmarks.harsanyi import rivals as dense
from conceptry.evaluation.benchmarks.harsanyi.games import network_game, planted_game
from conceptry.evaluation.benchmarks.measure import Benchmark, Ledger, Record, Target
from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.denoise import denoise
from conceptry.models.harsanyi.interactions.moebius import moebius, subset_masks, subset_sizes
from conceptry.models.harsanyi.interactions.terms import Terms


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_dense_transform_agrees_with_ours(n: int) -> None:
    v = network_game(n)
    np.testing.assert_allclose(dense.dense_moebius(v), moebius(v), atol=1e-12)
    np.testing.assert_allclose(dense.zeta_matrix(n, np.float64) @ moebius(v), v, atol=1e-12)
    assert dense.dense_moebius(v.astype(np.float32)).dtype == np.float32


def test_a_dense_interaction_is_the_alternating_sum_over_subsets() -> None:
    v, S = network_game(4), (0, 2, 3)
    subsets = [L for size in range(len(S) + 1) for L in combinations(S, size)]
    expected = sum((-1) ** (len(S) - len(L)) * v[sum(1 << (3 - k) for k in L)] for L in subsets)
    assert math.isclose(dense.dense_moebius(v)[0b1011], expected, abs_tol=1e-12)


@pytest.mark.parametrize(("n", "seed"), [(5, 0), (6, 1), (7, 2), (8, 3)])
def test_the_references_and_ours_keep_the_same_patterns(n: int, seed: int) -> None:
    v = network_game(n, seed)
    effects = moebius(v)
    loop = dense.greedy_loop(v, effects, dense.zeta_matrix(n, np.float64))
    columns = dense.greedy_by_columns(v, effects)
    assert len(loop.removed) == len(columns.removed) == dense.n_steps(n) == 2**n - 15
    kept = dense.kept_patterns(v, effects, loop)
    assert kept == dense.kept_patterns(v, effects, columns)
    assert kept == denoise(v, effects).kept.tolist()


def test_the_kept_state_is_the_last_within_both_thresholds() -> None:
    effects = np.array([0.0, 3.0, 1.0, -1.0])
    # The effects of the two removed cancel: the explain ratio is 1, 4 / 5, and 1 again.
    removal = dense.Removal([2, 3], [0.0, 0.0, 0.0], 0.0)
    assert dense.kept_patterns(np.ones(4), effects, removal) == [0, 1]
    removal = dense.Removal([2, 3], [0.0, 0.0, 0.5], 0.0)  # here the error is an eighth of that of nothing kept
    assert dense.kept_patterns(np.ones(4), effects, removal) == [0, 1, 2, 3]


def test_no_more_than_the_limit_are_kept_whatever_the_thresholds_say() -> None:
    removal = dense.Removal(list(range(60)), [0.0, *[1e9] * 60], 0.0)
    assert dense.kept_patterns(np.ones(128), np.ones(128), removal) == list(range(48, 128))


def test_part_of_the_literal_loop_is_its_beginning() -> None:
    v = network_game(6)
    effects, B = moebius(v), dense.zeta_matrix(6, np.float64)
    whole, part = dense.greedy_loop(v, effects, B), dense.greedy_loop(v, effects, B, max_steps=10)
    assert part.removed == whole.removed[:10]
    assert part.errors == whole.errors[:11]


def test_interactions_of_the_network_game_fade_with_order() -> None:
    effects, sizes = np.abs(moebius(network_game(10))), subset_sizes(10)
    assert effects[sizes == 9].mean() < 0.05 * effects[sizes == 2].mean()
    assert (effects > 0).all()


def test_the_planted_game_is_the_sum_of_its_terms() -> None:
    game, masks = planted_game(6), subset_masks(6)
    for S in (0, 5, 44, 63):
        ands = sum(game.a[T] for T in range(64) if not (masks[T] & ~masks[S]).any())
        ors = sum(game.o[T] for T in range(64) if (masks[T] & masks[S]).any())
        assert math.isclose(game.v[S], ands + ors, abs_tol=1e-12)
    assert np.count_nonzero(game.a) == 5
    assert np.count_nonzero(game.o) == 3
    assert game.named_by(game.a, game.o)
    assert not game.named_by(moebius(game.v), np.zeros(64))


@pytest.fixture(scope="module")
def small() -> Benchmark:
    said: list[str] = []
    result = table.run(quick=True, n=8, progress=said.append)
    assert any("growth" in line for line in said)
    return result


def test_every_target_is_measured(small: Benchmark) -> None:
    shapiq = "transform, times as fast as shapiq"
    assert [t.name for t in small.targets if t.value is None] == ([] if rivals.SHAPIQ_THERE else [shapiq])
    assert len(small.targets) == 11
    by_name = {t.name: t for t in small.targets}
    for name in ("denoise, share of references with the same kept set", "largest residual of v = sum of I"):
        assert by_name[name].met, name
    assert by_name["split, largest L1 / planted"].met


def test_the_records_name_their_case_and_convert_to_json(small: Benchmark) -> None:
    cases = {r.case for r in small.records}
    assert {"transform, n = 8", "denoise, n = 6", "denoise, n = 8", "explain, n = 9", "AND-OR split, n = 8"} <= cases
    growth = [r for r in small.records if r.case.startswith("growth")]
    assert {r.case for r in growth} == {f"growth, {part}" for part in table.PARTS}
    assert all(r.seconds is not None and r.seconds > 0 for r in growth)
    loop = next(r for r in small.records if (r.case, r.implementation) == ("denoise, n = 8", rivals.LOOP))
    assert loop.extra["note"] == "extrapolated from 50 of 241 iterations"
    assert len(json.loads(small.to_json())["records"]) == len(small.records)


def test_the_full_loop_is_measured_to_its_end() -> None:
    found = {r.implementation: r.extra for r in rivals.denoising(6, None)}
    for name in (rivals.PRECISE_LOOP, rivals.COLUMNS):
        assert found[name]["same set"]
        assert found[name]["note"] == "all 49 iterations"


def test_a_dictionary_is_refused() -> None:
    with pytest.raises(InputError, match="--dictionary: the benchmark of harsanyi makes its own games"):
        benchmark.run(dictionary=Path("words.npz"))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of shap, where it is installed
def test_every_target_of_trees_is_measured() -> None:
    result = trees.run(quick=True)
    kinds = {r.implementation for r in result.records if r.case.startswith(trees.EQUAL)}
    assert {"DecisionTreeRegressor", "RandomForestClassifier", "HistGradientBoostingRegressor"} <= kinds
    of_shap = [t for t in result.targets if "shap" in t.name or "single precision" in t.name]
    for target in result.targets:
        assert target.value is not None or (target in of_shap and not trees.SHAP_THERE) or "single" in target.name
    assert result.targets[0].met
    assert all(t.met for t in of_shap if "difference" in t.name and t.value is not None)


def test_every_target_of_samples_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    games = [wide_games.planted(30), wide_games.planted(30, n_or=8)]
    monkeypatch.setattr(sampled, "cells", lambda players: games)
    monkeypatch.setattr(sampled, "JUDGED", 500)
    result = sampled.run(quick=True, repeats=1)
    no_rivals = proxies.missing()
    compared = [t for t in result.targets if "cells" in t.name]
    assert len(compared) == 4
    for target in result.targets:
        assert (target.value is None) == (target in compared and no_rivals is not None), target.name
    assert (no_rivals in result.notes) == (no_rivals is not None)
    ours = [r.extra for r in result.records if r.case.startswith("sampled planted") and r.implementation == rivals.OURS]
    assert [(r["P@10"], round(r["R2"], 6), r["inside"]) for r in ours] == [(1, 1, True)] * 2
    texts = [r.extra["players"] for r in result.records if r.case.startswith(sampled.TEXT)]
    assert texts == [60]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    measured: list[str] = []

    def part(name: str) -> Benchmark:
        measured.append(name)
        return Benchmark(
            name, [Record(name, "ours", 1 / 3, extra={"R2": 0.1})], [Target("t", None, 1, "min")], ["note"]
        )

    file = tmp_path / "parts.jsonl"
    ledger = Ledger(file, {"quick": True})
    first = [ledger.part(name, lambda name=name: part(name)) for name in ("table", "trees")]
    with file.open("a", encoding="utf-8") as cut:
        cut.write('["sampled", "{')  # as a kill leaves it
    ledger = Ledger(file, {"quick": True})
    again = [ledger.part(name, lambda name=name: part(name)) for name in ("table", "trees", "sampled")]
    assert measured == ["table", "trees", "sampled"]
    assert again[:2] == first
    assert again[2] == part("sampled")
    assert Ledger(file, {"quick": True}).records("sampled", list) == part("sampled").records
    with pytest.raises(InputError, match=r'parts.jsonl is of another run than \{"quick": false\}; name a new file'):
        Ledger(file, {"quick": False})


def test_or_terms_in_and_form_are_the_same_game() -> None:
    terms = Terms.of(6, {(): 1.0, (0, 2): 2.0}, {(0, 2, 5): 3.0, (1, 4): -1.0})
    expanded, masks = Terms.of(6, wide_games.and_form(terms)), subset_masks(6)
    np.testing.assert_allclose(expanded.values(masks), terms.values(masks), atol=1e-12)


def test_noise_is_a_function_of_the_mask_and_precision_counts_known_terms() -> None:
    masks = wide_games.uniform_masks(2000, 70, 0)
    drawn = wide_games.noise(masks)
    np.testing.assert_array_equal(drawn, np.concatenate([wide_games.noise(masks[:7]), wide_games.noise(masks[7:])]))
    assert abs(drawn.mean()) < 0.1
    assert abs(drawn.std() - 1) < 0.1
    game = wide_games.Game("", 3, lambda masks: masks[:, 0], known={(0,): 1.0, (1,): 2.0, (0, 1): 0.5}, n_known=2)
    assert game.precision({(): 9.0, (1,): 1.0, (0, 1): 0.9, (0,): 0.1}) == 0.5
