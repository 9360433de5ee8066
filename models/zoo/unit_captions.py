"""What people would write about a unit of the emoji world: short captions that say which properties it responds to.

A property is a word of the emoji vocabulary: an object, a background colour or a background pattern. The kind of a
unit says how its properties go together.

| kind | properties | a caption |
|---|---|---|
| object, colour, pattern | one | dogs; red backgrounds; the colour red |
| object+colour, object+pattern | an object on a ground | dogs on red backgrounds |
| colour+pattern | a ground | red striped backgrounds |
| objects, colours | one or the other | dogs and cats; red or blue backgrounds |
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from conceptry.models.zoo.emoji import OBJECTS, UNCOUNTED, VOCABULARY, check_object

_TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "object": ("{plural}", "pictures of {plural}", "{plural} of any kind"),
        "colour": ("{0} backgrounds", "the colour {0}", "{0} areas"),
        "pattern": ("{0} backgrounds", "{0} patterns", "{0} areas"),
        "object+ground": (
            "{plural} on {1} backgrounds",
            "{plural} in front of {1} backgrounds",
            "{plural} with {1} backgrounds",
        ),
        "colour+pattern": ("{both} backgrounds", "{both} areas", "{both} patterns"),
        "objects": ("{plural} and {plural1}", "{plural} or {plural1}", "pictures of {plural} and {plural1}"),
        "colours": ("{0} and {1} backgrounds", "{0} or {1} backgrounds", "the colours {0} and {1}"),
    }
)
_IRREGULAR = {"cactus": "cacti", "fish": "fish", "leaf": "leaves", "snowman": "snowmen"}
_SYNONYMS = {
    "grey": "gray",
    "dots": "dotted",
    "spotted": "dotted",
    "stripes": "striped",
    "stripy": "striped",
    "checkered": "checked",
    "chequered": "checked",
    "checks": "checked",
    "checkerboard": "checked",
}


def plural(name: str) -> str:
    """The plural of an object's word: `dogs`, `leaves`, `scissors`. Raises InputError for a word of no object."""
    check_object(name)
    if name in UNCOUNTED:
        return name
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


def _forms() -> dict[str, str]:
    forms = dict(_SYNONYMS)
    for word in VOCABULARY:
        forms[word] = word
        if word in OBJECTS:
            forms[plural(word)] = word
    return forms


WORD_FORMS: Mapping[str, str] = MappingProxyType(_forms())  # a word as written -> the property it names


def unit_captions(rng: np.random.Generator, kind: str, properties: Sequence[str], count: int = 3) -> tuple[str, ...]:
    """`count` captions of a unit; templates and the order of equals are drawn from `rng`.

    properties: one or two words in the order of the kind's name, as ("dog", "red") for "object+colour".
    """
    ground = kind in ("object+colour", "object+pattern")
    templates = _TEMPLATES["object+ground" if ground else kind]
    chosen = rng.permutation(len(templates))[:count]
    return tuple(_write(rng, templates[i], kind, properties) for i in chosen)


def _write(rng: np.random.Generator, template: str, kind: str, properties: Sequence[str]) -> str:
    words = list(properties)
    if kind in ("objects", "colours") and rng.random() < 0.5:
        words = words[::-1]
    values = {f"plural{i or ''}": plural(word) for i, word in enumerate(words) if word in OBJECTS}
    if kind == "colour+pattern":
        colour_first = rng.random() < 0.5 and words[1] != "plain"  # "plain white", never "white plain"
        values["both"] = " ".join(words if colour_first else words[::-1])
    return template.format(*words, **values)
