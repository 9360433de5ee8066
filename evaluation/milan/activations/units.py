"""Activations of units on pictures that chose nothing, and which of these pictures show what a description says.

| symbol | meaning | shape |
|---|---|---|
| scored | pictures that chose nothing: no exemplar is among them | (n,) |
| a | activations of the units on the scored pictures, maps pooled by their mean, or by their maximum | (n, U) |
| c | whether a picture has the concept of a description | (n, D) |

| pictures | c | for CoSy, beside the scored pictures without the concept |
|---|---|---|
| `Scenes` of the emoji world | known | scenes drawn to have the concept |
| `SeenImages`, any | estimated by a dual encoder | the scored pictures with it |

| units | network | activations |
|---|---|---|
| planted, colour arithmetic | known to the harness | yes |
| a version's own | loaded again by its name, if its weights are those registered | yes |
| annotated | made up by hand | none |
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np

from conceptry.evaluation.milan.activations.scenes import Scenes
from conceptry.evaluation.milan.client import COLOURS, PLANTED, UnitCase
from conceptry.models.errors import InputError
from conceptry.models.milan.exemplars.sources import ImageSource, source_of

SCENES = "zoo:emoji-scenes"  # data whose pictures are scenes, by the start of their name


class ImageSet(Protocol):
    """Pictures that units are scored on, and what is known of them.

    about: where c comes from; notes: sentences for the report.
    """

    @property
    def source(self) -> ImageSource: ...
    @property
    def about(self) -> str: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def names(self, texts: Sequence[str]) -> np.ndarray:
        """Whether each description names anything, bool (D,)."""
        ...

    def presence(self, texts: Sequence[str]) -> np.ndarray:
        """c of descriptions, float64 (n, D), from 0 to 1; 0 of those that name nothing."""
        ...

    def constants(self, texts: Sequence[str]) -> Sequence[str]:
        """What the control says of all units: each of these, of which the best counts. texts: said of the units."""
        ...

    def drawn(self, text: str) -> list[np.ndarray] | None:
        """Pictures uint8 (H, W, 3) drawn to have the concept of a description; None where none can be."""
        ...


@dataclass(frozen=True, eq=False)
class Network:
    """Units of a network among the units to score.

    load: the network, a torch module over pixels in [0, 1] or a `PixelModel`; rows: positions of its units; places:
    layer and number of each; channels: see `record_activations`.
    """

    load: Callable[[], Any]
    rows: Sequence[int]
    places: Sequence[tuple[str, int]]
    channels: str | None = None


@dataclass(frozen=True, eq=False)
class Activations:
    """a by the mean and by the maximum of each map, float64 (n, U); NaN for units that have none."""

    mean: np.ndarray
    maximum: np.ndarray


@dataclass(frozen=True, eq=False)
class ScoredUnits:
    """Units whose activations are known, and all that descriptions of them are scored by.

    count: number of units, those without activations too; networks: those that have some; image_set: pictures that
    they are scored on; seed: of random networks and of what is shuffled.
    """

    count: int
    networks: Sequence[Network]
    image_set: ImageSet
    seed: int = 0

    @cached_property
    def has_activations(self) -> np.ndarray:
        """Whether each unit has activations, bool (U,)."""
        known = np.zeros(self.count, dtype=bool)
        for network in self.networks:
            known[list(network.rows)] = True
        return known

    @cached_property
    def activations(self) -> Activations:
        """Activations on the scored pictures."""
        return self._activations(lambda network: network)

    @cached_property
    def random(self) -> Activations:
        """Activations of networks of the same architecture with parameters drawn anew; NaN for one without any."""
        return self._activations(partial(redrawn, seed=self.seed))

    def rendered(self, texts: Sequence[str]) -> list[np.ndarray | None]:
        """Activations (k,), by the mean, of each unit on pictures drawn for its description, one of `texts` (U).

        None for a unit without activations, and where no picture can be drawn for its description.
        """
        found: list[np.ndarray | None] = [None] * self.count
        for number, network in enumerate(self.networks):
            known = self._rendered.setdefault(number, {})
            new = {text: self.image_set.drawn(text) for row in network.rows if (text := texts[row]) not in known}
            shown = {text: images for text, images in new.items() if images}
            known.update(dict.fromkeys(new))
            if shown:
                every = np.stack([image for images in shown.values() for image in images])
                means, _ = pooled_activations(self._loaded[number], every, network.places, network.channels)
                ends = np.cumsum([len(images) for images in shown.values()])[:-1]
                known.update(zip(shown, np.split(means, ends), strict=True))
            for column, row in enumerate(network.rows):
                means_of = known[texts[row]]
                found[row] = None if means_of is None else means_of[:, column]
        return found

    @cached_property
    def _rendered(self) -> dict[int, dict[str, np.ndarray | None]]:
        """Activations (k, units) of a network on pictures drawn for a description."""
        return {}

    @cached_property
    def _loaded(self) -> list[Any]:
        return [network.load() for network in self.networks]

    def _activations(self, change: Callable[[Any], Any | None]) -> Activations:
        source = self.image_set.source
        found = Activations(*(np.full((len(source), self.count), np.nan) for _ in range(2)))
        for network, loaded in zip(self.networks, self._loaded, strict=True):
            changed = change(loaded)
            if changed is not None:
                means, maxima = pooled_activations(changed, source, network.places, network.channels)
                found.mean[:, list(network.rows)], found.maximum[:, list(network.rows)] = means, maxima
        return found


def emoji_units(
    cases: Sequence[UnitCase], controls: Sequence[UnitCase], seed: int, seen: Callable[[Scenes], ImageSet] | None = None
) -> ScoredUnits:
    """The planted units and those of colour arithmetic among `cases`.

    seen: the scenes with estimates in place of what is known of them.
    """
    from conceptry.models.milan.emoji_units.planted import COLOUR_UNITS, ColourUnits, load_planted_units

    planted = load_planted_units()
    place_of = {word: (layer, i) for layer, words in planted.concepts.items() for i, word in enumerate(words)}
    colours = {word: ("units", i) for i, word in enumerate(COLOUR_UNITS)}
    networks = []
    for group, load, known in ((PLANTED, lambda: planted, place_of), (COLOURS, ColourUnits, colours)):
        rows = [i for i, case in enumerate(cases) if case.group == group]
        places = [known[word] for i in rows for word in cases[i].truth or ()]
        networks.append(Network(load, rows, places))
    chosen = [image for case in (*cases, *controls) if case.images is not None for image in case.images]
    scenes = Scenes(chosen, seed)
    image_set = scenes if seen is None else seen(scenes)
    return ScoredUnits(len(cases), [network for network in networks if network.rows], image_set, seed)


def own_units(
    cases: Sequence[UnitCase], params: Mapping[str, str], seed: int, seen: Callable[[Scenes], ImageSet] | None = None
) -> ScoredUnits:
    """A version's own units, of a network that looks at scenes; see `data.known_of` for `params`, above for `seen`.

    Raises InputError where the units were described by other pictures, of which no one says what they show.
    """
    if not params.get("data", "").startswith(SCENES):
        raise InputError(
            f"what pictures of {params.get('data', 'unknown data')} show is not known; give others by "
            "--data folder:PICTURES, for a dual encoder to estimate what they show"
        )
    scenes = Scenes((), seed)
    return units_on(scenes if seen is None else seen(scenes), cases, params, seed)


def units_on(image_set: ImageSet, cases: Sequence[UnitCase], params: Mapping[str, str], seed: int) -> ScoredUnits:
    """A version's own units on any pictures."""
    places = [(case.layer, case.unit) for case in cases]
    network = Network(partial(_own_network, dict(params)), range(len(cases)), places, params.get("channels"))
    return ScoredUnits(len(cases), [network], image_set, seed)


