"""How a solve grows with pictures, steps and pixels, and how it does on a CUDA device."""

import dataclasses
import statistics
from functools import partial

import torch
from torch import nn

from conceptry.evaluation.benchmarks import perturbation_cases as cases
from conceptry.evaluation.benchmarks.measure import Record, median_ratio, rounds_side_by_side
from conceptry.evaluation.benchmarks.perturbation_cases import BARE, OURS, Case
from conceptry.evaluation.benchmarks.perturbation_rivals import PAIRS, ours_with
from conceptry.models.zoo.architectures import Shape, build_network

TIMES = "x passes"  # column: seconds over those of the bare passes, in the same round
AGREEMENT = "CUDA beside CPU"
PIXELS, LOSS, MOVED = "largest pixel difference", "mean loss difference", "share of pixels more than .01 apart"
_BATCHES, _STEPS, _SIDES = (1, 4, 16, 64, 256), (5, 15, 45, 135), (8, 16, 32, 64, 128)
_PICTURES, _USUAL_STEPS = 16, 15


def growth(quick: bool) -> list[Record]:
    """Seconds and times the bare passes over one of batch, steps and side; the others stay put."""
    batches, lengths, sides = (sizes[: 2 if quick else None] for sizes in (_BATCHES, _STEPS, _SIDES))
    found = [(f"batch = {b}", "pictures", cases.load_case(cases.SIXTEEN, b, _USUAL_STEPS)) for b in batches]
    found += [(f"steps = {s}", "steps", cases.load_case(cases.SIXTEEN, _PICTURES, s)) for s in lengths]
    found += [(f"{side} x {side}", "pixels", untrained(side)) for side in sides]
    records = []
    for size, over, case in found:
        rounds = rounds_side_by_side(
            {BARE: partial(cases.bare_passes, case), OURS: partial(cases.solve, case)}, 3 if quick else 7
        )
        ours = statistics.median(rounds[OURS])
        records.append(Record(f"growth, {over}", size, ours, extra={TIMES: median_ratio(rounds[OURS], rounds[BARE])}))
    return records


def untrained(side: int) -> Case:
    """A convolutional network with weights from a seed, over pictures of any side."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = build_network(Shape("vgg", (1, side, side), 10, hidden=8)).eval()
    return cases.make_case(network, (1, side, side), 10, _PICTURES, _USUAL_STEPS, {})


def agreement(batch: int, steps: int, device: str = "cuda") -> list[Record]:
    """On the robust network: how far every optimiser's answer on the device is from that on the CPU.

    In float64 pixel by pixel. In float32 sums that are rounded in another order send some pictures another way, as
    another algorithm of convolution does on the CPU alone (mean loss .001 apart, 3 % of pixels), so there it is the
    mean loss that is compared.
    """
    records = []
    for precision in (torch.float64, torch.float32):
        here, there = (_in_precision(batch, steps, where, precision) for where in ("cpu", device))
        for pair in PAIRS:
            (pixels, losses), (other, other_losses) = ours_with(here, pair), ours_with(there, pair)
            distance = (pixels - other.cpu()).abs()
            if precision == torch.float64:
                extra = {PIXELS: float(distance.max())}
            else:
                extra = {
                    LOSS: float((losses - other_losses.cpu()).abs().mean()),
                    MOVED: float((distance > 0.01).double().mean()),
                }
            name = str(precision).removeprefix("torch.")
            records.append(Record(f"{AGREEMENT}, {pair.name}, {name}", OURS, None, extra=extra))
    return records


def _in_precision(batch: int, steps: int, device: str, precision: torch.dtype) -> Case:
    case = cases.load_case(cases.SIXTEEN, batch, steps, device)
    return dataclasses.replace(case, network=case.network.to(precision), data=case.data.to(precision))
