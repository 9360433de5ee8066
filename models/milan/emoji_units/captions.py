"""What people would write about a unit of the emoji world: short captions that say which properties it responds to.

Where people have several ways to say the same, most of them take the plainest: two of three captions of a combination
are alike. A property is a word of the emoji vocabulary: an object, a background colour or a background pattern. The
kind of a unit says how its properties go together.

| kind | properties | a caption |
|---|---|---|
| object, colour, pattern | one | dogs; red backgrounds; the colour red |
| object+colour, object+pattern | an object on a ground | dogs on red backgrounds |
| colour+pattern | a ground | striped red backgrounds |
| objects, colours | one or the other | dogs and cats; red or blue backgrounds |
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from conceptry.models.zoo.emoji_world.emoji import OBJECTS, UNCOUNTED, VOCABULARY, check_object

_TEMPLATES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "object": ("{plural}", "pictures of {plural}", "{plural} of any kind"),
        "colour": ("{0} backgrounds", "the colour {0}", "{0} areas"),
        "pattern": ("{0} backgrounds", "{0} patterns", "{0} areas"),
        "object+ground": (
            "{plural} on {1} backgrounds",
            "{plural} on {1} backgrounds",
            "{plural} with {1} backgrounds",
        ),
        "colour+pattern": ("{1} {0} backgrounds", "{1} {0} backgrounds", "{1} {0} areas"),
        "objects": ("{plural} and {plural1}", "{plural} and {plural1}", "{plural} or {plural1}"),
        "colours": ("{0} and {1} backgrounds", "{0} and {1} backgrounds", "{0} or {1} backgrounds"),
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


def unit_captions(kind: str, properties: Sequence[str]) -> tuple[str, str, str]:
    """Three captions of a unit.

    properties: one or two words in the order of the kind's name, as ("dog", "red") for "object+colour"; of equals the
    first of the alphabet is said first.
    """
    words = sorted(properties) if kind in ("objects", "colours") else list(properties)
    named = {f"plural{i or ''}": plural(word) for i, word in enumerate(words) if word in OBJECTS}
    ground = kind in ("object+colour", "object+pattern")
    first, second, third = (text.format(*words, **named) for text in _TEMPLATES["object+ground" if ground else kind])
    return first, second, third
