"""What users hand in: samples in whatever form they have them, groups of columns, and the row of a baseline.

| modality | one sample | several |
|---|---|---|
| table | {column: value}, a Series, values in the order of the columns | a DataFrame, a list of them, an array (n, k) |
| text | a string | a list, Series or array of strings, a DataFrame with a column `text` |
| image | PIL image, path, content of a file, uint8 (H, W) or (H, W, 3), tensor (C, H, W) | a list, an array of them |
| points | (points, 3) | (n, points, 3), or a list of clouds |

A floating tensor of an image is in [0, 1].
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column, ExplainedModel
from conceptry.models.explained.tables import read_background, read_cells
from conceptry.models.harsanyi.settings import MOST_BASELINES, ROW, ROWS, SAMPLE, Settings
from conceptry.models.images import decode_image, image_bytes, open_image, to_rgb
from conceptry.models.method import whole_number

GROUPS = "groups"
BaselineRows = Mapping[str, Any] | pd.Series | Sequence[Mapping[str, Any]] | pd.DataFrame | None  # one, or several


def read_samples(samples: Any, model: ExplainedModel) -> tuple[list[Any], bool]:
    """The samples one by one, as the maskers take them, and whether one alone was given (then the list holds it).

    Raises InputError for what is no sample of the model, naming its row where there are several.
    """
    given, single = _listed(samples, model.modality)
    read = {"table": _row, "text": _text, "image": read_image, "points": read_points}[model.modality]
    result = []
    for row, sample in enumerate(given):
        try:
            result.append(read(sample, model))
        except InputError as error:
            raise InputError(str(error) if single else f"row {row}: {error}") from None
    return result, single


def read_image(value: Any, model: ExplainedModel) -> np.ndarray:
    """RGB pixels uint8 (H, W, 3), at the size that the model states, where it does."""
    if isinstance(value, Tensor):
        value = _array_of_tensor(value)
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or not (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))):
            raise InputError(
                f"an image is uint8 of shape (height, width) or (height, width, 3), got {value.dtype} {value.shape}"
            )
        image = to_rgb(Image.fromarray(value))
    elif isinstance(value, Image.Image):
        image = to_rgb(value)
    elif isinstance(value, Path) or (isinstance(value, str) and _is_file(value)):
        image = open_image(Path(value))
    else:
        image = decode_image(image_bytes(value))
    return fit_image(image, model)


def fit_image(image: Image.Image, model: Any) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of an RGB image, at the size that the model states, where it does."""
    size = getattr(model, "call_size", None)
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]))
    return np.asarray(image)


def read_points(value: Any, model: ExplainedModel | None = None) -> np.ndarray:
    """A cloud float64 (points, 3). Raises InputError for other shapes and for coordinates that are not finite."""
    try:
        points = np.asarray(value.tolist() if isinstance(value, np.ndarray) else value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("expected a list of [x, y, z]") from None
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(f"expected a list of [x, y, z], got shape {points.shape}")
    if not np.isfinite(points).all():
        raise InputError("expected finite coordinates, got NaN or infinite values")
    return points


def read_groups(path: Path) -> dict[str, list[str]]:
    """Players as groups of columns, from a JSON file {player: [columns]}. Raises InputError where it holds no such."""
    expected = "expected a JSON object {player: [columns]}"
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"players {path}: no such file; {expected}, or columns") from None
    except ValueError as error:
        raise InputError(f"players {path}: not JSON ({error}); {expected}") from None
    lists = isinstance(groups, dict) and all(isinstance(v, list) for v in groups.values())
    if not lists or not groups or not all(isinstance(name, str) for v in groups.values() for name in v):
        raise InputError(f"players {path}: {expected}")
    return groups


def read_row(path: Path, columns: Sequence[Column] = ()) -> dict[str, Any]:
    """The row of a baseline, from a CSV with a header or a JSON object. Raises InputError where it holds none.

    columns: of the model, in whose types the cells of a CSV are read.
    """
    return _read_rows(path, columns, ROW, "one row, as a JSON object or a CSV with a header")[0]


