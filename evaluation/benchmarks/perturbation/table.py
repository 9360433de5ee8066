"""Sparse perturbations on one thread: seconds and memory beside bare passes and rai-toolbox, agreement, probes, growth.

Whole solves are measured, with all that is checked and prepared before the first step. The floor are the forward and
backward passes that any solver needs; each figure is the median over rounds in which everyone takes a turn. Growth: how
a solve grows with images, steps and pixels, and on a CUDA device.
"""

import dataclasses
import importlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conceptry.evaluation.benchmarks.measure import (
    Benchmark,
    Record,
    Target,
    median_ratio,
    one_thread,
    rounds_side_by_side,
)
from conceptry.evaluation.benchmarks.perturbation import problems as cases
from conceptry.evaluation.benchmarks.perturbation import rivals
from conceptry.evaluation.benchmarks.perturbation.problems import (
    BARE,
    KNN,
    NETWORKS,
    OURS,
    PER_CLASS,
    PROBES,
    RIVAL,
    ROBUST,
    SIXTEEN,
    STANDARD,
    Case,
    Network,
    quality,
)
from conceptry.evaluation.benchmarks.perturbation.rivals import PAIRS, ours_with
from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.architectures import Shape, build_network

TIMES = "x passes"  # column: seconds over those of the bare passes, in the same round
AGREEMENT = "CUDA beside CPU"
PIXELS, LOSS, MOVED = "largest pixel difference", "mean loss difference", "share of pixels more than .01 apart"
_BATCHES, _STEPS, _SIDES = (1, 4, 16, 64, 256), (5, 15, 45, 135), (8, 16, 32, 64, 128)
_IMAGES, _USUAL_STEPS = 16, 15


def growth(quick: bool) -> list[Record]:
    """Seconds and times the bare passes over one of batch, steps and side; the others stay put."""
    batches, lengths, sides = (sizes[: 2 if quick else None] for sizes in (_BATCHES, _STEPS, _SIDES))
    found = [(f"batch = {b}", "pictures", cases.load_case(cases.SIXTEEN, b, _USUAL_STEPS)) for b in batches]
    found += [(f"steps = {s}", "steps", cases.load_case(cases.SIXTEEN, _IMAGES, s)) for s in lengths]
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
    return cases.make_case(network, (1, side, side), 10, _IMAGES, _USUAL_STEPS, {})


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


RIVAL_TIMES = f"x {RIVAL}"  # column
ROUNDS = {"zoo": (41, 9), "imagenet": (25, 5)}  # in full, if quick
SOLVE, ON_CUDA = "solve", "solve on CUDA"
# Between CPU and CUDA, on the robust network.
PIXEL_TOLERANCE, LOSS_TOLERANCE = 1e-5, 0.01  # of float64, of float32


def run(
    dictionary: Path | None = None,
    quick: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    networks: Sequence[Network] = NETWORKS,
    per_class: int = PER_CLASS,
) -> Benchmark:
    """Measure; under five minutes, or under one if `quick` (fewer rounds and sizes).

    `networks` and probes `per_class` are what the targets are about; less is for trying things out. There is no
    dictionary here: InputError if one is given.
    """
    if dictionary is not None:
        raise InputError("--dictionary: the benchmark of perturbation makes its own pictures; leave it out")
    notes = [
        "whole solves of L1-q Frank-Wolfe from noise; 'x passes': seconds over those of steps + 1 forward and steps "
        "backward passes of the same batch, median of the ratios of each round; one thread"
    ]
    if rivals.RIVAL_THERE:
        importlib.import_module("rai_toolbox.perturbations")  # now: the limit on threads reaches loaded libraries only
    else:
        notes.append('rai-toolbox is not installed (pip install "conceptry[benchmark]"): not measured')
    if not cases.IMAGENET_THERE:
        notes.append('EfficientNet-Lite0 is not installed (pip install "conceptry[imagenet]"): not measured')
    cuda = torch.cuda.is_available()
    if not cuda:
        notes.append("there is no CUDA device here: not measured")
    records = []
    with one_thread():
        for network in networks:
            if network.there:
                progress(network.title)
                records += _solving(network, quick, "cpu")
        progress("agreement")
        records += rivals.parity(cases.load_case(SIXTEEN, *_parity_size(quick)))
        progress("probes")
        records += quality(per_class)
        progress("growth")
        records += growth(quick)
        if cuda:
            progress("CUDA")
            with _exact_cuda():
                for network in networks:
                    if network.there:
                        records += _solving(network, quick, "cuda")
                records += agreement(*_parity_size(quick))
    return Benchmark("Sparse perturbations", records, _targets(records, networks), notes)


