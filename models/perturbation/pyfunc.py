"""Sparse perturbations behind MLflow's pyfunc interface: one row is one question about one picture.

| mode | image | target | source |
|---|---|---|---|
| probe | start; noise or grey where it is not given | class to look for | - |
| counterfactual | picture to change | class to reach; none: away from the source | class to leave, or the predicted |
| explain_error | misread picture | its true class | the wrong class, or the predicted |
| invert | picture to match | - | picture to start from; noise or grey where it is not given |

Pictures are bytes of a file, or base64; classes names or indices. A row is checked cell by cell. All columns are typed
"any": with other types MLflow itself would refuse a null, in sentences that name no row. The answer has for each row

| column | what |
|---|---|
| target, source | the class that was wanted, else the one that was reached; the class given, else that of the start |
| image | the result, PNG |
| delta | its difference from the start, PNG: grey is none, amplified so that the largest one is black or white |
| before, after | the 5 most probable classes of start and result, list of {class, probability} |
| changed | fraction of pixels that changed |
| l1, l2 | norms of the difference, pixels in [0, 1] |
| loss | criterion of the result |
| gap | Frank-Wolfe gap of the last step; 0 of projected steps, which have none |
| q, epsilon | those used; q is 0 where the steps have none |
| success | whether the result is read as wanted |
| clipped | whether pixels were kept in [0, 1]: then all figures are those of the PNG; else `image` shows them clipped |
| steps | gradient steps behind the result |
| other | of explain_error, one entry: the same toward the wrong class; else empty |

Pictures are bytes in this process; the server makes base64 of them. MLflow's `spark_udf` knows no bytes in a struct and
would fail, so there they are base64 as well, which Spark's `unbase64` undoes, and the signature calls them strings.

With `details` also `start` (PNG), `history` (losses of the steps) and `path` (attempts of the sparsest search).
"""

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property
from PIL import Image
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explainer import Explainer, cell_error, in_spark, is_given
from conceptry.models.images import decode_image, image_bytes, png_bytes
from conceptry.models.perturbation.class_scores import ClassScores
from conceptry.models.perturbation.explanation import Explanation
from conceptry.models.perturbation.method import read_package
from conceptry.models.perturbation.representation import layer_to_match
from conceptry.models.perturbation.settings import COUNTERFACTUAL, EXPLAIN_ERROR, INVERT, PROBE, Settings
from conceptry.models.perturbation.solvers.sparsest import SLOTS
from conceptry.models.perturbation.tasks import as_pixels, counterfactual, explain_error, invert, pixel_shape, probe

TOP = 5  # classes that are listed


def answer(
    scores: ClassScores, explanations: Sequence[Explanation], row: int, *, details: bool = False, text: bool = False
) -> dict[str, Any]:
    """Row `row` of the first explanation; that of a second one, toward the wrong class, is its `other`.

    text: pictures as base64 instead of bytes.
    """
    first, *others = explanations
    gap = float(first.gap[row])
    values = _result(scores, first, row, text) | {
        "source": scores.classes[first.sources[row]],
        "before": _top(scores, first.before[row]),
        "gap": 0.0 if gap != gap else gap,
        "q": float(first.q[row]),
        "epsilon": float(first.epsilon[row]),
        "clipped": first.clipped,
        "other": [_result(scores, other, row, text) for other in others],
    }
    if details:
        history = first.history[row]
        values |= {
            "start": _png(scores, first.start[row], text),
            "history": history[~history.isnan()].tolist(),
            "path": [dataclasses.asdict(point) for point in first.path[row]] if first.path else [],
        }
    return values


def amplify(delta: Tensor) -> Tensor:
    """1/2 + delta / (2 max |delta|): pixels (C, H, W) in which grey is no change."""
    return 0.5 + delta / (2 * delta.abs().max().clamp_min(torch.finfo(delta.dtype).tiny))


def _result(scores: ClassScores, explanation: Explanation, row: int, text: bool) -> dict[str, Any]:
    return {
        "target": scores.classes[explanation.targets[row]],
        "image": _png(scores, explanation.perturbed[row], text),
        "delta": _png(scores, amplify(explanation.delta[row]), text),
        "after": _top(scores, explanation.after[row]),
        "changed": float(explanation.changed[row]),
        "l1": float(explanation.l1[row]),
        "l2": float(explanation.l2[row]),
        "loss": float(explanation.loss[row]),
        "success": bool(explanation.success[row]),
        "steps": int(explanation.steps[row]),
    }


