"""Games with known terms: found exactly, within the budget, by seed alone, and never believed without structure."""

import doctest

import numpy as np
import pytest

from conceptry.models import harsanyi
from conceptry.models.errors import InputError
from conceptry.models.harsanyi.sampled import engine
from conceptry.models.harsanyi.sampled.masks import unpacked
from conceptry.models.harsanyi.sampled.record import SampledInteractions, r2_of


class Recorder:
    """A game that keeps the masks it is asked for, and can break after some calls."""

    def __init__(self, v, most_calls: int | None = None) -> None:
        self.v, self.most_calls, self.batches = v, most_calls, []

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        if len(self.batches) == self.most_calls:
            raise RuntimeError("killed")
        self.batches.append(masks.copy())
        return self.v(masks)

    @property
    def asked(self) -> np.ndarray:
        return np.concatenate(self.batches)


def planted(n: int, seed: int, count: int = 15) -> harsanyi.Terms:
    rng = np.random.default_rng(seed)
    sets: set[tuple[int, ...]] = set()
    while len(sets) < count:
        sets.add(tuple(sorted(rng.choice(n, rng.integers(1, 5), replace=False).tolist())))
    return harsanyi.Terms.of(
        n, {(): 0.5, **{players: rng.normal() + 2 * rng.choice([-1, 1]) for players in sorted(sets)}}
    )


def noise(masks: np.ndarray) -> np.ndarray:
    """A number for each mask that has nothing to do with those of masks near it."""
    bits = np.random.default_rng(9).integers(1, 2**63, masks.shape[1], dtype=np.uint64)
    mixed = np.bitwise_xor.reduce(np.where(masks, bits, np.uint64(0)), axis=1)
    return np.array([np.random.default_rng(int(seed)).normal() for seed in mixed])


