"""Write explanations as files."""

import base64
from collections.abc import Sequence
from pathlib import Path

from conceptry.evaluation.perturbation.path_picture import draw_paths
from conceptry.evaluation.perturbation.pictures import draw_grid
from conceptry.models.errors import InputError

VIEWS = ("grid", "path", "results")


def save_records(records: Sequence[dict], output: Path, view: str) -> list[Path]:
    """One picture of all records, as a grid or as paths of the sparsest search; or the results as they are.

    The view `results` writes one .png file for each record, numbered where there are several, at the network's own
    size. Raises InputError where records have no path, and for another suffix of results.
    """
    if view == "results":
        if output.suffix != ".png":
            raise InputError(f"results are written as .png, got {output}")
        numbered = [output.with_stem(f"{output.stem}-{k}") for k in range(len(records))]
        files = [output] if len(records) == 1 else numbered
        for record, file in zip(records, files, strict=True):
            file.write_bytes(base64.b64decode(record["image"]))
        return files
    figure = draw_paths(records) if view == "path" else draw_grid(records)
    figure.savefig(output, dpi=200)
    return [output]
