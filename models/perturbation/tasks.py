"""Four questions that a small change of a picture answers.

Roberts et al., "Controllably Sparse Perturbations of Robust Classifiers for Explaining Predictions and Probing Learned
Concepts", MLVis 2021.

| call | from | toward | asks |
|---|---|---|---|
| `probe` | noise, grey or any picture | a class | what has the network learned for this class? |
| `counterfactual` | a picture | a class, or away from one | what would have to change for another prediction? |
| `explain_error` | a misread picture | its true class; and the wrong class | what is missing, and what misled? |
| `invert` | noise, grey or a picture | the representation of another picture | what does the layer keep of it? |

Pictures are uint8 (batch, H, W, 3), resized and cropped as the network's own preprocessing does it, or pixels in [0, 1]
(batch, C, H, W) as the network sees them. Classes are names, indices, or an int64 tensor of indices.

Differences from the paper: unless `clip` is false, pixels stay within [0, 1] and starts and results have 8 bits.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.perturbation.class_scores import ClassScores
from conceptry.models.perturbation.explanation import Explanation, join
from conceptry.models.perturbation.question import Question, ShareProgress, grey, noise, part_of, perturb, to_eight_bits
from conceptry.models.perturbation.settings import COUNTERFACTUAL, EXPLAIN_ERROR, GREY, INVERT, PROBE, Settings
from conceptry.models.perturbation.solvers.representation import relative_distance, representation
from conceptry.models.perturbation.solvers.sparsest import search_sparsest

Classes = Sequence[Any] | Tensor


def probe(
    model: PixelModel,
    targets: Classes,
    *,
    settings: Settings | None = None,
    start: np.ndarray | Tensor | None = None,
    rows: Sequence[int] | None = None,
    progress: ShareProgress | None = None,
) -> Explanation:
    """Perturb pictures that mean nothing toward classes.

    Args:
        model: the explained network.
        targets: a class for each picture, by name or number.
        settings: how to search; those of the task by default.
        start: pictures, as `counterfactual` takes them; noise or grey by the settings where none are given, at the
            size that the network states.
        rows: numbers of the rows, of which the noise is a function; 0, 1, ... by default.
        progress: is told the share that is done.

    Raises:
        InputError: for an unknown class, no class, a network of any size without `start`, and other numbers of both.
    """
    settings = _of_mode(settings, PROBE)
    scores = ClassScores(model)
    if not len(targets):
        raise InputError("targets: expected at least one class, got none")
    wanted = scores.indices_of(targets, len(targets), "targets")
    pixels = _start(scores, start, rows or range(len(wanted)), settings)
    if len(pixels) != len(wanted):
        raise InputError(f"targets must be one for each of {len(pixels)} pictures to start from, got {len(wanted)}")
    return _toward(scores, pixels, wanted, None, settings, progress)


def counterfactual(
    model: PixelModel,
    images: np.ndarray | Tensor,
    targets: Sequence[Any] | Tensor | None = None,
    sources: Sequence[Any] | Tensor | None = None,
    *,
    settings: Settings | None = None,
    progress: ShareProgress | None = None,
) -> Explanation:
    """Perturb pictures toward classes; where the target is None, away from the source or from the prediction.

    Args:
        model: the explained network.
        images: uint8 (batch, height, width, 3), or a floating-point tensor (batch, C, H, W) in [0, 1] of the size that
            the network sees.
        targets: a class for each picture, by name or number, or None for some or all.
        sources: the class that a picture is to leave, likewise; by default what the network predicts.
        settings: how to search; with `sparsest` for the change of fewest pixels.
        progress: is told the share that is done.

    Raises:
        InputError: for unknown classes, pictures of another form, and lists of another length.
    """
    settings = _of_mode(settings, COUNTERFACTUAL)
    scores = ClassScores(model)
    pixels = as_pixels(scores, images, settings)
    wanted, of = _some_classes(scores, targets, len(pixels)), _some_classes(scores, sources, len(pixels))
    groups = [[i for i, target in enumerate(wanted) if (target is None) == away] for away in (False, True)]
    parts, order = [], []
    for rows in filter(None, groups):
        target = None if wanted[rows[0]] is None else torch.tensor([wanted[i] for i in rows])
        predicted = scores.probabilities(pixels[rows]).argmax(1).tolist()
        source = torch.tensor([p if of[i] is None else of[i] for i, p in zip(rows, predicted, strict=True)])
        share = part_of(progress, sum(map(len, order)), len(rows), len(pixels))
        parts.append(_toward(scores, pixels[rows], target, source, settings, share))
        order.append(rows)
    return join(parts, order)


def explain_error(
    model: PixelModel,
    images: np.ndarray | Tensor,
    truths: Classes,
    predictions: Classes | None = None,
    *,
    settings: Settings | None = None,
    progress: ShareProgress | None = None,
) -> tuple[Explanation, Explanation]:
    """Perturb misread pictures toward their true classes, and toward the wrong predictions (default: the network's).

    Args:
        model: the explained network.
        images: as `counterfactual` takes them.
        truths: the true class of each picture, by name or number.
        predictions: the class that it was taken for, likewise.
        settings: how to search; those of the task by default.
        progress: is told the share that is done.

    Returns:
        Two explanations: one adds what the network misses of the truth, the other more of what misled it.

    Raises:
        InputError: as `counterfactual`, and where the two classes are the same: there is no error then.
    """
    settings = _of_mode(settings, EXPLAIN_ERROR)
    scores = ClassScores(model)
    pixels = as_pixels(scores, images, settings)
    truth = scores.indices_of(truths, len(pixels), "truths")
    if predictions is None:
        wrong = scores.probabilities(pixels).argmax(1).cpu()
    else:
        wrong = scores.indices_of(predictions, len(pixels), "predictions")
    if same := (truth == wrong).nonzero().flatten().tolist():
        raise InputError(
            f"picture {same[0]}: the prediction is {scores.classes[truth[same[0]]]!r}, which is the truth, so there is "
            "no error to explain; name the wrong class to compare with"
        )
    first = _toward(scores, pixels, truth, wrong, settings, part_of(progress, 0, 1, 2))
    return first, _toward(scores, pixels, wrong, wrong, settings, part_of(progress, 1, 1, 2))


def invert(
    model: PixelModel,
    images: np.ndarray | Tensor,
    seeds: np.ndarray | Tensor | None = None,
    *,
    layer: str | None = None,
    settings: Settings | None = None,
    rows: Sequence[int] | None = None,
    progress: ShareProgress | None = None,
) -> Explanation:
    """Perturb seed pictures (default: noise or grey) until a layer represents them as it does other pictures.

    Targets of the answer are the predictions for the pictures to match; it is a success where the result is read as
    they are.

    Args:
        model: the explained network.
        images: to be matched, as `counterfactual` takes them.
        seeds: pictures to start from, likewise, as many and as large.
        layer: dotted name, by default that of the settings, else the input of the last Linear.
        settings: how to search; those of the task by default.
        rows: numbers of the rows, of which the noise is a function; 0, 1, ... by default.
        progress: is told the share that is done.

    Raises:
        InputError: for a layer that is not there or not run, and seeds of another size.
    """
    settings = _of_mode(settings, INVERT)
    scores = ClassScores(model)
    matched = as_pixels(scores, images, settings)
    pixels = _start(scores, seeds, rows or range(len(matched)), settings, like=matched)
    if pixels.shape != matched.shape:
        raise InputError(
            f"seeds must be as large as the pictures, got {tuple(pixels.shape)} and {tuple(matched.shape)}"
        )
    predicted = scores.probabilities(matched).argmax(1)
    with representation(model, layer or settings.layer) as read:
        with torch.no_grad():
            target = read(matched)
        source = scores.probabilities(pixels).argmax(1)
        question = Question(scores, pixels, source, predicted, relative_distance, outputs=read, goal=target)
        return _said(scores, perturb(question, settings, progress=progress))


def as_pixels(scores: ClassScores, images: np.ndarray | Tensor, settings: Settings) -> Tensor:
    """Pictures as the pixels that the network sees, (batch, C, H, W), of 8 bits where the settings clip."""
    if isinstance(images, Tensor):
        if images.ndim != 4 or not images.is_floating_point():
            got = f"{images.dtype} {tuple(images.shape)}"
            raise InputError(f"pixels must be floating-point of shape (batch, C, H, W), got {got}")
        pixels = images.to(scores.device, torch.float32)
        if pixels.numel() and not 0 <= float(pixels.min()) <= float(pixels.max()) <= 1:
            raise InputError(f"pixels must be within [0, 1], got {float(pixels.min()):g} to {float(pixels.max()):g}")
    else:
        pixels = scores.model.to_pixels(images)
    if not len(pixels):
        raise InputError("expected at least one picture, got none")
    return to_eight_bits(pixels) if settings.clip else pixels


def pixel_shape(model: PixelModel) -> tuple[int, ...]:
    """(C, H, W) of what the network sees; raises InputError where it takes any size."""
    if model.size is None:
        raise InputError(f"{model.name}: takes pictures of any size, so it needs a picture to start from")
    return (model.channels, *model.size)


def _start(
    scores: ClassScores,
    start: np.ndarray | Tensor | None,
    rows: Sequence[int],
    settings: Settings,
    like: Tensor | None = None,
) -> Tensor:
    if start is not None:
        return as_pixels(scores, start, settings)
    shape = pixel_shape(scores.model) if like is None else tuple(like.shape[1:])
    made = grey(len(rows), shape) if settings.start == GREY else noise(rows, shape, settings.seed)
    return made.to(scores.device)


def _toward(
    scores: ClassScores,
    pixels: Tensor,
    target: Tensor | None,
    source: Tensor | None,
    settings: Settings,
    progress: ShareProgress | None,
) -> Explanation:
    if source is None:
        source = scores.probabilities(pixels).argmax(1)
    target = None if target is None else target.to(scores.device)
    question = Question(scores, pixels, source.to(scores.device), target)
    answer = search_sparsest if settings.sparsest else perturb
    return _said(scores, answer(question, settings, progress=progress))


def _said(scores: ClassScores, found: Explanation) -> Explanation:
    """What was found, with a warning where nothing could be tried: that is no robustness."""
    if count := int((found.no_gradient & ~found.success).sum()):
        warnings.warn(
            f"{scores.name}: the gradient is 0 in every pixel for {count} of {len(found)} images, as behind a "
            "saturated softmax or a dead ReLU, so nothing could be tried for them",
            RuntimeWarning,
            stacklevel=2,
        )
    return found


def _some_classes(scores: ClassScores, values: Sequence[Any] | Tensor | None, rows: int) -> list[int | None]:
    if values is None:
        return [None] * rows
    if isinstance(values, Tensor):
        return scores.indices_of(values, rows, "classes").tolist()
    if len(values) != rows:
        raise InputError(f"classes must be one for each of {rows} pictures, got {len(values)}")
    return [None if value is None else scores.index_of(value) for value in values]


def _of_mode(settings: Settings | None, mode: str) -> Settings:
    return dataclasses.replace(settings or Settings(), mode=mode)
