"""Scores of attributions beside Quantus on one thread: whether the values are the same, time, and peak memory.

Hedström et al., "Quantus: An Explainable AI Toolkit for Responsible Evaluation of Neural Network Explanations and
Beyond", JMLR 24(34), 2023. Both are given the same network, pictures, attributions (gradients of the logit) and noise.

| score | Quantus | here |
|---|---|---|
| pixel flipping | `PixelFlipping`: r_1, ..., r_p, a pass for each | deletion: `nested`, all at once |
| max-sensitivity | `MaxSensitivity` | `sensitivity_max` |
| relative input stability | `RelativeInputStability` | `relative_input_stability` |
| relative output stability | `RelativeOutputStability` | `relative_output_stability` |

Quantus asks the network about a step of all samples at a time, and about the noise for each score anew. Here the steps
of a sample go together, those that change nothing (a black pixel made black) are not asked, and the three scores of
robustness share their answers, as in `conceptry evaluate`. Values are compared in double precision: relative stability
divides by entries of the attribution, so that what single precision rounds is seen in its fourth digit.
"""

import importlib
import importlib.metadata
import importlib.util
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.evaluation.benchmarks.measure import (
    Benchmark,
    Record,
    Target,
    median_ratio,
    one_thread,
    peak_mb,
    rounds_side_by_side,
)
from conceptry.evaluation.benchmarks.perturbation.problems import Pixels
from conceptry.evaluation.scores import faithfulness as f
from conceptry.evaluation.scores import robustness as r
from conceptry.models.errors import InputError
from conceptry.models.explained.image_inputs import as_pixel_model
from conceptry.models.explained.load import load_explained
from conceptry.models.zoo.datasets import load_dataset

NETWORK, DATA = "zoo:digits-16", "digits-16"
OURS, RIVAL, FLOOR = "conceptry", "Quantus", "the network's passes alone"
COUNTS = (1, 64)  # explanations at once
DRAWS, NOISE = 50, 0.05  # noises of each; of white
ROWS = 128  # inputs of a pass: larger ones leave the caches
FLIPPING, SENSITIVITY = "pixel flipping", "max-sensitivity"
INPUT, OUTPUT = "relative input stability", "relative output stability"
ALL = "all four"
METRICS = {
    FLIPPING: "PixelFlipping",
    SENSITIVITY: "MaxSensitivity",
    INPUT: "RelativeInputStability",
    OUTPUT: "RelativeOutputStability",
}
RIVAL_THERE = importlib.util.find_spec("quantus") is not None
RATIO, DIFFERENCE, OF_PASSES = "x faster than Quantus", "largest difference", "x the passes"


@dataclass(frozen=True, eq=False)
class Case:
    """Pictures and what is said of them.

    network: pixels (n, C, H, W) -> logits; x: (n, C, H, W) float32; y: (n,), the classes explained; e: attributions, of
    the shape of x; noisy: (draws, n, C, H, W) float32.
    """

    network: nn.Module
    x: Tensor
    y: Tensor
    e: np.ndarray
    noisy: Tensor


