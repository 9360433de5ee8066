"""Activations of units on pictures that chose nothing, and which of these pictures show what a description says.

| symbol | meaning | shape |
|---|---|---|
| scored | held-out scenes by a seed of their own: no exemplar is among them, and no training picture | (n,) |
| a | activations of the units on the scored pictures, maps pooled by their mean, or by their maximum | (n, U) |
| P(text) | properties that a description names, see `text_scores.properties` | |
| c | whether a picture has the concept of a description | (n, D) |
| rendered | scenes drawn to have the concept, for CoSy; its controls are the scored pictures without | (k,) |

What a scene shows is known, so c is known. The captions of this world join words of a kind as alternatives ("dogs and
cats", "red or blue backgrounds": one or the other), and words of several kinds as a combination ("dogs on red
backgrounds"). So a picture has the concept iff, of each kind of property that the description names (objects, colours
and patterns of backgrounds), it shows one that is named. A description that names nothing is shown nowhere: c = 0.

| units | network | activations |
|---|---|---|
| planted, colour arithmetic | known to the harness | yes |
| a version's own, described by scenes | loaded again by its name, if its weights are those registered | yes |
| annotated | made up by hand | none |
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from conceptry.evaluation.milan.client import COLOURS, PLANTED, UnitCase
from conceptry.evaluation.milan.text_scores import properties
from conceptry.models.errors import InputError
from conceptry.models.zoo.emoji_world.emoji import COLOURS as COLOUR_WORDS
from conceptry.models.zoo.emoji_world.emoji import OBJECTS, PATTERNS, VOCABULARY, background

SCORED, RENDERED = 2048, 10
_SEED = 10_000  # beyond the seeds that exemplars are drawn by
_KINDS = (tuple(OBJECTS), tuple(COLOUR_WORDS), PATTERNS)
SCENES = "zoo:emoji-scenes"  # data whose pictures are scenes, by the start of their name


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

    count: number of units, those without activations too; networks: those that have some; chosen: pictures that
    chose something, uint8 (3, H, W), which are not scored; seed: of pictures and of random networks.
    """

    count: int
    networks: Sequence[Network]
    chosen: Sequence[np.ndarray] = field(repr=False)
    seed: int = 0
    size: int = SCORED

    @cached_property
    def _scored(self) -> tuple[np.ndarray, np.ndarray]:
        """The scored pictures, uint8 (n, 64, 64, 3), and which words of the vocabulary each shows, bool (n, V)."""
        from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

        scenes = EmojiScenes("heldout", self.size, self.seed + _SEED)
        chosen = {np.ascontiguousarray(image).tobytes() for image in self.chosen}
        drawn = [scenes[i] for i in range(self.size)]
        kept = [scene for scene in drawn if scene.image.transpose(2, 0, 1).tobytes() not in chosen]
        shown = np.array([[word in scene.concepts for word in VOCABULARY] for scene in kept])
        return np.stack([scene.image for scene in kept]), shown

    @property
    def images(self) -> np.ndarray:
        """The scored pictures, uint8 (n, 64, 64, 3)."""
        return self._scored[0]

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

    def presence(self, texts: Sequence[str]) -> np.ndarray:
        """c of descriptions, float64 (n, D), 0 or 1."""
        shown = self._scored[1]
        found = np.zeros((len(shown), len(texts)))
        for column, kinds in zip(found.T, map(_named, texts), strict=True):
            if kinds:
                has = [shown[:, [VOCABULARY.index(word) for word in words]].any(axis=1) for words in kinds]
                column[:] = np.logical_and.reduce(has)
        return found

    def rendered(self, texts: Sequence[str]) -> list[np.ndarray | None]:
        """Activations (k,), by the mean, of each unit on scenes drawn for its description, one of `texts` (U).

        None for a unit without activations, and for a description that names nothing.
        """
        concepts = [frozenset(properties(text)) for text in texts]
        found: list[np.ndarray | None] = [None] * self.count
        for number, network in enumerate(self.networks):
            known = self._rendered.setdefault(number, {})
            new = sorted({concepts[row] for row in network.rows} - known.keys() - {frozenset()}, key=sorted)
            if new:
                scenes = np.stack([image for concept in new for image in render(concept, RENDERED, self.seed)])
                means, _ = pooled_activations(self._loaded[number], scenes, network.places, network.channels)
                known.update(zip(new, np.split(means, len(new)), strict=True))
            for column, row in enumerate(network.rows):
                if concepts[row]:
                    found[row] = known[concepts[row]][:, column]
        return found

    @cached_property
    def _rendered(self) -> dict[int, dict[frozenset[str], np.ndarray]]:
        """Activations (k, units) of a network on scenes drawn for a concept."""
        return {}

    @cached_property
    def _loaded(self) -> list[Any]:
        return [network.load() for network in self.networks]

    def _activations(self, change: Callable[[Any], Any | None]) -> Activations:
        images = self.images
        found = Activations(*(np.full((len(images), self.count), np.nan) for _ in range(2)))
        for network, loaded in zip(self.networks, self._loaded, strict=True):
            changed = change(loaded)
            if changed is not None:
                means, maxima = pooled_activations(changed, images, network.places, network.channels)
                found.mean[:, list(network.rows)], found.maximum[:, list(network.rows)] = means, maxima
        return found


