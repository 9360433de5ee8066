"""The benchmark of perturbations at small sizes: its references are right, and it has all of its parts."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from conceptry.evaluation.benchmarks.measure import Benchmark, median_ratio, rounds_side_by_side
from conceptry.evaluation.benchmarks.perturbation import problems, rivals, table
from conceptry.evaluation.benchmarks.perturbation.problems import BARE, NETWORKS, OURS, RIVAL, SIXTEEN, Case, Network
from conceptry.models.errors import InputError
from conceptry.models.perturbation.optimizers.frank_wolfe import L1FrankWolfe
from conceptry.models.perturbation.settings import Settings

SMALL = [dataclasses.replace(network, batch=4, steps=3) for network in NETWORKS[:2]]
needs_rival = pytest.mark.skipif(not rivals.RIVAL_THERE, reason="rai-toolbox is not installed")


class Counting(torch.nn.Module):
    """Counts its forward passes, and the backward ones that reach its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.forwards = self.backwards = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.forwards += 1
        if x.requires_grad:
            x.register_hook(self._count)
        return self.layer(x.flatten(1))

    def _count(self, gradient: torch.Tensor) -> None:
        self.backwards += 1


@pytest.fixture(scope="module")
def untrained() -> Case:
    return table.untrained(8)


@pytest.mark.parametrize("function", [problems.bare_passes, problems.solve])
def test_a_solve_takes_as_many_passes_as_its_floor(function) -> None:
    network = Counting()
    function(problems.make_case(network, (1, 2, 2), 3, batch=5, steps=7, options={}))
    assert (network.forwards, network.backwards) == (8, 7)


def test_a_case_is_noise_toward_the_classes_in_turn() -> None:
    case = problems.load_case(SIXTEEN, 12, 5)
    assert case.data.shape == (12, 1, 16, 16)
    assert case.target.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert case.options["q"] == 0.9
    assert case.options["epsilon"] == Settings(q=0.9).radius(256)
    assert not any(p.requires_grad for p in case.network.parameters())


def test_published_options_go_before_the_usual_ones() -> None:
    case = problems.make_case(Counting(), (1, 2, 2), 3, 2, 1, {"q": 0.5, "lr": 1.0})
    assert case.options["q"] == 0.5
    assert case.options["lr"] == 1.0


def test_the_literal_l1_steps_along_one_entry_and_agrees_with_ours(untrained: Case) -> None:
    case = dataclasses.replace(untrained, steps=4)
    literal = rivals.literal_l1(case, epsilon=3.0)
    moved = (literal - case.data).flatten(1)
    assert ((moved.abs() > 1e-6).sum(1) <= 4).all()
    assert (moved.abs().sum(1) <= 3 + 1e-5).all()
    pair = next(pair for pair in rivals.PAIRS if pair.ours is L1FrankWolfe)
    epsilon = rivals.options_of(pair, case)["epsilon"]
    ours, _ = rivals.ours_with(case, pair)
    torch.testing.assert_close(ours, rivals.literal_l1(case, epsilon), atol=1e-5, rtol=0)


def test_every_optimiser_is_compared_with_options_of_its_own(untrained: Case) -> None:
    options = {pair.name: rivals.options_of(pair, untrained) for pair in rivals.PAIRS}
    assert len(options) == 6
    assert options["l1q_frank_wolfe"].keys() == {"epsilon", "lr", "q", "dq"}
    assert options["l1q_frank_wolfe"]["dq"] == 0
    assert options["l2_frank_wolfe"].keys() == options["linf_projected"].keys() == {"epsilon", "lr"}


@needs_rival
def test_a_solve_by_the_rival_is_of_the_same_case(untrained: Case) -> None:
    theirs, losses = rivals.rival_solve(untrained)
    ours, our_losses = problems.solve(untrained)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(our_losses, losses, atol=1e-5, rtol=1e-5)


def test_the_same_device_agrees_with_itself() -> None:
    records = table.agreement(4, 3, "cpu")
    double, single = records[:6], records[6:]
    assert all(r.extra == {table.PIXELS: 0} for r in double)
    assert all(r.extra == {table.LOSS: 0, table.MOVED: 0} for r in single)
    assert [r.case.rpartition(", ")[2] for r in records] == ["float64"] * 6 + ["float32"] * 6


def test_peak_memory_counts_what_is_held_at_once(untrained: Case, capfd: pytest.CaptureFixture[str]) -> None:
    def hold(case: Case) -> None:
        first = torch.zeros(2**18)  # 1 MiB
        del first
        second, third = torch.zeros(2**18), torch.zeros(2**18)
        del second, third

    assert problems.peak_cpu(untrained, hold) == 2
    assert capfd.readouterr().err == ""


def test_a_ratio_is_that_of_the_middle_round() -> None:
    assert median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0
    calls: list[str] = []
    rounds = rounds_side_by_side({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert calls == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in rounds.items()} == {"a": 2, "b": 2}


@pytest.fixture(scope="module")
def small() -> Benchmark:
    said: list[str] = []
    result = table.run(quick=True, progress=said.append, networks=SMALL, per_class=1)
    assert said[:5] == [*(network.title for network in SMALL), "agreement", "probes", "growth"]
    return result


def test_every_target_has_a_value_where_it_can_be_measured(small: Benchmark) -> None:
    by_name = {t.name: t for t in small.targets}
    missing = {name for name, t in by_name.items() if t.value is None}
    expected = set()
    if not torch.cuda.is_available():
        expected |= {name for name in by_name if name.startswith(table.AGREEMENT)}
    if not rivals.RIVAL_THERE:
        expected |= {name for name in by_name if RIVAL in name}
    assert missing == expected
    assert len(by_name) == 3 * len(SMALL) + 6
    assert by_name["8 x 8 digits, times bare passes"].limit == 1.25
    assert by_name["16 x 16 digits, times bare passes"].limit == 1.12
    for reference in (RIVAL, rivals.LITERAL):
        assert by_name[f"largest pixel difference from {reference}"].met in (True, None), reference


def test_the_records_name_their_case_and_convert_to_json(small: Benchmark) -> None:
    cases = {r.case for r in small.records}
    assert {"solve, 8 x 8 digits, batch 4", "solve, 16 x 16 digits, batch 4", "growth, pixels"} <= cases
    assert sum(case.startswith("probes, 10 from noise, q .9") for case in cases) == 1
    solves = {(r.case, r.implementation): r for r in small.records if r.case.startswith("solve")}
    bare = solves["solve, 8 x 8 digits, batch 4", BARE]
    assert bare.extra[table.TIMES] == 1
    assert bare.seconds is not None
    assert solves["solve, 8 x 8 digits, batch 4", OURS].seconds > 0
    assert len(json.loads(small.to_json())["records"]) == len(small.records)


def test_what_cannot_be_measured_here_is_noted(small: Benchmark) -> None:
    noted = "\n".join(small.notes)
    assert ("no CUDA device" in noted) != torch.cuda.is_available()
    assert ("rai-toolbox is not installed" in noted) != rivals.RIVAL_THERE
    assert Network("x", "imagenet:efficientnet-lite0", 1, 1, 1.0).there == problems.IMAGENET_THERE


def test_a_dictionary_is_refused() -> None:
    with pytest.raises(InputError, match="--dictionary: the benchmark of perturbation makes its own pictures"):
        table.run(dictionary=Path("words.npz"))
