"""Descriptions of units as data: what `Milan.explain` returns, and the rows of a served version (see `pyfunc`)."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from conceptry.models.images import png_bytes
from conceptry.models.milan.describer.ranking import NOTHING, Alternative, Description
from conceptry.models.milan.exemplars.records import UnitExemplars
from conceptry.models.milan.exemplars.unit_store import UnitFiles, UnitStore, unit_files
from conceptry.models.record import Record

NO_FILES = UnitFiles((), (), (), ())
_SHOWN_UNITS, _SHOWN_EXEMPLARS, _SIDE = 50, 8, 72  # of a notebook's table; _SIDE in pixels


@dataclass(frozen=True, eq=False)
class UnitDescription:
    """A unit and what it responds to.

    layer, unit: of the explained network; "" and -1 where images and masks were given. active: whether any of its masks
    has a pixel; of a unit without, there is nothing to describe. description: see `Description`; an empty one where the
    unit is not active.
    """

    layer: str
    unit: int
    active: bool
    description: Description
    source: "UnitStore | UnitExemplars"

    @property
    def text(self) -> str:
        """The description in words."""
        return self.description.text

    @property
    def score(self) -> float:
        """What the description was chosen by, see `Description`."""
        return self.description.score

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """The next best descriptions."""
        return self.description.alternatives

    @property
    def exemplars(self) -> UnitExemplars:
        """The images and masks that the description is of; read again from where they are stored."""
        source = self.source
        return source if isinstance(source, UnitExemplars) else source.unit(self.layer, self.unit)

    def answer(self, *, exemplars: bool, text: bool) -> dict[str, Any]:
        """The row that a served version answers, see `pyfunc`.

        Args:
            exemplars: whether PNG files of the images and masks of a unit of the network are part of it.
            text: whether these are base64 text instead of bytes.
        """
        source = self.source
        files = NO_FILES
        if isinstance(source, UnitStore):
            files = source.files(self.layer, self.unit, with_images=exemplars)
        return {
            "layer": self.layer,
            "unit": self.unit,
            "active": self.active,
            "description": self.text,
            **_scores(self.description),
            "alternatives": [{"text": other.text, **_scores(other)} for other in self.alternatives],
            "ids": list(files.ids),
            "activations": list(files.activations),
            "images": _delivered(files.images, text),
            "masks": _delivered(files.masks, text),
        }

    @property
    def name(self) -> str:
        """LAYER:UNIT, or "unit" where images and masks were given."""
        return f"{self.layer}:{self.unit}" if self.layer else "unit"


class UnitDescriptions(Record, Sequence[UnitDescription]):
    """Descriptions of units, in the order in which they were asked for."""

    method: ClassVar[str] = "milan"

    def __init__(self, units: Sequence[UnitDescription], *, exemplars: bool = False) -> None:
        """exemplars: whether the answers carry the images and masks as PNG files."""
        self.units, self.with_exemplars = tuple(units), exemplars

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, index: Any) -> Any:
        return self.units[index]

    def __iter__(self) -> Iterator[UnitDescription]:
        return iter(self.units)

    @property
    def texts(self) -> list[str]:
        """The descriptions in words, "" of units that are never active."""
        return [unit.text for unit in self.units]

    def answers(self) -> list[dict[str, Any]]:
        return [unit.answer(exemplars=self.with_exemplars, text=True) for unit in self.units]

    def drawable(self) -> list[dict[str, Any]]:
        records = []
        for number, unit in enumerate(self.units):
            source = unit.source
            files = unit_files(source) if isinstance(source, UnitExemplars) else source.files(unit.layer, unit.unit)
            sample = unit.name if unit.layer or len(self) == 1 else f"{unit.name} {number}"
            images = {name: _delivered(getattr(files, name), text=True) for name in ("images", "masks")}
            records.append({**unit.answer(exemplars=False, text=True), "file": "", "sample": sample, **images})
        return records

    def __repr__(self) -> str:
        said = (f"{unit.name}: {unit.text!r}" for unit in self.units[:10])
        more = [f"... {len(self) - 10} more"] if len(self) > 10 else []
        return f"{type(self).__name__}({', '.join([*said, *more])})"

    def _repr_html_(self) -> str:
        """A table for notebooks: each unit with its description and its first exemplars, dark where it is inactive."""
        rows = "".join(_row(unit) for unit in self.units[:_SHOWN_UNITS])
        if len(self) > _SHOWN_UNITS:
            rows += f'<tr><td colspan="5">… {len(self) - _SHOWN_UNITS} more units</td></tr>'
        head = "".join(f"<th>{name}</th>" for name in ("unit", "description", "score", "pmi", "exemplars"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def unit_description(
    layer: str, unit: int, description: Description | None, source: UnitStore | UnitExemplars
) -> UnitDescription:
    """The record of one unit; description: None of one that is never active."""
    return UnitDescription(layer, unit, description is not None, description or NOTHING, source)


def _scores(said: Description | Alternative) -> dict[str, float]:
    return {name: float(getattr(said, name)) for name in ("score", "log_likelihood", "pmi")}


def _delivered(contents: Sequence[bytes], text: bool) -> list[Any]:
    return [base64.b64encode(content).decode() for content in contents] if text else list(contents)


def _row(unit: UnitDescription) -> str:
    numbers = (f"{unit.score:.2f}", f"{unit.description.pmi:.2f}") if unit.active else ("", "")
    text = escape(unit.text) if unit.active else "<i>never active</i>"
    if others := "; ".join(other.text for other in unit.alternatives[:2]):
        text += f"<br><small>or: {escape(others)}</small>"
    strip = base64.b64encode(_strip(unit.exemplars)).decode()
    image = f'<img alt="exemplars of {escape(unit.name)}" src="data:image/png;base64,{strip}">'
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in (escape(unit.name), text, *numbers, image)) + "</tr>"


def _strip(exemplars: UnitExemplars) -> bytes:
    """A PNG of the first exemplars side by side, dark outside of the masks."""
    images, masks = exemplars.images[:_SHOWN_EXEMPLARS], exemplars.masks[:_SHOWN_EXEMPLARS]
    lit = np.where(masks != 0, images, images // 4).astype(np.uint8)
    row = Image.fromarray(np.ascontiguousarray(np.concatenate(list(lit), axis=2).transpose(1, 2, 0)))
    width = max(round(row.width * _SIDE / row.height), 1)
    kind = Image.Resampling.NEAREST if row.height < _SIDE else Image.Resampling.BOX
    return png_bytes(row.resize((width, _SIDE), kind))