class InDouble(nn.Module):
    """A network in double precision, whatever it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(network).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.double())


def run(
    dictionary: Path | None = None, quick: bool = False, progress: Callable[[str], None] = lambda _: None
) -> Benchmark:
    """Measure; about four minutes, or one if `quick` (less noise, fewer rounds, no memory).

    Raises InputError where Quantus is not installed.
    """
    if dictionary is not None:
        raise InputError("--dictionary: the benchmark of faithfulness takes digits of the zoo; leave it out")
    if not RIVAL_THERE:
        raise InputError(
            "conceptry benchmark faithfulness measures beside Quantus, which is not installed; "
            "pip install 'conceptry[benchmark]', or quantus alone"
        )
    importlib.import_module("quantus")  # now: the limit on threads reaches loaded libraries only
    draws, repeats = (10, 3) if quick else (DRAWS, 5)
    records: list[Record] = []
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Quantus's own, of pixels that are black already
        for count in COUNTS:
            progress(f"{count} explanations at once")
            case = load_case(count, draws)
            differences = differences_of(in_double(load_case(count, 10)))
            for score in (*METRICS, ALL):
                functions: dict[str, Callable[[], Any]] = {
                    OURS: partial(ours, case, score),
                    RIVAL: partial(theirs, case, score),
                }
                if score == ALL:
                    functions[FLOOR] = partial(passes, case)
                seconds = rounds_side_by_side(functions, repeats)
                extra: dict[str, Any] = {RATIO: median_ratio(seconds[RIVAL], seconds[OURS])}
                extra |= {DIFFERENCE: differences.get(score)}
                extra |= {OF_PASSES: median_ratio(seconds[OURS], seconds[FLOOR])} if score == ALL else {}
                for name, values in seconds.items():
                    memory = peak_mb(_prepared, name, count, draws) if score == ALL and not quick else None
                    own = extra if name == OURS else {}
                    records.append(
                        Record(f"{_explanations(count)}, {score}", name, statistics.median(values), memory, own)
                    )
    notes = [
        f"{NETWORK}, gradients, {draws} noises, one thread, medians of {repeats} rounds; differences of values are "
        "relative to the largest, in double precision",
        f"Quantus {importlib.metadata.version('quantus')}",
    ]
    return Benchmark("Faithfulness and robustness", records, _targets(records), notes)


def _explanations(count: int) -> str:
    return "1 explanation" if count == 1 else f"{count} explanations"


def _targets(records: list[Record]) -> list[Target]:
    found = {r.case: r.extra for r in records if r.implementation == OURS}
    ratios = [(case, extra[RATIO]) for case, extra in found.items() if case.endswith(ALL)]
    largest = max(value for extra in found.values() if (value := extra[DIFFERENCE]) is not None)
    return [
        *(Target(f"times faster than Quantus, {case}", ratio, 10, "min") for case, ratio in ratios),
        Target("largest difference from Quantus's values", largest, 1e-6, "max"),
    ]


def load_case(count: int, draws: int) -> Case:
    """The first held-out digits of the zoo, with the gradients of their classes' logits."""
    data = load_dataset(DATA)
    rows = data.heldout[:count]
    x = torch.from_numpy(np.asarray(data.inputs[rows][..., 0], np.float32) / 255)[:, None]
    network = Pixels(as_pixel_model(load_explained(NETWORK, "cpu"))).eval().requires_grad_(False)
    y = torch.from_numpy(np.asarray(data.targets[rows], np.int64))
    noise = torch.randn((draws, *x.shape), generator=torch.Generator().manual_seed(0))
    return Case(network, x, y, gradients(network, x, y)[0], x + NOISE * noise)


def in_double(case: Case) -> Case:
    """The same in double precision, on the same pictures and noise."""
    network = InDouble(case.network).eval()
    return replace(case, network=network, e=gradients(network, case.x.double(), case.y)[0])