def strong(effects: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    return {players: effect for players, effect in effects.items() if abs(effect) > 1e-9}


@pytest.mark.parametrize("n", [30, 300])
def test_planted_terms_are_found_exactly(n: int) -> None:
    truth = planted(n, 1)
    v = Recorder(truth.values)
    found = harsanyi.sampled_interactions(v, n, budget=2048)
    assert strong(found.terms) == pytest.approx(truth.and_terms, abs=1e-9)
    assert (found.r2, found.r2_interval, found.believable) == (1.0, (1.0, 1.0), True)
    assert found.residuals == pytest.approx((0, 0), abs=1e-9)
    assert found.v_full == pytest.approx(truth.effects.sum())
    assert found.v_empty == 0.5
    assert found.calls == len(v.asked) == 2048
    assert len(np.unique(v.asked, axis=0)) == 2048


def test_or_terms_are_found_as_such() -> None:
    """Wide ones: of few players an OR term is a few AND terms just as well."""
    truth = harsanyi.Terms.of(30, {(): 0.5, (1,): -2.0, (2, 9, 11): 3.0}, {(0, 2, 7, 26, 28): 4.0, (3, 4, 5, 6): -3.0})
    found = harsanyi.sampled_interactions(truth.values, 30, budget=1024, interactions="and-or")
    assert strong(found.or_terms) == pytest.approx(truth.or_terms, abs=1e-9)
    assert strong(found.terms) == pytest.approx(truth.and_terms, abs=1e-9)


def test_a_budget_for_all_subsets_gives_the_interactions_themselves() -> None:
    table = np.random.default_rng(2).normal(size=2**6)
    weights = 2 ** np.arange(5, -1, -1)
    found = harsanyi.sampled_interactions(lambda masks: table[masks @ weights], 6, budget=64)
    exact = harsanyi.moebius(table)
    expected = {tuple(np.flatnonzero(row).tolist()): exact[k] for k, row in enumerate(harsanyi.subset_masks(6))}
    assert found.terms == pytest.approx(expected, abs=1e-12)
    assert (found.exact, found.calls, found.r2) == (True, 64, 1.0)
    split = harsanyi.sampled_interactions(lambda masks: table[masks @ weights], 6, budget=64, interactions="and-or")
    np.testing.assert_allclose(split.sparse.values(harsanyi.subset_masks(6)), table, atol=1e-9)


def test_few_players_more_subsets_than_budget() -> None:
    """Where the masks asked for are most of those there are, none is asked twice and v(N) and v(empty) are."""
    v = Recorder(planted(9, 4).values)
    found = harsanyi.sampled_interactions(v, 9, budget=500)
    assert len(np.unique(v.asked, axis=0)) == found.calls == 500
    assert v.asked.all(axis=1).any()
    assert (~v.asked).all(axis=1).any()


def test_the_same_seed_gives_the_same_answer_whatever_the_batches() -> None:
    def v(masks: np.ndarray) -> np.ndarray:
        return np.sin(masks @ np.arange(20) / 10) + 2 * (masks[:, 0] & masks[:, 1])

    one, other = (harsanyi.sampled_interactions(v, 20, budget=256, seed=5, batch_size=size) for size in (256, 7))
    assert one.terms == other.terms
    assert (one.r2, one.r2_interval) == (other.r2, other.r2_interval)
    third = harsanyi.sampled_interactions(v, 20, budget=256, seed=6)
    assert not np.array_equal(third.bits, one.bits)


def test_r2_is_from_masks_that_nothing_was_fitted_to() -> None:
    """Rewards of held-out masks could be anything: the terms are the same, and only r2 differs."""
    truth = planted(20, 5, 6).values
    first = harsanyi.sampled_interactions(truth, 20, budget=256)
    held_out = {bits.tobytes() for bits in first.bits[first.held_out]}
    assert len(held_out) == 32

    def spoilt(masks: np.ndarray) -> np.ndarray:
        hidden = np.array([bits.tobytes() in held_out for bits in np.packbits(masks, axis=1)])
        return np.where(hidden, 0.1 * noise(masks), truth(masks))

    second = harsanyi.sampled_interactions(spoilt, 20, budget=256)
    assert second.terms == first.terms
    assert second.r2 < 0
    assert not second.believable
    masks = unpacked(first.bits[first.held_out], 20)
    assert first.rewards[first.held_out].tolist() == truth(masks).tolist()
    assert abs(masks.mean() - 0.5) < 0.1


def test_a_game_without_structure_is_never_an_explanation() -> None:
    for seed in range(2):
        found = harsanyi.sampled_interactions(noise, 30, budget=256, seed=seed)
        assert found.r2 < 0.2
        assert not found.believable


def test_a_game_of_trees_is_followed_by_trees() -> None:
    """max of noisy sums is no sum of a few terms, yet is predicted."""
    weights = np.random.default_rng(3).normal(size=(3, 20))
    found = harsanyi.sampled_interactions(lambda masks: (masks @ weights.T).max(axis=1), 20, budget=1024)
    assert found.r2 > 0.8
    assert found.r2_interval[0] < found.r2 < found.r2_interval[1]
    assert found.believable == (found.r2_interval[0] >= found.min_r2)
    share = found.sparse.shapley_values().sum() + found.terms[()] - found.sparse.effects.sum()
    assert share == pytest.approx(0, abs=1e-9)


def test_a_killed_run_goes_on_where_it_was(tmp_path) -> None:
    truth, file = planted(30, 6), tmp_path / "rewards"
    broken, rest, whole = Recorder(truth.values, most_calls=3), Recorder(truth.values), Recorder(truth.values)
    with pytest.raises(RuntimeError, match="killed"):
        harsanyi.sampled_interactions(broken, 30, budget=512, batch_size=100, resume=file)
    with file.open("ab") as stream:
        stream.write(b"half")  # of a record, as a kill leaves it
    resumed = harsanyi.sampled_interactions(rest, 30, budget=512, batch_size=100, resume=file)
    assert len(broken.asked) == 300
    assert len(rest.asked) == 212
    assert len(np.unique(np.concatenate([broken.asked, rest.asked]), axis=0)) == 512
    assert resumed.terms == harsanyi.sampled_interactions(whole, 30, budget=512).terms
    for changed in ({"budget": 600}, {"seed": 1}, {"n": 31}):
        with pytest.raises(InputError, match=f"rewards holds rewards for {next(iter(changed))} "):
            harsanyi.sampled_interactions(rest, **{"n": 30, "budget": 512, "resume": file, **changed})
    file.write_bytes(b"something else")
    with pytest.raises(InputError, match="rewards holds no rewards to resume from; name a new file"):
        harsanyi.sampled_interactions(rest, 30, budget=512, resume=file)


def test_progress_is_told() -> None:
    told: list[tuple[str, float]] = []
    harsanyi.sampled_interactions(
        planted(30, 1).values, 30, budget=512, batch_size=128, progress=lambda *x: told.append(x)
    )
    assert told[:4] == [("rewards", 0.25), ("rewards", 0.5), ("rewards", 0.75), ("rewards", 1.0)]
    assert told[-1] == ("terms", 1.0)


def test_the_interval_holds_the_true_r2() -> None:
    """A small version: terms that explain 0 to all of v, judged by 64 masks."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        f = rng.normal(size=20000)
        e = rng.normal(size=20000) * (rng.random(20000) < 0.1 + 0.9 * rng.random()) * rng.random()
        v = f + e
        true = 1 - (e**2).mean() / v.var()
        low, high = r2_of(v[:64], f[:64])[1]
        held += low <= true <= high
    assert held >= 190


def test_r2_of_rewards_that_are_all_equal() -> None:
    ones = np.ones(40)
    assert r2_of(ones, ones) == (1.0, (1.0, 1.0))
    assert r2_of(ones, np.zeros(40)) == (0.0, (0.0, 0.0))
    constant = harsanyi.sampled_interactions(lambda masks: np.full(len(masks), 3.0), 30, budget=256)
    assert strong(constant.terms) == pytest.approx({(): 3.0})
    assert constant.believable


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"n": 1001}, "n must be a whole number from 1 to 1000, got 1001"),
        ({"n": 0}, "n must be a whole number from 1 to 1000, got 0"),
        ({"budget": 100}, "budget must be at least 128 for 30 players, got 100"),
        ({"n": 5, "budget": 31}, "budget must be at least 32 for 5 players, got 31"),
        ({"n": 1000, "budget": 2**20}, "expected a budget of at most 134217"),
        ({"resume": "/nowhere/rewards"}, "there is no folder /nowhere for the rewards"),
        ({"resume": "/"}, "/ is a folder; name a file for the rewards"),
        ({"budget": 4096.0}, "budget must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"interactions": "or"}, "interactions is 'or'; expected and or and-or"),
        ({"min_r2": float("nan")}, "min_r2 must be a finite number"),
        ({"v": 3}, "v must be a function of masks"),
        ({"v": lambda masks: masks}, r"v must return one real number for each mask, shape \(256,\), got bool"),
        ({"v": lambda masks: np.ones((len(masks), 1))}, r"shape \(256,\), got float64 \(256, 1\)"),
        ({"v": lambda masks: np.where(masks.all(1), np.nan, 0)}, "v returned NaN or infinity for 1 mask of 256"),
    ],
)
def test_what_is_refused(changed, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        harsanyi.sampled_interactions(**{"v": lambda masks: masks.sum(1), "n": 30, "budget": 256, **changed})


def test_the_example() -> None:
    found = doctest.testmod(engine)
    assert found.attempted > 0
    assert found.failed == 0
    assert harsanyi.SampledInteractions is SampledInteractions
