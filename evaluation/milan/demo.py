"""MILAN in the demo: the units of a small network of scenes, described by five versions, and which of them is right."""

import csv
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conceptry.evaluation.demo import Tour
from conceptry.evaluation.milan.data import UnitData, load_units
from conceptry.registry import Requirement

MODEL, DATA, IMAGES = "zoo:scenes", "zoo:emoji-scenes", 2000
EXEMPLARS = "exemplars"  # folder below the demo's own; its versions share them
WORDS = "clip-dissect"
SEARCHES: tuple[dict[str, Any], ...] = (
    {},  # as a version is registered by default: beams, ranked anew by PMI
    {"strategy": "greedy"},
    {"strategy": "beam"},
    {"strategy": "mi"},
    {"describer": WORDS},
)
UNITS = 100  # of each kind to evaluate on
MIN_PLANTED = 0.8


def _versions(output: Path) -> Sequence[Mapping[str, Any]]:
    folder = str(_exemplars(output))
    return [{"model": MODEL, "data": DATA, "exemplars": folder} | search for search in SEARCHES]


def _exemplars(output: Path) -> Path:
    """The exemplars of all units of the network, computed where they are not there yet."""
    from conceptry.models.milan.exemplars.compute import compute_exemplars  # torch is slow to import
    from conceptry.models.milan.exemplars.records import layers_in, results_directory
    from conceptry.models.milan.exemplars.sources import open_source
    from conceptry.models.milan.network import default_layers, load_network

    folder = results_directory(output / EXEMPLARS, MODEL, DATA)
    network = load_network(MODEL, "cpu")
    layers = default_layers(network.module)
    if not folder.is_dir() or set(layers) - set(layers_in(folder)):
        compute_exemplars(network, open_source(DATA, IMAGES), layers, folder, name=MODEL)
    return folder


def _data(size: int) -> UnitData:
    return load_units(None, {}, min(size, UNITS), seed=0)


def _rank(metrics: Mapping[str, float]) -> tuple[float, ...]:
    return (metrics["property_set"],)


def _units(output: Path) -> list[Path]:
    """A table of units to describe."""
    table = output / "units.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["layer", "unit"])
        writer.writerows(_telling_units(_exemplars(output)))
    return [table]


def _telling_units(folder: Path) -> Iterator[tuple[str, int]]:
    """Choose two units of each layer: exemplars of one share an object, those of the other a colour or a pattern."""
    from conceptry.models.milan.exemplars.records import read_results
    from conceptry.models.milan.exemplars.sources import SceneSource
    from conceptry.models.zoo.emoji_world.emoji import OBJECTS

    scenes = SceneSource(DATA, IMAGES).scenes
    frequency = Counter(word for index in range(IMAGES) for word in scenes.concepts(index))
    taken: set[str] = set()
    for layer, exemplars in read_results(folder).items():
        for of_objects in (True, False):
            best = (0.0, "", -1)
            for unit, ids in zip(exemplars.units.tolist(), exemplars.ids.tolist(), strict=True):
                shown = Counter(word for index in ids for word in scenes.concepts(index))
                shares = {
                    word: count / len(ids) - frequency[word] / IMAGES
                    for word, count in shown.items()
                    if (word in OBJECTS) == of_objects and word not in taken
                }
                best = max(best, *((share, word, unit) for word, share in shares.items()))
            taken.add(best[1])
            yield layer, best[2]


def _request(table: Path) -> str:
    file = table.with_name("unit-request.json")
    with table.open(newline="", encoding="utf-8") as stream:
        *_, row = csv.DictReader(stream)
    request = {"dataframe_records": [{"layer": row["layer"], "unit": int(row["unit"])}]}
    file.write_text(json.dumps(request) + "\n", encoding="utf-8")
    return f"cat {shlex.quote(str(file))}"


def _beside(params: Mapping[str, str]) -> bool:
    return params["describer"] == WORDS or params.get("strategy") == "greedy"


TOURS = (
    Tour(
        method="milan",
        name="scenes-milan",
        prepare=_versions,
        data=_data,
        requirement=Requirement("planted", ">=", MIN_PLANTED),
        rank=_rank,
        rule=f"most units described by exactly their two properties among versions with planted >= {MIN_PLANTED:g}",
        samples=_units,
        figures=[("units.png", None)],
        request=_request,
        beside=_beside,
    ),
)