def _own_network(params: Mapping[str, str]) -> Any:
    """The network of a version. Raises InputError where it cannot be had, or has other weights now."""
    from conceptry.models.milan.exemplars.checkpoint import module_digest
    from conceptry.models.milan.network import lineage_of, prepared_network
    from conceptry.models.milan.package import preparation_of

    model = prepared_network(params["model"], "cpu", preparation_of(params, {}))
    theirs = params.get("explained_sha256")
    if theirs and theirs not in (lineage_of(model)["explained_sha256"], module_digest(model.module)):
        raise InputError(f"the version describes the units of other weights than those of {params['model']}")
    return model


def pooled_activations(
    network: Any, images: np.ndarray | ImageSource, places: Sequence[tuple[str, int]], channels: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and maximum over its map of each unit, float64 (n, U), on pictures uint8 (n, H, W, 3) or of a source.

    network: a torch module over pixels in [0, 1], or a `PixelModel`; places: layer and number of each unit.
    """
    from conceptry.models.explained.hooks import evaluation_mode
    from conceptry.models.milan.exemplars.activations import record_activations
    from conceptry.models.milan.exemplars.inputs import Feed

    layers = list(dict.fromkeys(layer for layer, _ in places))
    columns = {layer: [k for k, place in enumerate(places) if place[0] == layer] for layer in layers}
    numbers = {layer: [places[k][1] for k in columns[layer]] for layer in layers}
    source = source_of(images)
    feed = Feed(network, source, "network", None, None, None)
    means, maxima = (np.empty((len(source), len(places))) for _ in range(2))
    with evaluation_mode(feed.module), record_activations(feed.module, layers, channels=channels) as recorder:
        for rows, batch in feed.batches(np.arange(len(source)), feed.batch_size(None)):
            recorder.run(partial(feed.run, batch))
            for layer in layers:
                maps = recorder.take(layer, len(rows))[:, numbers[layer]].flatten(2).double()
                means[rows[:, None], columns[layer]] = maps.mean(dim=2).cpu().numpy()
                maxima[rows[:, None], columns[layer]] = maps.amax(dim=2).cpu().numpy()
    return means, maxima


def redrawn(network: Any, seed: int) -> Any | None:
    """A copy of a network whose parameters are drawn anew, see `redraw`; None for a network without parameters."""
    from conceptry.models.explained.hooks import module_of, redraw

    copied = deepcopy(network)
    return copied if redraw([module_of(copied), getattr(copied, "trunk", None)], 1.0, seed) else None
