"""Present what versions say of files or units: check a request, ask the versions, print and draw their answers."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from conceptry.evaluation.isolation.client import Predict
from conceptry.models.errors import InputError
from conceptry.models.method import METHODS
from conceptry.registry.comparison import differing_params
from conceptry.registry.versions import Version


@dataclass(frozen=True)
class Shown:
    """Parts of an explanation, or of what was explained, for a page.

    images: caption and content of an image file as base64 text, of each; text: a sentence; bars: what was found, each
    with its weight or effect, the most important first; gist: a few words for a glance, where bars are not those.
    """

    images: tuple[tuple[str, str], ...] = ()
    text: str = ""
    bars: tuple[tuple[str, float], ...] = ()
    gist: str = ""


@dataclass(frozen=True)
class Presenter:
    """Presentation of a method's answers by `conceptry explain`: `PRESENTER` in `conceptry.evaluation.NAME.presenter`.

    Attributes:
        views: kinds of figure of an explanation, the default first.
        suffixes: of the files that `save` writes.
        check_request: (files, targets, hyperparameters of the version) -> request: reads the files, once. Raises
            InputError for what cannot be explained, before a version is loaded: a file, the lack of one where the
            method needs it, classes where it takes none.
        records: (predict, request, parameters) -> a JSON-ready record for each explanation, with the images or samples
            that it is drawn with, so that records can be drawn when their files are gone.
        describe: records for the terminal.
        save: (records, output, view, style) -> files: draws records to `output`. view: one of `views`, None for the
            first; style: how they are drawn, by names among `styles`.
        rows: a record as rows of a table, each with what was explained and one thing that was found of it.
        explain_items: (predict, items of evaluation data) -> a record for each, as `records` makes them.
        shown: a record as what was explained, which is the same for all versions, and as what the version says.
        styles: names of the options of a figure.
        beside: whether `save` draws records of several versions, told apart by their key `version`.
        unprinted: keys of a record that are for drawing alone.
    """

    views: tuple[str, ...]
    suffixes: tuple[str, ...]
    check_request: Callable[[Sequence[Path], Sequence[str], Mapping[str, str]], Any]
    records: Callable[[Predict, Any, Mapping[str, Any]], list[dict]]
    describe: Callable[[Sequence[dict]], RenderableType]
    save: Callable[[Sequence[dict], Path, str | None, Mapping[str, Any]], list[Path]]
    rows: Callable[[dict], list[dict]]
    explain_items: Callable[[Predict, Sequence[Any]], list[dict]]
    shown: Callable[[dict], tuple[Shown, Shown]]
    styles: tuple[str, ...] = ()
    beside: bool = False
    unprinted: tuple[str, ...] = ()

    def to_json(self, records: Sequence[dict]) -> str:
        """Records as JSON text, as commands print them."""
        printed = [{key: value for key, value in record.items() if key not in self.unprinted} for record in records]
        return json.dumps(printed, indent=2)


def presenter_of(method: str) -> Presenter:
    """The presenter of a method of the contract."""
    assert method in METHODS
    return importlib.import_module(f"conceptry.evaluation.{method}.presenter").PRESENTER


def check_files(method: str, files: Sequence[Path], targets: Sequence[str], most: int = 0) -> None:
    """Raise InputError without files and for more than `most` classes: for methods that explain files."""
    if not files:
        raise InputError(f"{method} explains files: name at least one")
    if len(targets) > most:
        takes = f"takes {most} class" if most else "takes no class"
        raise InputError(f"{method} {takes} to explain by, got --target {', '.join(targets)}")


def check_beside(versions: Sequence[Version]) -> None:
    """Raise InputError for several versions that cannot be drawn below one another."""
    for version in versions[1:]:
        if version.method != versions[0].method:
            raise InputError(f"{version.uri} is of the method {version.method}, {versions[0].uri} of another")
        if not presenter_of(version.method).beside:
            raise InputError(f"{version.method} draws one version at a time, got --beside {version.uri}")
    if repeated := [v for number, v in enumerate(versions) if v.uri in {other.uri for other in versions[:number]}]:
        raise InputError(f"{repeated[0].uri} is given twice; expected versions that differ")


def _groups(versions: Sequence[Version], keys: Sequence[str]) -> int:
    """How many different versions there are by these hyperparameters."""
    return len({tuple(v.params.get(key) for key in keys) for v in versions})


def version_titles(versions: Sequence[Version]) -> list[str]:
    """Titles that tell versions apart in one figure: each with the hyperparameters in which they differ.

    The model that is explained comes first, by its name alone; two others follow, and more where these leave two
    versions alike. Where the versions do not differ, as a single one, the model is named.
    """
    others = [key for key in differing_params(versions) if key != "model"]
    differing = others[:2]
    for key in others[2:]:
        if _groups(versions, [*differing, "model"]) < _groups(versions, [*differing, "model", key]):
            differing.append(key)
    by_model = not differing or len({v.params.get("model") for v in versions}) > 1
    titles = []
    for v in versions:
        parts = [v.params["model"]] if by_model and "model" in v.params else []
        parts += [f"{key}={v.params[key]}" for key in differing if key in v.params]
        titles.append(f"{v.name}/{v.version}" + (f" ({', '.join(parts)})" if parts else ""))
    return titles
