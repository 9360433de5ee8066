"""What an explainer answers in Python: a typed record that can be written as data, drawn, and shown in a notebook.

Each method has its own subclass with its own tensors. All of them turn into what a served version answers, so a record,
a row of a table and an answer over HTTP read alike.
"""

import importlib
import json
from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

from conceptry.models.errors import ConceptryError, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Record(ABC):
    """Base of the records that `explain` returns. A subclass names its `method` and gives its answers."""

    method: ClassVar[str]

    @abstractmethod
    def answers(self) -> list[dict[str, Any]]:
        """One JSON-ready dictionary for each explained input, with the fields that a served version answers."""

    def drawable(self) -> list[dict[str, Any]]:
        """The answers with what drawing needs besides, such as the explained image."""
        return self.answers()

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-ready data: {"method": name, "explanations": [answer, ...]}."""
        return {"method": self.method, "explanations": self.answers()}

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def plot(self, view: str | None = None, **style: Any) -> "Figure":
        """Draw the record as `conceptry explain --output` does.

        Args:
            view: one of the method's views; its first by default.
            **style: options of the view, as `--style` takes them.

        Returns:
            A matplotlib figure, which the caller saves or shows.

        Raises:
            InputError: for an unknown view or style, and where there is nothing to draw.
            ConceptryError: where only a registered version's own code is there, which cannot draw.
        """
        return plots_of(self.method).draw(self.drawable(), view, **style)

    def _repr_html_(self) -> str:
        """A table for notebooks: a row for each explained input."""
        answers = self.answers()
        names = list(dict.fromkeys(name for answer in answers for name in answer))
        head = "".join(f"<th>{escape(visible(name))}</th>" for name in names)
        cells = ("".join(f"<td>{_cell(answer.get(name))}</td>" for name in names) for answer in answers)
        rows = "".join(f"<tr>{row}</tr>" for row in cells)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def plots_of(method: str) -> Any:
    """The module that draws what a method answers.

    Raises:
        ConceptryError: where only a registered version's own code is there, which cannot draw.
    """
    try:
        # By name: registered versions carry the models alone, and these know nothing of the rest.
        return importlib.import_module(f"conceptry.evaluation.{method}.plots")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("conceptry"):
            raise
        raise ConceptryError("drawing needs conceptry to be installed: pip install conceptry") from None


def _cell(value: object, longest: int = 200) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return escape(visible(text if len(text) <= longest else f"{text[: longest - 1]}…"))