def read_rows(path: Path, columns: Sequence[Column] = ()) -> list[dict[str, Any]]:
    """The rows of a baseline, from a CSV with a header or a JSON list of objects; see `read_row`."""
    return _read_rows(path, columns, ROWS, "rows, as a JSON list of objects or a CSV with a header")


def _read_rows(path: Path, columns: Sequence[Column], kind: str, expected: str) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8-sig"))
            rows = [rows] if isinstance(rows, dict) else rows
        else:
            rows = read_cells(path, {column.name: column.dtype for column in columns}).to_dict("records")
    except OSError:
        raise InputError(f"baseline {kind}:{path}: no such file") from None
    except ValueError as error:
        raise InputError(f"baseline {kind}:{path}: neither JSON nor CSV ({error})") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row for row in rows):
        raise InputError(f"baseline {kind}:{path}: expected {expected}")
    return [_row_of(row) for row in rows]


def _row_of(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row with plain values by name, None for what is empty."""
    return {str(name): None if value is pd.NA or value != value else _plain(value) for name, value in row.items()}


def sampled_rows(
    statistics: str | Path | pd.DataFrame | np.ndarray | None, baseline: str, seed: int, columns: Sequence[Column]
) -> list[dict[str, Any]]:
    """The rows that a baseline sample:K draws from those of the statistics, in their order."""
    count = whole_number(baseline.partition(":")[2])
    if count is None or not 1 <= count <= MOST_BASELINES:
        raise InputError(f"baseline {baseline}: expected sample:K with K from 1 to {MOST_BASELINES}")
    if statistics is None:
        raise InputError(
            f"baseline {baseline} draws rows of the statistics, and none are given; give a CSV file of rows as the "
            "statistics, or the rows themselves by rows:FILE"
        )
    names = [column.name for column in columns]
    if isinstance(statistics, np.ndarray):
        statistics = pd.DataFrame(statistics, columns=pd.Index(names))
    frame = read_background(statistics, {column.name: column.dtype for column in columns})
    if count > len(frame):
        raise InputError(f"baseline {baseline}: the statistics have {len(frame)} rows")
    drawn = np.random.default_rng(np.random.SeedSequence([seed, 41])).choice(len(frame), count, replace=False)
    return [_row_of(row) for row in frame.loc[sorted(drawn), names].to_dict("records")]


def _listed(samples: Any, modality: str) -> tuple[list[Any], bool]:
    """The samples as a list, and whether they were one alone."""
    if isinstance(samples, pd.DataFrame):
        if modality == "table":
            return samples.to_dict("records"), False
        if modality not in samples.columns:
            columns = ", ".join(map(str, samples.columns))
            raise InputError(f"the table has no column {modality!r}; it has {columns or 'no columns'}")
        return samples[modality].tolist(), False
    if isinstance(samples, Tensor) and modality in ("table", "points"):
        samples = samples.detach().cpu().numpy()
    if isinstance(samples, pd.Series):
        return ([samples.to_dict()], True) if modality == "table" else (samples.tolist(), False)
    if isinstance(samples, (np.ndarray, Tensor)):
        one = _dimensions_of_one(samples, modality)
        return ([samples], True) if samples.ndim == one else (list(samples), False)
    if isinstance(samples, (list, tuple)):
        if not samples:
            raise InputError("there is nothing to explain; expected at least one sample")
        if modality == "table" and not isinstance(samples[0], (Mapping, list, tuple, np.ndarray, pd.Series)):
            return [samples], True  # the values of one row
        if modality == "points" and _depth(samples) == 2:
            return [samples], True
        return list(samples), False
    return [samples], True


def _dimensions_of_one(samples: np.ndarray | Tensor, modality: str) -> int:
    if modality == "image":
        # (n, H, W) of grey images cannot be told from one of three channels in all cases: it is one image
        return 4 if samples.ndim not in (2, 3, 4) else min(samples.ndim, 3)
    return {"table": 1, "text": 0, "points": 2}[modality]


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, (list, tuple, np.ndarray)) and len(value):
        value, depth = value[0], depth + 1
    return depth


def _row(sample: Any, model: ExplainedModel) -> Mapping[Any, Any]:
    if isinstance(sample, pd.Series):
        return sample.to_dict()
    if isinstance(sample, Mapping):
        return sample
    names = [column.name for column in model.columns]
    if isinstance(sample, np.ndarray):
        sample = sample.tolist()
    if not isinstance(sample, (list, tuple)):
        raise InputError(f"expected a row as {{column: value}} or as {len(names)} values, got {type(sample).__name__}")
    if len(sample) != len(names):
        raise InputError(f"expected {len(names)} values, of {', '.join(names)}, got {len(sample)}")
    return dict(zip(names, sample, strict=True))


def _text(sample: Any, model: ExplainedModel) -> str:
    if not isinstance(sample, str) or not sample.strip():
        raise InputError("expected a text that is not blank")
    return str(sample)


def _array_of_tensor(pixels: Tensor) -> np.ndarray:
    """uint8 (H, W) or (H, W, C) of a tensor (C, H, W), whole from 0 to 255 or floating from 0 to 1."""
    pixels = pixels.detach().cpu()
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise InputError(f"a tensor of an image has the shape (1 or 3, height, width), got {tuple(pixels.shape)}")
    if pixels.is_floating_point():
        if not (pixels.isfinite().all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise InputError("a floating tensor of an image holds values from 0 to 1, not normalised ones")
        pixels = (pixels * 255).round()
    array = pixels.numpy().astype(np.uint8)
    return array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # base64 is longer than any name
        return False


def columns_named(names: str | Sequence[str] | None) -> str:
    """Names of columns as one text, as settings hold them: with commas between, or a JSON list where names have any."""
    if isinstance(names, str):
        return names
    listed = list(names or ())
    plain = all("," not in name and name == name.strip() and not name.startswith("[") for name in listed)
    return ",".join(listed) if plain else json.dumps(listed)


def settings_with_files(
    settings: Settings,
    model: ExplainedModel,
    groups: Mapping[str, Sequence[str]] | None,
    rows: BaselineRows,
    statistics: str | Path | pd.DataFrame | np.ndarray | None = None,
) -> tuple[Settings, dict[str, list[str]] | None, list[dict[str, Any]] | None]:
    """Settings that name files, with what the files hold; what is given by value is read from none.

    rows: of the baseline, one or several.
    """
    players, baseline = settings.players, settings.baseline
    if model.modality == "table" and groups is None and players not in (None, "columns"):
        groups = read_groups(Path(str(players)))
    if groups is not None:
        players = GROUPS
    kind, _, file = str(baseline or "").partition(":")
    listed = None if rows is None else _listed_rows(rows)
    if model.modality == "table" and kind in (ROW, ROWS) and file:
        listed = [read_row(Path(file), model.columns)] if kind == ROW else read_rows(Path(file), model.columns)
        baseline = kind
    elif kind == SAMPLE and model.modality == "table" and listed is None:
        listed = sampled_rows(statistics, str(baseline), settings.seed, model.columns)
    elif listed is not None and baseline is None:
        baseline = ROW if len(listed) == 1 else ROWS
    elif kind in (ROW, ROWS) and listed is None:
        raise InputError(f"baseline {kind} needs a file: {kind}:FILE, a CSV with a header, or JSON")
    if listed is not None and not 1 <= len(listed) <= MOST_BASELINES:
        raise InputError(f"a baseline has 1 to {MOST_BASELINES} rows, got {len(listed)}; take sample:K of them")
    return (
        dataclasses.replace(settings, players=players, baseline=baseline),
        None if groups is None else {name: list(columns) for name, columns in groups.items()},
        listed,
    )


def _listed_rows(rows: Any) -> list[dict[str, Any]]:
    if isinstance(rows, pd.DataFrame):
        rows = rows.to_dict("records")
    if isinstance(rows, (Mapping, pd.Series)):
        rows = [rows]
    if not isinstance(rows, Sequence) or not all(isinstance(row, (Mapping, pd.Series)) for row in rows):
        raise InputError(
            f"a baseline is a name, a row {{column: value}} or rows (a DataFrame or list), got {type(rows).__name__}"
        )
    return [_row_of(dict(row)) for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
