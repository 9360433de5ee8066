"""MILAN as a method of the registry: how a version is built of its options.

A version describes units by their exemplars. These are computed over the network, or read from a folder where they have
been computed before; with a describer they make the package, see `package`.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conceptry.models.devices import resolve_device
from conceptry.models.encoders.load import load_encoder
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.explained.hooks import find_layer, some
from conceptry.models.manifest import digest_of_files, files_in, read_json
from conceptry.models.method import Method, Package
from conceptry.models.milan.baselines.clip_dissect import ClipDissect, build_clip_dissect
from conceptry.models.milan.describer.describer import load_describer
from conceptry.models.milan.exemplars.checkpoint import RECORD, module_digest
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.records import LayerExemplars, read_results
from conceptry.models.milan.exemplars.sources import open_source
from conceptry.models.milan.exemplars.unit_store import NetworkUnits
from conceptry.models.milan.network import default_layers, load_network
from conceptry.models.milan.package import DESCRIBER, UNITS, read_package, write_package
from conceptry.models.milan.settings import (
    CLIP_DISSECT,
    DATA,
    EMOJI_MILAN,
    GREEDY,
    MI,
    MODEL,
    OF_WORDS,
    RERANK,
    SAMPLE,
    SEARCH,
    ExemplarSource,
    MilanOptions,
)

REFERENCE_PICTURES = 500  # by which CLIP-Dissect knows how frequent words are
_LONGEST = 6000  # characters of a hyperparameter in MLflow
_REQUIREMENTS = ("numpy", "open_clip_torch", "pandas", "pillow", "safetensors", "torch", "torchvision")


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
    if describer != EMOJI_MILAN or data.startswith("zoo:"):
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
    """Lineage of the network that the user names, else of the one that the record names; {} where neither does.

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


def build(options: MilanOptions, directory: Path) -> Package:
    """Gather describer and exemplars, and write the package folder."""
    device, settings = resolve_device("auto"), options.settings_of_search()
    clip = None if options.encoder_name is None else load_encoder(options.encoder_name, device)
    describer = None if options.is_words else load_describer(options.describer, device)
    with network_exemplars(options) as found:
        if describer is None:
            assert clip is not None  # the options have seen to it
            write_package(directory, found.layers, _word_describer(options.words, found.data, clip), settings, None)
        else:
            write_package(directory, found.layers, describer, settings, clip)
        return _package(options, found, directory)


def _package(options: MilanOptions, found: NetworkExemplars, directory: Path) -> Package:
    units = NetworkUnits(directory / UNITS)
    # What versions differ in most comes first: a list of them has no room for more.
    params: dict[str, Any] = {"model": found.model, "describer": options.describer}
    params |= {name: getattr(options, name) for name in _used(options)}
    params |= {"clip_encoder": options.encoder_name, "words": options.words, "layers": ",".join(units.layers)}
    params |= {"data": found.data, **found.params, "units": units_param(units)}
    tags = dict(found.lineage)
    folder = directory / DESCRIBER
    tags |= {"describer": options.describer, "describer_sha256": digest_of_files(folder, files_in(folder))}
    every = [(layer, unit) for layer in units.layers for unit in units.numbers(layer)]
    active = [(layer, unit) for layer, unit in every if units.is_active(layer, unit)]
    layer, unit = (active or every)[0]
    notes = []
    if inactive := len(every) - len(active):
        notes.append(f"{inactive} of {len(every)} units never rise above their level: they are not described")
    if warning := out_of_its_world(options.describer, found.data):
        notes.append(warning)
    example = {"layer": [layer], "unit": [unit]}
    return Package({n: v for n, v in params.items() if v is not None}, tags, example, _REQUIREMENTS, notes)


def _used(options: MilanOptions) -> tuple[str, ...]:
    """The settings that say something to the describer and its strategy; the others would look like differences."""
    if options.is_words:
        return OF_WORDS
    unused = set() if options.clip else {"clip", "clip_weight", "clip_temperature"}
    if options.clip or options.strategy not in (MI, RERANK):
        unused.add("temperature")
    if options.strategy in (GREEDY, SAMPLE):
        unused.add("beam_size")
    if options.strategy != SAMPLE:
        unused.add("seed")
    return tuple(name for name in SEARCH if name not in unused)


def units_param(units: NetworkUnits) -> str:
    """The numbers of the units of each layer, as JSON: {layer: [[first, last], ...]}.

    Raises InputError where that is longer than MLflow takes.
    """
    ranges = {}
    for layer in units.layers:
        numbers = np.sort(np.array(units.numbers(layer)))
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
        ends = np.append(starts[1:], len(numbers)) - 1
        ranges[layer] = [[int(numbers[i]), int(numbers[j])] for i, j in zip(starts, ends, strict=True)]
    text = json.dumps(ranges, separators=(",", ":"))
    if len(text) > _LONGEST:
        raise InputError(
            f"the numbers of {sum(units.counts.values())} units of {len(ranges)} layers take {len(text):,} characters, "
            f"and MLflow records {_LONGEST:,}; register fewer layers, or more of the units of each"
        )
    return text


def _word_describer(words: str | None, data: str, encoder: PackagedEncoder) -> ClipDissect:
    try:
        source = open_source(data, REFERENCE_PICTURES)
    except InputError as error:
        raise InputError(f"{CLIP_DISSECT} asks how frequent words are in the data of the exemplars: {error}") from None
    images = (Image.fromarray(np.ascontiguousarray(source.read_images([i])[0])) for i in range(len(source)))
    return build_clip_dissect(encoder, _words(words), images)


def _words(path: str | None) -> tuple[str, ...]:
    if path is None:
        from conceptry.models.zoo.emoji_world.emoji import VOCABULARY

        return VOCABULARY
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a text of words ({type(error).__name__})") from None
    return tuple(line.strip() for line in lines if line.strip())


METHOD = Method(
    name="milan",
    options=MilanOptions,
    build=build,
    read=read_package,
    explainer="conceptry.models.milan.pyfunc:MilanExplainer",
)