def emoji_units(cases: Sequence[UnitCase], controls: Sequence[UnitCase], seed: int) -> ScoredUnits:
    """The planted units and those of colour arithmetic among `cases`."""
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
    return ScoredUnits(len(cases), [network for network in networks if network.rows], chosen, seed)


def own_units(cases: Sequence[UnitCase], params: Mapping[str, str], seed: int) -> ScoredUnits:
    """A version's own units, of a network that looks at scenes; see `data.known_of` for `params`.

    Raises InputError where there is no telling what the pictures that the units were described by show.
    """
    if not params.get("data", "").startswith(SCENES):
        raise InputError(
            f"what pictures of {params.get('data', 'unknown data')} show is not known; expected a version whose "
            f"exemplars are of {SCENES}"
        )
    places = [(case.layer, case.unit) for case in cases]
    network = Network(partial(_own_network, dict(params)), range(len(cases)), places, params.get("channels"))
    return ScoredUnits(len(cases), [network], (), seed)


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
    network: Any, images: np.ndarray, places: Sequence[tuple[str, int]], channels: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and maximum over its map of each unit, float64 (n, U), on pictures uint8 (n, H, W, 3).

    network: a torch module over pixels in [0, 1], or a `PixelModel`; places: layer and number of each unit.
    """
    from conceptry.models.explained.hooks import evaluation_mode
    from conceptry.models.milan.exemplars.activations import record_activations
    from conceptry.models.milan.exemplars.inputs import Feed
    from conceptry.models.milan.exemplars.sources import ArraySource

    layers = list(dict.fromkeys(layer for layer, _ in places))
    columns = {layer: [k for k, place in enumerate(places) if place[0] == layer] for layer in layers}
    numbers = {layer: [places[k][1] for k in columns[layer]] for layer in layers}
    feed = Feed(network, ArraySource("scored pictures", images), "network", None, None, None)
    means, maxima = (np.empty((len(images), len(places))) for _ in range(2))
    with evaluation_mode(feed.module), record_activations(feed.module, layers, channels=channels) as recorder:
        for rows, batch in feed.batches(np.arange(len(images)), feed.batch_size(None)):
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


def render(concept: frozenset[str], count: int, seed: int) -> list[np.ndarray]:
    """Scenes uint8 (64, 64, 3) that have a concept: of each kind of property one that it names, else any.

    Scenes of one object and of two are equally likely, as in the emoji world; pairs and combinations that splits hold
    out are not left out.
    """
    from conceptry.models.zoo.emoji_world.scenes import place

    key = int.from_bytes(hashlib.sha256(" ".join(sorted(concept)).encode()).digest()[:8], "big")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 43, key]))
    found = []
    for _ in range(count):
        name, colour, pattern = (
            words[rng.integers(len(words))]
            for words in ([word for word in kind if word in concept] or kind for kind in _KINDS)
        )
        objects = [name]
        if rng.integers(2):
            others = [other for other in OBJECTS if other != name]
            objects.append(others[rng.integers(len(others))])
        image = background(colour, pattern, int(rng.integers(1 << 16)))
        place(rng, tuple(objects[k] for k in rng.permutation(len(objects))), image)
        found.append(image)
    return found


def _named(text: str) -> list[list[str]]:
    """The properties that a description names, those of a kind together; [] where it names none."""
    named = properties(text)
    kinds = ([word for word in kind if word in named] for kind in _KINDS)
    return [words for words in kinds if words]