def _parity_size(quick: bool) -> tuple[int, int]:
    """Pictures and steps."""
    return (20, 15) if quick else (100, 45)


def _solving(network: Network, quick: bool, device: str) -> list[Record]:
    """Bare passes, ours and rai-toolbox over one batch, with their peak memory."""
    functions: dict[str, Callable[[cases.Case], Any]] = {BARE: cases.bare_passes, OURS: cases.solve}
    if rivals.RIVAL_THERE:
        functions[RIVAL] = rivals.rival_solve
    case = cases.load_case(network, network.batch, network.steps, device)
    in_full, if_quick = ROUNDS[network.name.partition(":")[0]]
    turns = {name: partial(function, case) for name, function in functions.items()}
    rounds = rounds_side_by_side(turns, if_quick if quick else in_full)
    records = []
    for name, function in functions.items():
        mb = cases.peak_cuda(case, function) if device == "cuda" else cases.peak_cpu(case, function)
        extra: dict[str, Any] = {TIMES: median_ratio(rounds[name], rounds[BARE])}
        if rivals.RIVAL_THERE:
            extra[RIVAL_TIMES] = median_ratio(rounds[name], rounds[RIVAL])
        what = f"{SOLVE if device == 'cpu' else ON_CUDA}, {network.title}, batch {network.batch}"
        records.append(Record(what, name, statistics.median(rounds[name]), mb, extra))
    return records


@contextmanager
def _exact_cuda() -> Iterator[None]:
    """float32 in full, which CUDA's convolutions leave otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _targets(records: list[Record], networks: Sequence[Network]) -> list[Target]:
    found = {(r.case, r.implementation): r for r in records}
    targets = []
    for network in networks:
        case = f"{SOLVE}, {network.title}, batch {network.batch}"
        ours, bare = found.get((case, OURS)), found.get((case, BARE))
        extra = {} if ours is None else ours.extra
        targets.append(Target(f"{network.title}, times bare passes", extra.get(TIMES), network.limit, "max"))
        targets.append(Target(f"{network.title}, times {RIVAL}", extra.get(RIVAL_TIMES), 1, "max"))
        memory = None
        if ours is not None and bare is not None and ours.peak_mb and bare.peak_mb:
            memory = ours.peak_mb / bare.peak_mb
        targets.append(Target(f"{network.title}, memory times bare passes", memory, 1.1, "max"))
    for reference in (RIVAL, rivals.LITERAL):
        apart = [
            r.extra[rivals.DIFFERENCE]
            for r in records
            if r.case.startswith(rivals.PARITY) and r.implementation == reference
        ]
        name = f"largest pixel difference from {reference}"
        targets.append(Target(name, max(apart, default=None), 1e-5, "max"))
    knn = {r.implementation: r.extra[KNN] for r in records if r.case.startswith(PROBES)}
    targets.append(Target("5-NN accuracy of robust probes", knn[ROBUST], 0.95, "min"))
    targets.append(Target("5-NN accuracy, robust minus standard", knn[ROBUST] - knn[STANDARD], 0.4, "min"))
    on_cuda = [r.extra for r in records if r.case.startswith(AGREEMENT)]
    for name, of, limit in ((PIXELS, "float64", PIXEL_TOLERANCE), (LOSS, "float32", LOSS_TOLERANCE)):
        worst = max((extra[name] for extra in on_cuda if name in extra), default=None)
        targets.append(Target(f"{AGREEMENT}, {name}, {of}", worst, limit, "max"))
    return targets
