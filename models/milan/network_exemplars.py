"""The exemplars that a version describes units by: computed over a network, or read where that was done before."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conceptry.models.artifacts import read_json
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.explained.layers import find_layer, some
from conceptry.models.method import option
from conceptry.models.milan.exemplar_settings import ExemplarSettings
from conceptry.models.milan.exemplars import compute_exemplars
from conceptry.models.milan.files import read_results
from conceptry.models.milan.networks import default_layers, load_network
from conceptry.models.milan.records import LayerExemplars
from conceptry.models.milan.sources import DEFAULT_SIZE, open_source
from conceptry.models.milan.state import RECORD, module_digest

MODEL, DATA = "zoo:scenes", "zoo:emoji-scenes"


@dataclass(frozen=True)
class ExemplarSource:
    """Which exemplars: options of a registration."""

    model: str | None = option(
        None,
        "Network whose units are described: zoo:NAME, classifier:FOLDER, torchvision:NAME@WEIGHTS, "
        "torchvision:NAME@FILE, timm:NAME[@FILE], open_clip:ARCH@TAG, imagenet:NAME, models:/NAME/VERSION or "
        f"runs:/RUN/PATH of the pytorch flavour. [default: {MODEL}, or that of --exemplars]",
    )
    layers: str | None = option(
        None, "Its layers, by their dotted names, comma between them. [default: its stages, or all of --exemplars]"
    )
    data: str | None = option(
        None,
        "Pictures to choose exemplars from: zoo:emoji-scenes, zoo:NAME or folder:PATH. "
        f"[default: {DATA}, or that of --exemplars]",
    )
    size: int | None = option(None, f"At most so many pictures. [default: {DEFAULT_SIZE} scenes, else all]")
    exemplars: str | None = option(None, "Folder of exemplars of one model and data set, computed before.")
    k: int | None = option(None, "Exemplars of a unit. [default: 15]")
    quantile: float | None = option(None, "Share of a unit's activations that its masks leave out. [default: .99]")
    image_size: int | None = option(None, "Side of the stored pictures in pixels. [default: that of the network's own]")

    def __post_init__(self) -> None:
        if self.exemplars is None:
            self.settings()
            return
        for name in ("size", "k", "quantile", "image_size"):
            if getattr(self, name) is not None:
                raise InputError(f"{name} is of exemplars to compute, and {self.exemplars} holds them; leave it out")

    def settings(self) -> ExemplarSettings:
        """Raises InputError for values outside their range."""
        given = {name: getattr(self, name) for name in ("k", "quantile", "image_size")}
        return ExemplarSettings(**{name: value for name, value in given.items() if value is not None})

    def layer_names(self) -> tuple[str, ...]:
        """Those that were named. Raises InputError for a layer that is named twice."""
        names = tuple(name.strip() for name in (self.layers or "").split(",") if name.strip())
        if len(set(names)) != len(names):
            raise InputError(f"layers must differ from one another, got {self.layers}")
        return names


@dataclass(frozen=True)
class NetworkExemplars:
    """Exemplars by layer, and where they come from: hyperparameters and lineage of a version."""

    layers: Mapping[str, LayerExemplars]
    model: str
    data: str
    params: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def network_exemplars(source: ExemplarSource) -> Iterator[NetworkExemplars]:
    """The exemplars that `source` says; what was computed is on disk until the context ends."""
    if source.exemplars is not None:
        yield _read(source, Path(source.exemplars))
        return
    model = load_network(source.model or MODEL, "auto")
    data = open_source(source.data or DATA, source.size)
    layers = source.layer_names() or tuple(default_layers(model.module))
    settings = source.settings()
    with tempfile.TemporaryDirectory(prefix="conceptry-exemplars-") as folder:
        found = compute_exemplars(model, data, layers, Path(folder), settings, name=model.name)
        params = {"size": len(data), "k": settings.k, "quantile": settings.quantile}
        lineage = lineage_of(model) | {"data_sha256": data.digest}
        yield NetworkExemplars(found, model.name, data.name, params, lineage)


def out_of_its_world(describer: str, data: str) -> str | None:
    """A sentence where the describer that ships is to describe other pictures than those of its own small world."""
    if describer != "zoo:emoji-milan" or data.startswith("zoo:"):
        return None
    return f"{describer} has the words of the emoji world alone: what it says of {data} is no finding"


def lineage_of(model: Any) -> dict[str, str]:
    """The network's name and digest; that of its module, where it is the half of an encoder."""
    known = getattr(model, "lineage", None)
    return dict(known or {"explained_model": model.name, "explained_sha256": module_digest(model.module)})


def _read(source: ExemplarSource, folder: Path) -> NetworkExemplars:
    found = read_results(folder)
    if missing := [name for name in source.layer_names() if name not in found]:
        raise InputError(f"{folder}: holds no layer {missing[0]!r}; expected one such as {some(list(found))}")
    layers = {name: found[name] for name in source.layer_names() or found}
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    lineage = _lineage(source.model, record, layers, folder)
    if "data_sha256" in record:
        lineage["data_sha256"] = record["data_sha256"]
    counts = sorted({exemplars.images.shape[1] for exemplars in layers.values()})
    params = {name: record.get(name) for name in ("size", "k", "quantile")}
    params["k"] = counts[0] if len(counts) == 1 else ",".join(map(str, counts))
    model = lineage.get("explained_model") or record.get("model") or folder.absolute().parent.name
    return NetworkExemplars(layers, model, source.data or record.get("data") or folder.absolute().name, params, lineage)


def _lineage(
    named: str | None, record: Mapping[str, Any], layers: Mapping[str, LayerExemplars], folder: Path
) -> dict[str, str]:
    """Of the network that the user names, else of the one that the record names; {} where neither does.

    Raises InputError where the network that is named is not that of the exemplars.
    """
    if named is not None:
        model = load_network(named, "cpu")
        for layer in layers:
            find_layer(model.module, layer, model.name)
        if record and record["model_sha256"] != module_digest(model.module):
            raise InputError(f"{folder}: holds exemplars of {record['model']}, whose weights are not those of {named}")
        return lineage_of(model)
    if not record:
        return {}
    known = {"explained_model": record["model"], "explained_sha256": record["model_sha256"]}
    try:
        model = load_network(record["model"], "cpu")
    except ConceptryError:
        return known  # a module of the user's own, which no name leads to
    return lineage_of(model) if module_digest(model.module) == record["model_sha256"] else known
