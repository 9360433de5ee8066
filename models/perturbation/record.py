"""Records of perturbations: answers to clients, tables in notebooks, and several networks beside each other."""

import base64
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.models.perturbation.class_scores import ClassScores
from conceptry.models.perturbation.explanation import Explanation, join
from conceptry.models.perturbation.settings import Settings
from conceptry.models.record import Record

TOP = 5  # classes that are listed


_SHOWN, _SIDE = 20, 64  # rows and pixels of a notebook's table


def answer(
    scores: ClassScores, explanations: Sequence[Explanation], row: int, *, details: bool = False, text: bool = False
) -> dict[str, Any]:
    """Row `row` of the first explanation as a server answers it, see `pyfunc`; that of a second one is its `other`.

    text: images as base64 instead of bytes.
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
        "no_gradient": bool(explanation.no_gradient[row]),
        "steps": int(explanation.steps[row]),
    }


def _top(scores: ClassScores, probabilities: Tensor) -> list[dict[str, Any]]:
    top = probabilities.topk(min(TOP, len(probabilities)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [{"class": scores.classes[i], "probability": p} for i, p in pairs]


def _png(scores: ClassScores, pixels: Tensor, text: bool) -> bytes | str:
    content = png_bytes(Image.fromarray(scores.model.to_images(pixels[None])[0]))
    return base64.b64encode(content).decode() if text else content


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows that were solved together. explanations: one, or two for the directions of an error; rows: their numbers."""

    explanations: tuple[Explanation, ...]
    rows: tuple[int, ...]


class Perturbations(Record):
    """What `Perturbation.explain` found: one row for each image, or for each class that was probed.

    Attributes:
        scores: the network and its classes.
        settings: those of the request.
        batches: the rows in the order in which they were solved.
        details: whether answers carry the start, the losses of the steps and the path of a search.
    """

    method: ClassVar[str] = "perturbation"

    def __init__(
        self,
        scores: ClassScores,
        settings: Settings,
        batches: Sequence[Batch],
        *,
        names: Sequence[str] = (),
        probes: Sequence[bool] = (),
        details: bool = False,
    ) -> None:
        """names: of the images, for figures and tables; probes: whether a row started from what nobody gave."""
        self.scores, self.settings, self.batches, self.details = scores, settings, tuple(batches), details
        count = sum(len(batch.rows) for batch in batches)
        self.names, self.probes = tuple(names) or ("",) * count, tuple(probes) or (False,) * count
        self._places = dict(
            sorted((row, (batch, i)) for batch in self.batches for i, row in enumerate(batch.rows)),
        )

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        found = sum(int(batch.explanations[0].success.sum()) for batch in self.batches)
        return f"{type(self).__name__}({self.scores.name}, {self.settings.mode}, {found} of {len(self)} reached)"

    @property
    def title(self) -> str:
        """What the record is called beside others: its network."""
        return self.scores.name

    @cached_property
    def explanation(self) -> Explanation:
        """Tensors of all rows; of an error those toward the truth. Raises InputError for images of several sizes."""
        return self._joined(0)

    @cached_property
    def other(self) -> Explanation | None:
        """Of an error, tensors of all rows toward the wrong class; else None."""
        return self._joined(1) if len(self.batches[0].explanations) > 1 else None

    def _joined(self, direction: int) -> Explanation:
        parts = [batch.explanations[direction] for batch in self.batches]
        if len({part.start.shape[1:] for part in parts}) > 1:
            raise InputError("the images have several sizes, so there is no tensor of all; take those of `batches`")
        return join(parts, [batch.rows for batch in self.batches])

    def answers(self) -> list[dict[str, Any]]:
        """One answer for each row, as a served version gives it; images are base64 text of PNG files."""
        return [self.answer(row, details=self.details, text=True) for row in range(len(self))]

    def answer(self, row: int, *, details: bool, text: bool) -> dict[str, Any]:
        """The answer to one row. text: images as base64 instead of bytes."""
        batch, i = self._places[row]
        return answer(self.scores, batch.explanations, i, details=details, text=text)

    def drawable(self) -> list[dict[str, Any]]:
        rows = zip(self.names, self.probes, strict=True)
        return [
            {"file": name, "probe": probe, **self.answer(row, details=True, text=True)}
            for row, (name, probe) in enumerate(rows)
        ]

    def beside(self, *others: "Perturbations") -> "Comparison":
        """This record and others of the same request, which one figure draws below one another.

        Raises:
            InputError: where another record has not the same number of rows.

        Example:
            >>> import conceptry
            >>> robust = conceptry.Perturbation("zoo:digits-16-robust").explain(None, target=[3, 7])
            >>> robust
            Perturbations(zoo:digits-16-robust, probe, 2 of 2 reached)
            >>> standard = conceptry.Perturbation("zoo:digits-16").explain(None, target=[3, 7])
            >>> robust.beside(standard).titles
            ['zoo:digits-16-robust', 'zoo:digits-16']
            >>> figure = robust.beside(standard).plot()
        """
        return Comparison((self, *others))

    def _repr_html_(self) -> str:
        """A table for notebooks: start, result and change of each row."""
        lines = []
        for row in range(min(len(self), _SHOWN)):
            found = self.answer(row, details=True, text=True)
            for side in (found, *found["other"]):
                cells = (
                    _image_cell(found["start"]),
                    _image_cell(side["image"]),
                    _image_cell(side["delta"]),
                    escape(_shown_class(found["before"][0])),
                    escape(side["target"]),
                    escape(_shown_class(side["after"][0])),
                    f"{side['changed']:.1%}",
                )
                lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        heads = ("start", "result", "change", "before", "toward", "after", "pixels changed")
        more = f"<p>and {len(self) - _SHOWN} more</p>" if len(self) > _SHOWN else ""
        head = "".join(f"<th>{name}</th>" for name in heads)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