def _top(scores: ClassScores, probabilities: Tensor) -> list[dict[str, Any]]:
    top = probabilities.topk(min(TOP, len(probabilities)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [{"class": scores.classes[i], "probability": p} for i, p in pairs]


def _png(scores: ClassScores, pixels: Tensor, text: bool) -> bytes | str:
    content = png_bytes(Image.fromarray(scores.model.to_images(pixels[None])[0]))
    return base64.b64encode(content).decode() if text else content


# What a mode makes of a column: needed, optional, or (where it is not listed) refused.
_NEEDED = {PROBE: ("target",), COUNTERFACTUAL: ("image",), EXPLAIN_ERROR: ("image", "target"), INVERT: ("image",)}
_OPTIONAL = {PROBE: ("image",), COUNTERFACTUAL: ("target", "source"), EXPLAIN_ERROR: ("source",), INVERT: ("source",)}
_WHAT = {"image": "a picture", "target": "a class", "source": "a class"}


@dataclass(frozen=True)
class Row:
    """A row that can be answered. number: its place in the request, from 0; shape: (C, H, W) of its pixels.

    image: pixels (1, C, H, W) of the picture that the mode is about; start: those to start from, None for noise or
    grey (a probe) and for the picture itself.
    """

    number: int
    shape: tuple[int, ...]
    image: Tensor | None = None
    start: Tensor | None = None
    target: int | None = None
    source: int | None = None

    @property
    def kind(self) -> tuple:
        """Rows of one kind can be in one batch."""
        return self.shape, self.image is None, self.start is None


def read_row(scores: ClassScores, settings: Settings, number: int, cells: Mapping[Any, Any]) -> Row:
    """Raises InputError naming row and column for a cell that is missing, not wanted, or not what it has to be."""
    mode = settings.mode
    given = {name: cells[name] for name in _WHAT if is_given(cells.get(name))}
    for name in _NEEDED[mode]:
        if name not in given:
            raise cell_error(number, name, f"is not given; {mode} needs {_WHAT[name]} in every row")
    for name in given:
        if name not in (*_NEEDED[mode], *_OPTIONAL[mode]):
            taken = " and ".join((*_NEEDED[mode], *_OPTIONAL[mode]))
            raise cell_error(number, name, f"is given, and {mode} takes {taken} only")

    def read(name: str, reader: Any) -> Any:
        try:
            return reader(given[name]) if name in given else None
        except InputError as error:
            raise cell_error(number, name, error) from None

    def pixels(value: object) -> Tensor:
        picture = np.asarray(decode_image(image_bytes(value)))
        return as_pixels(scores, picture[None], settings)

    image = read("image", pixels)
    if mode == PROBE:
        shape = tuple(image.shape[1:]) if image is not None else _own_shape(scores, number)
        return Row(number, shape, start=image, target=read("target", scores.index_of))
    shape = tuple(image.shape[1:])
    if mode == INVERT:
        start = read("source", pixels)
        if start is not None and tuple(start.shape[1:]) != shape:
            height, width = start.shape[2:]
            raise cell_error(number, "source", f"is {width} x {height} pixels, and image is {shape[2]} x {shape[1]}")
        return Row(number, shape, image, start)
    target, source = read("target", scores.index_of), read("source", scores.index_of)
    return Row(number, shape, image, target=target, source=source)


def _own_shape(scores: ClassScores, number: int) -> tuple[int, ...]:
    try:
        return pixel_shape(scores.model)
    except InputError as error:
        raise cell_error(number, "image", error) from None


MAX_ROWS = 64  # of one batch
MAX_NUMBERS = 2**20  # pixels times channels of one batch: what a network keeps of a large picture is many times that

_PROBABILITY = Object([Property("class", DataType.string), Property("probability", DataType.double)])
_RESULT = {
    "target": DataType.string,
    "image": DataType.string,
    "delta": DataType.string,
    "after": Array(_PROBABILITY),
    "changed": DataType.double,
    "l1": DataType.double,
    "l2": DataType.double,
    "loss": DataType.double,
    "success": DataType.boolean,
    "steps": DataType.long,
}
_OF_THE_ROW = {
    "source": DataType.string,
    "before": Array(_PROBABILITY),
    "gap": DataType.double,
    "q": DataType.double,
    "epsilon": DataType.double,
    "clipped": DataType.boolean,
    "other": Array(Object([Property(name, kind) for name, kind in _RESULT.items()])),
}
_PARAMS = {
    "mode": DataType.string,
    "q": DataType.double,
    "dq": DataType.double,
    "epsilon": DataType.double,
    "steps": DataType.long,
    "max_changed": DataType.double,
    "seed": DataType.long,
    "optimizer": DataType.string,
    "lr": DataType.double,
    "confidence": DataType.double,
    "start": DataType.string,
    "layer": DataType.string,
    "sparsest": DataType.boolean,
}


class PerturbationExplainer(Explainer):
    """Serves one registered version of perturbations."""

    signature = ModelSignature(
        inputs=Schema([ColSpec(AnyType(), name, required=False) for name in ("image", "target", "source")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in (_RESULT | _OF_THE_ROW).items()]),
        params=ParamSchema(
            [ParamSpec(name, kind, None) for name, kind in _PARAMS.items()]
            + [ParamSpec("details", DataType.boolean, False)]
        ),
    )
    scores: ClassScores
    settings: Settings

    def load(self, directory: Path, device: torch.device) -> None:
        self.scores, self.settings = read_package(directory, device)

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        settings = self.settings.override({name: params.get(name) for name in _PARAMS})
        if settings.mode == INVERT:
            layer_to_match(self.scores.model, settings.layer)
        asked = [read_row(self.scores, settings, i, values) for i, values in enumerate(rows.to_dict("records"))]
        details, text = bool(params.get("details")), in_spark()
        answers: list[dict[str, Any]] = [{}] * len(asked)
        done = 0
        for batch in _batches(asked, settings):
            explanations = self._explain(batch, settings, self._progress(settings, done, len(batch), len(asked)))
            for i, row in enumerate(batch):
                answers[row.number] = answer(self.scores, explanations, i, details=details, text=text)
            done += len(batch)
        return pd.DataFrame(answers)

    def _explain(
        self, batch: Sequence[Row], settings: Settings, progress: Callable[[float], None] | None
    ) -> tuple[Explanation, ...]:
        """The answer to a batch of rows with pictures of one shape; two for the two directions of an error."""
        model: Any = self.scores.model
        images, starts = (
            None if getattr(batch[0], name) is None else torch.cat([getattr(row, name) for row in batch])
            for name in ("image", "start")
        )
        numbers = [row.number for row in batch]
        targets, sources = [row.target for row in batch], [row.source for row in batch]
        if settings.mode == PROBE:
            return (probe(model, targets, settings=settings, start=starts, rows=numbers, progress=progress),)
        assert images is not None  # every other mode has a picture, which `read_row` has seen to
        if settings.mode == INVERT:
            return (invert(model, images, starts, settings=settings, rows=numbers, progress=progress),)
        if settings.mode == EXPLAIN_ERROR:
            wrong = self._wrong_classes(batch, images)
            return explain_error(model, images, targets, wrong, settings=settings, progress=progress)
        return (counterfactual(model, images, targets, sources, settings=settings, progress=progress),)

    def _wrong_classes(self, batch: Sequence[Row], images: torch.Tensor) -> list[int]:
        predicted = self.scores.probabilities(images).argmax(1).tolist()
        wrong = [p if row.source is None else row.source for row, p in zip(batch, predicted, strict=True)]
        for row, of in zip(batch, wrong, strict=True):
            if row.target == of:
                how = "which the network predicts as well" if row.source is None else "and so is the source"
                raise cell_error(
                    row.number,
                    "target",
                    f"the true class is {self.scores.classes[of]!r}, {how}: there is no error to explain; "
                    "name the wrong class as the source",
                )
        return wrong

    def _progress(self, settings: Settings, done: int, part: int, whole: int) -> Callable[[float], None] | None:
        report = self.progress
        if report is None:
            return None
        return lambda share: report(settings.mode.replace("_", " "), (done + share * part) / whole)


def _batches(rows: Sequence[Row], settings: Settings) -> list[list[Row]]:
    """Rows that can be solved together: pictures of one shape, given or not, as many as a batch may hold."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.kind, []).append(row)
    batches = []
    for group in groups.values():
        numbers = int(np.prod(group[0].shape)) * (SLOTS if settings.sparsest else 1)
        size = max(1, min(MAX_ROWS, MAX_NUMBERS // numbers))
        batches += [group[i : i + size] for i in range(0, len(group), size)]
    return batches
