"""One row of an answer: a description in words and numbers, and the exemplars that it is of."""

import base64
from typing import Any

from conceptry.models.milan.descriptions import Description
from conceptry.models.milan.network_units import UnitFiles
from conceptry.models.milan.requests import Row

NO_FILES = UnitFiles((), (), (), ())


def answer(row: Row, description: Description | None, files: UnitFiles, *, text: bool) -> dict[str, Any]:
    """The answer to `row`; description: None for a unit that is never active, of which there is nothing to say.

    files: what is delivered of the exemplars; text: PNG files as base64 instead of bytes.
    """

    def delivered(contents: tuple[bytes, ...]) -> list[bytes | str]:
        return [base64.b64encode(content).decode() for content in contents] if text else list(contents)

    said = {"description": "", "score": 0.0, "log_likelihood": 0.0, "pmi": 0.0, "alternatives": []}
    if description is not None:
        said = {
            "description": description.text,
            **_scores(description),
            "alternatives": [{"text": other.text, **_scores(other)} for other in description.alternatives],
        }
    return {
        "layer": row.layer,
        "unit": row.unit,
        "active": description is not None,
        **said,
        "ids": list(files.ids),
        "activations": list(files.activations),
        "images": delivered(files.images),
        "masks": delivered(files.masks),
    }


def _scores(said: Any) -> dict[str, float]:
    return {name: float(getattr(said, name)) for name in ("score", "log_likelihood", "pmi")}