def _image_cell(content: str) -> str:
    style = f"height:{_SIDE}px;image-rendering:pixelated"
    return f'<img src="data:image/png;base64,{content}" style="{style}">'


def _shown_class(entry: dict[str, Any]) -> str:
    return f"{entry['class']} {entry['probability']:.2f}"


class Comparison(Record):
    """Answers of several networks or settings to one request, row by row; see `Perturbations.beside`."""

    method: ClassVar[str] = "perturbation"

    def __init__(self, records: Sequence[Perturbations]) -> None:
        self.records = tuple(records)
        for record in self.records:
            if not isinstance(record, Perturbations):
                raise InputError(f"expected records of Perturbation.explain, got a {type(record).__name__}")
            if len(record) != len(self.records[0]):
                raise InputError(
                    f"records beside each other must answer the same rows, got {len(self.records[0])} and {len(record)}"
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.records))})"

    @property
    def titles(self) -> list[str]:
        """What tells the records apart: their networks, and the settings in which they differ."""
        fields = [field.name for field in dataclasses.fields(Settings)]
        differing = [name for name in fields if len({getattr(r.settings, name) for r in self.records}) > 1]
        titles = []
        for number, record in enumerate(self.records):
            shown = ", ".join(f"{name} {_shown(getattr(record.settings, name))}" for name in differing)
            title = f"{record.title}, {shown}" if shown else record.title
            titles.append(title if title not in titles else f"{title} ({number + 1})")
        return titles

    def answers(self) -> list[dict[str, Any]]:
        """The answers of the first record, then those of the others, each with the title of its record as `version`."""
        return self._titled(lambda record: record.answers())

    def drawable(self) -> list[dict[str, Any]]:
        return self._titled(lambda record: record.drawable())

    def _titled(self, read: Callable[[Perturbations], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        pairs = zip(self.records, self.titles, strict=True)
        return [{"version": title, **found} for record, title in pairs for found in read(record)]

    def _repr_html_(self) -> str:
        pairs = zip(self.records, self.titles, strict=True)
        return "".join(f"<h4>{escape(title)}</h4>{record._repr_html_()}" for record, title in pairs)


def _shown(value: object) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
