"""The names of the published code: what its README computes, against slow transcriptions of its definitions."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.harsanyi import AndOrGraph
from conceptry.models.harsanyi.original import (
    AndBaselineSparsifier,
    AndHarsanyi,
    aggregate_pattern_iterative,
    construct_AOG,
    remove_noisy_greedy,
)

SUBSETS = list(itertools.product((False, True), repeat=4))


def network(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs)).double().eval().requires_grad_(False)


X = torch.tensor([[1.0, -0.5, 2.0, 0.3]], dtype=torch.float64)
BASELINE = torch.tensor([[0.2, 0.0, -0.1, 0.0]], dtype=torch.float64)


def literal(reward) -> tuple[np.ndarray, np.ndarray]:
    """v(S) and I(S) = sum over L of S of (-1)^(|S| - |L|) v(L), subset by subset."""
    masked = [torch.where(torch.tensor([mask]), X, BASELINE) for mask in SUBSETS]
    v = [float(reward(row)) for row in masked]
    interactions = [
        sum(
            (-1) ** (sum(s) - sum(t)) * v[k]
            for k, t in enumerate(SUBSETS)
            if all(a or not b for a, b in zip(s, t, strict=True))
        )
        for s in SUBSETS
    ]
    return np.array(v), np.array(interactions)


def log_odds(p: torch.Tensor) -> torch.Tensor:
    return torch.log(p / (1 - p))


THREE, ONE = network(), network(1)
TOP = int(THREE(X).argmax())
SIGN = 1.0 if float(ONE(X)) > 0 else -1.0


@pytest.mark.parametrize(
    ("model", "selected_dim", "reward"),
    [
        (THREE, "0", lambda x: THREE(x)[0, 0]),
        (THREE, "0-v0", lambda x: THREE(x)[0, 0] - THREE(BASELINE)[0, 0]),
        (THREE, "gt", lambda x: THREE(x)[0, 1]),
        (THREE, "max", lambda x: THREE(x)[0, TOP]),
        (THREE, "gt-log-odds", lambda x: log_odds(THREE(x).softmax(1)[0, 1])),
        (
            THREE,
            "gt-log-odds-v0",
            lambda x: log_odds(THREE(x).softmax(1)[0, 1]) - log_odds(THREE(BASELINE).softmax(1)[0, 1]),
        ),
        (THREE, "gt-log-odds_t=2.5", lambda x: log_odds((THREE(x) / 2.5).softmax(1)[0, 1])),
        (THREE, "max-log-odds", lambda x: log_odds(THREE(x).softmax(1)[0, TOP])),
        (ONE, "gt-logistic-odds", lambda x: ONE(x)[0, 0]),
        (ONE, "gt-logistic-odds-v0", lambda x: ONE(x)[0, 0] - ONE(BASELINE)[0, 0]),
        (ONE, "logistic-odds", lambda x: SIGN * ONE(x)[0, 0]),
        (lambda x: ONE(x).sigmoid(), "gt-prob-log-odds", lambda x: ONE(x)[0, 0]),
        (lambda x: ONE(x).sigmoid(), "prob-log-odds", lambda x: SIGN * ONE(x)[0, 0]),
        (lambda x: THREE(x)[:, 2], None, lambda x: THREE(x)[0, 2]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rewards_and_interactions(model, selected_dim: str | None, reward) -> None:
    with torch.no_grad():
        v, interactions = literal(reward)
    calculator = AndHarsanyi(model, selected_dim, X, BASELINE, torch.tensor([1]), calc_bs=5, verbose=0)
    calculator.attribute()
    # the guard 1e-7 of log-odds of probabilities
    np.testing.assert_allclose(calculator.get_rewards().numpy(), v, atol=1e-5)
    np.testing.assert_allclose(calculator.get_interaction().numpy(), interactions, atol=1e-5)
    assert [tuple(mask) for mask in calculator.get_masks().tolist()] == SUBSETS


def test_class_0_of_one_output() -> None:
    calculator = AndHarsanyi(ONE, "gt-logistic-odds", X, BASELINE, 0, verbose=0)
    calculator.attribute()
    assert calculator.get_rewards()[-1].item() == pytest.approx(-float(ONE(X)))


def masked(x: torch.Tensor, baseline: torch.Tensor, sets: list[list[int]]) -> torch.Tensor:
    rows = baseline.repeat(len(sets), 1)
    for row, items in zip(rows, sets, strict=True):
        row[items] = x[0, items]
    return rows


def test_players_of_a_mask_function_with_a_background(capsys: pytest.CaptureFixture[str]) -> None:
    """Players {0, 2} and {1}; item 3 is always there."""
    calculator = AndHarsanyi(
        model=THREE, selected_dim="0", x=X, baseline=BASELINE, y=None, all_players=[[0, 2], 1], background=[3],
        mask_input_fn=masked, verbose=1,
    )  # fmt: skip
    calculator.attribute()
    assert "100%" in capsys.readouterr().err
    present = [[3], [1, 3], [0, 2, 3], [0, 1, 2, 3]]
    expected = THREE(masked(X, BASELINE, present))[:, 0].detach()
    np.testing.assert_allclose(calculator.get_rewards().numpy(), expected.numpy())
    sparsifier = AndBaselineSparsifier(calculator, "l1", -1.0, 1.0, 0.05, 10)
    sparsifier.sparsify()
    learned = sparsifier.get_baseline()
    assert learned[0, 3] == BASELINE[0, 3]
    again = THREE(masked(X, learned, present))[:, 0].detach()
    np.testing.assert_allclose(sparsifier.get_rewards().numpy(), again.numpy(), rtol=1e-6)


@pytest.mark.parametrize("selected_dim", ["gt-log-odds", "gt-log-odds-v0"])
def test_a_learned_baseline_follows_the_published_steps(selected_dim: str) -> None:
    """b <- clip(b - lr g), lr from lr to lr / 10 on a log scale; of all iterates the best is returned."""
    calculator = AndHarsanyi(THREE, selected_dim, X, BASELINE, 1, verbose=0)
    calculator.attribute()
    sparsifier = AndBaselineSparsifier(
        calculator=calculator,
        loss="l1",
        baseline_min=torch.full((1, 4), -0.6),
        baseline_max=0.6,
        baseline_lr=0.2,
        niter=15,
    )
    sparsifier.sparsify()
    signs = torch.tensor(
        [
            [(-1.0) ** (sum(s) - sum(t)) * all(a or not b for a, b in zip(s, t, strict=True)) for t in SUBSETS]
            for s in SUBSETS
        ],
        dtype=torch.float64,
    )
    b, iterates = BASELINE.clone(), []
    for lr in [*np.geomspace(0.2, 0.02, 15), 0.0]:
        b.requires_grad_(True)
        rows = torch.cat([torch.where(torch.tensor([mask]), X, b) for mask in SUBSETS])
        v = log_odds(THREE(rows).softmax(1)[:, 1])
        interactions = signs @ (v - v[0] if selected_dim.endswith("v0") else v)
        loss = interactions.abs().sum()
        iterates.append((float(loss.detach()), interactions.detach().numpy(), b.detach()))
        (gradient,) = torch.autograd.grad(loss, b)
        b = (b.detach() - lr * gradient).clamp(-0.6, 0.6)
    loss, interactions, baseline = min(iterates, key=lambda iterate: iterate[0])
    assert loss < 0.97 * iterates[0][0]
    np.testing.assert_allclose(sparsifier.get_baseline().numpy(), baseline.numpy(), rtol=1e-6)
    np.testing.assert_allclose(sparsifier.get_interaction().numpy(), interactions, atol=1e-6)
    assert sparsifier.get_interaction().abs().sum().item() == pytest.approx(loss)
    assert sparsifier.get_masks().tolist() == calculator.get_masks().tolist()


def test_the_readme_from_interactions_to_the_picture(tmp_path) -> None:
    words = ["the", "film", "is", "not", "the", "worst"]
    weights = {(3, 5): 4.0, (0, 3, 5): 2.0, (1, 3, 5): -2.0, (1,): 1.0, (2, 4): 0.5}
    masks = torch.tensor(list(itertools.product((False, True), repeat=6)))
    interactions = torch.tensor([weights.get(tuple(np.flatnonzero(mask)), 0.0) for mask in masks], dtype=torch.float64)
    rewards = torch.tensor([sum(w for players, w in weights.items() if mask[list(players)].all()) for mask in masks])

    found = remove_noisy_greedy(rewards, interactions.clone(), masks, min_patterns=5)
    selected_indices = found["final_retained"]
    assert {tuple(np.flatnonzero(mask)) for mask in masks[selected_indices]} == set(weights)
    assert found["final_error"] < 1e-12
    assert found["final_ratio"] == pytest.approx(1.0)
    assert len(found["errors"]) == len(found["explain_ratios"]) == 64 - 5

    merged_patterns, aggregated_concepts, lengths = aggregate_pattern_iterative(
        patterns=masks[selected_indices], interactions=interactions[selected_indices]
    )
    assert [np.flatnonzero(pattern).tolist() for pattern in merged_patterns] == [[3, 5]]
    assert lengths["sum"] == sorted(lengths["sum"], reverse=True)
    single_features = np.vstack([np.eye(len(words)).astype(bool), merged_patterns])
    aog = construct_AOG(
        attributes=words,
        single_features=single_features,
        concepts=aggregated_concepts,
        interactions=interactions[selected_indices],
    )
    assert aog.graph.players == ("the", "film", "is", "not", "the (2)", "worst")
    assert aog.graph.coalitions == ((3, 5),)
    assert aog.graph.total == pytest.approx(5.5)
    path = tmp_path / "aog.svg"
    aog.visualize(figsize=(15, 7), save_path=path, renderer="networkx", highlight_path="rank-1", title="dummy title")
    assert ">dummy title</text>" in path.read_text()
    aog.visualize(save_path=tmp_path / "aog.html", renderer="networkx", highlight_path="max-20%", figsize=(15, 7))
    assert "AOG | # edges: 15 | # nodes: 13" in (tmp_path / "aog.html").read_text()
    aog.visualize(str(tmp_path / "aog.png"), n_row_interaction=2, simplify=True)
    aog.visualize(tmp_path / "aog.json")
    assert AndOrGraph.from_json((tmp_path / "aog.json").read_text()) == aog.graph
    with pytest.raises(InputError, match="renderer is 'graphviz'; expected networkx"):
        aog.visualize("aog.svg", renderer="graphviz")
    with pytest.raises(InputError, match='highlight must be "largest"'):
        aog.visualize(tmp_path / "aog.svg", highlight_path="min")


def test_masks_in_another_order() -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(size=32)
    masks = np.array(list(itertools.product((False, True), repeat=5)))
    signs = [[(-1.0) ** (int(s.sum()) - int(t.sum())) * (t <= s).all() for t in masks] for s in masks]
    interactions = np.array(signs) @ v
    order = rng.permutation(32)
    plain = remove_noisy_greedy(v, interactions, masks)
    moved = remove_noisy_greedy(v[order], interactions[order], masks[order])
    assert sorted(order[moved["final_retained"]]) == plain["final_retained"]
    np.testing.assert_allclose(moved["errors"], plain["errors"])


def test_what_is_saved(tmp_path) -> None:
    calculator = AndHarsanyi(THREE, "0", X, BASELINE, None, verbose=0)
    calculator.attribute()
    calculator.save(tmp_path / "harsanyi")
    assert np.load(tmp_path / "harsanyi" / "Iand.npy").shape == (16,)
    sparsifier = AndBaselineSparsifier(calculator, baseline_min=-1.0, baseline_max=1.0, niter=2)
    sparsifier.sparsify()
    sparsifier.save(tmp_path / "sparse")
    names = {"Iand.npy", "masks.npy", "rewards.npy"}
    assert {path.name for path in (tmp_path / "harsanyi").iterdir()} == names | {"sample.npy"}
    assert {path.name for path in (tmp_path / "sparse").iterdir()} == names | {"baseline.npy"}


def test_what_is_refused() -> None:
    def refused(message: str, *arguments, **keywords) -> None:
        with pytest.raises(InputError, match=message):
            AndHarsanyi(*arguments, **{"verbose": 0, **keywords}).attribute()

    refused(r"selected_dim is 'odds'; expected None or one of 0, gt, max, gt-log-odds", THREE, "odds", X, BASELINE, 1)
    refused("selected_dim is 'gt_t=2'", THREE, "gt_t=2", X, BASELINE, 1)
    refused("selected_dim 'gt-log-odds' needs y", THREE, "gt-log-odds", X, BASELINE, None)
    refused(
        r"x and baseline must have one shape \(1, \*features\), got \(4,\) and \(4,\)", THREE, "0", X[0], BASELINE[0], 1
    )
    refused("all_players and mask_input_fn come together", THREE, "0", X, BASELINE, 1, all_players=[0])
    refused(
        "all_players and mask_input_fn come together, and background needs both",
        THREE,
        "0",
        X,
        BASELINE,
        1,
        background=[0],
    )
    refused("has no output '7'", THREE, "gt", X, BASELINE, 7)
    calculator = AndHarsanyi(THREE, "0", X, BASELINE, 1)
    with pytest.raises(InputError, match=r"nothing is known yet; call attribute\(\) first"):
        calculator.get_interaction()
    with pytest.raises(InputError, match="loss is 'l2'; expected l1"):
        AndBaselineSparsifier(calculator, "l2", 0.0, 1.0)
    sparsifier = AndBaselineSparsifier(calculator, "l1", -1.0, 1.0)
    with pytest.raises(InputError, match=r"nothing is learned yet; call sparsify\(\) first"):
        sparsifier.get_rewards()

    def halves(x: torch.Tensor, baseline: torch.Tensor, sets: list[list[int]]) -> torch.Tensor:
        return (masked(x, baseline, sets) + baseline) / 2

    faded = AndHarsanyi(THREE, "0", X, BASELINE, 1, all_players=[0, 1, 2, 3], mask_input_fn=halves)
    with pytest.raises(
        InputError, match="a baseline is learned where mask_input_fn keeps features or replaces them by"
    ):
        AndBaselineSparsifier(faded, "l1", -1.0, 1.0).sparsify()
    masks = np.array(SUBSETS)
    with pytest.raises(InputError, match=r"masks must have shape \(16, 4\), got \(16, 3\)"):
        remove_noisy_greedy(np.zeros(16), np.zeros(16), masks[:, :3])
    with pytest.raises(InputError, match="masks must hold every subset of the players once"):
        remove_noisy_greedy(np.zeros(16), np.zeros(16), np.vstack([masks[:15], masks[:1]]))
    with pytest.raises(InputError, match=r"single_features must be bool .* and begin with the players themselves"):
        construct_AOG(["a", "b"], np.ones((2, 2)), np.ones((1, 2)), np.ones(1))
    with pytest.raises(InputError, match=r"concepts must have shape \(patterns, 2\) and interactions \(patterns,\)"):
        construct_AOG(["a", "b"], np.eye(2), np.ones((1, 3)), np.ones(1))
    with pytest.raises(InputError, match="concept 0 writes a player twice"):
        construct_AOG(["a", "b"], np.vstack([np.eye(2), np.ones((1, 2))]), np.ones((1, 3)), np.ones(1))


def test_suffixes_stand_behind_the_names() -> None:
    aog = construct_AOG(["a", "b"], np.eye(2), np.array([[1, 0], [0, 0]]), np.array([1.0, 2.0]), [" up", " down"])
    assert aog.graph.players == ("a up", "b down")
    assert len(aog.graph.patterns) == 1  # the empty pattern is no node