def gradients(network: nn.Module, x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the logit of y (n,) by x (n, C, H, W), and all logits (n, classes), in the type of x."""
    parts = []
    for rows in torch.arange(len(x)).split(ROWS):
        pixels = x[rows].detach().requires_grad_()
        with torch.enable_grad():
            logits = network(pixels)
            (gradient,) = torch.autograd.grad(logits[torch.arange(len(rows)), y[rows]].sum(), pixels)
        parts.append((gradient.numpy(), logits.detach().numpy()))
    found = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return found[0], found[1]


def differences_of(case: Case) -> dict[str, float]:
    """The largest difference of each score from Quantus's, as a share of the largest value."""
    mine, other = ours(case, ALL), theirs(case, ALL)
    return {name: float(np.abs(mine[name] - other[name]).max() / np.abs(other[name]).max()) for name in METRICS}


def ours(case: Case, score: str) -> dict[str, np.ndarray]:
    """A score, or all of them: of pixel flipping the curves (n, p), of the others numbers (n,)."""
    found = {}
    if score in (FLIPPING, ALL):
        found[FLIPPING] = np.stack(list(_flipped(case)))
    if score != FLIPPING:
        found |= _robustness(case, [score] if score != ALL else [SENSITIVITY, INPUT, OUTPUT])
    return found


def _flipped(case: Case) -> Iterator[np.ndarray]:
    """r_1, ..., r_p of each sample, the pixels of the largest attribution made black first."""
    for x, y, e in zip(case.x, case.y.tolist(), case.e, strict=True):
        order = np.argsort(-e.ravel())
        changes = x.ravel().numpy()[order] != 0
        steps = np.flatnonzero(changes) + 1  # after which there is another picture
        left = torch.from_numpy(~f.nested(order)[np.append(0, steps)])
        images = (x.ravel() * left).reshape(-1, *x.shape)
        with torch.inference_mode():
            values = torch.cat([case.network(part)[:, y] for part in images.split(ROWS)]).numpy()
        yield values[changes.cumsum()]


def _robustness(case: Case, scores: list[str]) -> dict[str, np.ndarray]:
    draws, n = case.noisy.shape[:2]
    noisy = case.noisy.flatten(0, 1).to(torch.from_numpy(case.e).dtype)
    moved, outputs = gradients(case.network, noisy, case.y.repeat(draws))
    e_j, h_j = moved.reshape(draws, n, -1), outputs.reshape(draws, n, -1)
    e, x, x_j = case.e.reshape(n, -1), case.x.reshape(n, -1).numpy(), case.noisy.reshape(draws, n, -1).numpy()
    h = np.empty(0)
    if OUTPUT in scores:
        with torch.inference_mode():
            h = case.network(case.x).numpy()
    by_score: Mapping[str, Callable[[int], float]] = {
        SENSITIVITY: lambda i: r.sensitivity_max(e[i], e_j[:, i]),
        INPUT: lambda i: r.relative_input_stability(e[i], e_j[:, i], x[i], x_j[:, i]),
        OUTPUT: lambda i: r.relative_output_stability(e[i], e_j[:, i], h[i], h_j[:, i]),
    }
    return {score: np.array([by_score[score](i) for i in range(n)]) for score in scores}


def theirs(case: Case, score: str) -> dict[str, np.ndarray]:
    """The same by Quantus, all samples in one of its batches."""
    quantus: Any = importlib.import_module("quantus")  # optional

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        x = torch.from_numpy(inputs).to(torch.from_numpy(case.e).dtype)
        return gradients(model, x, torch.from_numpy(targets))[0]

    def asked(name: str) -> np.ndarray:
        noisy = iter(case.noisy.flatten(2).numpy())
        options: dict[str, Any] = {"disable_warnings": True, "normalise": False, "abs": False}
        if name == FLIPPING:
            options |= {"features_in_step": 1, "perturb_baseline": 0.0}
        else:
            options |= {"nr_samples": len(case.noisy), "perturb_func": lambda arr, **_: next(noisy)}
            options |= {"return_nan_when_prediction_changes": False}
        metric = getattr(quantus, METRICS[name])(**options)
        found = metric(
            model=case.network, x_batch=case.x.numpy(), y_batch=case.y.numpy(), a_batch=case.e, softmax=False,
            channel_first=True, explain_func=explain, device="cpu", batch_size=len(case.x),
        )  # fmt: skip
        return np.asarray(found)

    return {name: asked(name) for name in (METRICS if score == ALL else [score])}


def passes(case: Case) -> None:
    """The passes of the network that our scores take, over pictures of as many zeros."""
    count = len(case.x) + int((case.x != 0).sum())
    with torch.inference_mode():
        for part in torch.zeros(count, *case.x.shape[1:]).split(ROWS):
            case.network(part)
    gradients(case.network, case.noisy.flatten(0, 1), case.y.repeat(len(case.noisy)))


def _prepared(name: str, count: int, draws: int) -> Callable[[], Any]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    function = {OURS: partial(ours, score=ALL), RIVAL: partial(theirs, score=ALL), FLOOR: passes}[name]
    function(load_case(1, 2))  # imports are not counted
    return partial(function, load_case(count, draws))
