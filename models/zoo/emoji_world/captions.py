"""Plain English for scenes: captions that say exactly what is true, and short prompts around one word.

`known_texts` holds every word the emoji encoder is trained to read; a text with another word is refused.
"""

from collections.abc import Sequence

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.zoo.emoji_world.emoji import OBJECTS, VOCABULARY, with_article

_CAPTIONS = (
    "{objects} on {a_ground} background",
    "{objects} in front of {a_ground} background",
    "{objects} with {a_ground} background",
    "{objects}, {ground} background",
    "a picture of {objects} on {a_ground} background",
    "a photo of {objects} on {a_ground} background",
    "{a_ground} background with {objects}",
)
_OBJECT_PROMPTS = (
    "{a}",
    "the {name}",
    "a photo of {a}",
    "a photo of the {name}",
    "a picture of {a}",
    "an image of {a}",
    "an emoji of {a}",
    "this is {a}",
    "there is {a} in the picture",
)
_GROUND_PROMPTS = (
    "{a} background",
    "{name} background",
    "a photo of {a} background",
    "a picture with {a} background",
    "the background is {name}",
    "this is {a} background",
)


def caption(rng: np.random.Generator, objects: Sequence[str], colour: str, pattern: str) -> str:
    """One caption, its template and the order of its objects drawn from `rng`."""
    order = list(objects) if rng.random() < 0.5 else list(objects)[::-1]
    colour_first = rng.random() < 0.5 and pattern != "plain"  # "plain white", never "white plain"
    ground = f"{colour} {pattern}" if colour_first else f"{pattern} {colour}"
    nouns = " and ".join(with_article(name) for name in order)
    template = _CAPTIONS[rng.integers(len(_CAPTIONS))]
    text = template.format(objects=nouns, ground=ground, a_ground=_with_article(ground))
    return text + "." if rng.random() < 0.25 else text


def prompts(word: str) -> list[str]:
    """Short texts about one word of the vocabulary: the word itself and what a zero-shot prompt would say.

    Raises InputError for a word of no vocabulary.
    """
    if word in OBJECTS:
        texts = [t.format(a=with_article(word), name=word) for t in _OBJECT_PROMPTS]
    elif word in VOCABULARY:
        texts = [t.format(a=_with_article(word), name=word) for t in _GROUND_PROMPTS]
    else:
        raise InputError(f"word must be of the emoji vocabulary, got {word!r}; valid: {', '.join(VOCABULARY)}")
    return [word, *texts, *(f"{text}." for text in texts)]


def known_texts(words: Sequence[str] = VOCABULARY) -> list[str]:
    """Texts that together hold every word of training on `words`: their prompts and the caption templates."""
    captions = [t.format(objects="a and an", ground="", a_ground="a") for t in _CAPTIONS]
    return [*captions, *(text for word in words for text in prompts(word))]


def _with_article(adjectives: str) -> str:
    return f"an {adjectives}" if adjectives[0] in "aeiou" else f"a {adjectives}"
