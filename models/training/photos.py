"""Build the encoder of photographs, `zoo:photos`, from packages alone: vectors of ImageNet's classes, and a vocabulary.

Nothing is learnt: the same packages give the same bytes. `conceptry.models.encoders.conse` has the formulas.

The vocabulary are the names of one word, in small letters, that ImageNet's 21,841 synsets of WordNet have, less
function words, the names of kinds of people, whom the classifier does not know, and names of animals that are read as
insults. The last is the most important: the one that occurs most often in the names and definitions of all these
synsets; of those that occur as often, the one that the tokeniser of the vectors has as fewer and earlier tokens.

The folder:

| file | content |
|---|---|
| conse.json | the classifier, k, its preprocessing, the calibration |
| conse.safetensors | s, float16 (1000, d), and mu, float32 (d,) |
| image_mean.safetensors | `image_mean`, float32 (d,): the mean of images, which is that of the vocabulary's texts |
| vocabulary.txt | the words, one a line, least important first |
| ATTRIBUTION.txt | whose words and vectors these are |
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conceptry.models.encoders.token_vectors import TokenVectors, package_file, read_wordllama
from conceptry.models.errors import InputError
from conceptry.models.explained.load import load_explained
from conceptry.models.manifest import write_json, write_lines

NAME, CLASSIFIER = "zoo:photos", "imagenet:efficientnet-lite0"
TIMM = "1.0.31"
_INFO = "timm/data/_info"
SYNSETS, NAMES, DEFINITIONS = (
    f"{_INFO}/{file}.txt" for file in ("imagenet_synsets", "imagenet_synset_to_lemma", "imagenet_synset_to_definition")
)
SHA256 = {
    SYNSETS: "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15",
    NAMES: "1b8babda187421a4bde0c9c5a197c36f6bdda962f7ca11ffb2813806cbb2178f",
    DEFINITIONS: "191e227d48fc8c7b7e2d2a3cac41fc8b2eb517d9d2819d0edbc91c5767250eed",
}
INSULTS = frozenset({"ass", "bitch", "cock", "coon", "faggot", "jewfish", "pussy", "tit"})
_PEOPLE = range(9_500_000, 10_800_000)  # offsets of WordNet 3.0's nouns of persons
_WORD = re.compile(r"(?<![\w'-])[a-z]{3,}(?![\w'-])")
# By the largest cosine of a photograph with a word: the share of photographs whose noun is among the first five words.
# Measured on 294 labelled cut-outs of Tux Paint's stamps, in fifths. Where four fifths of them calibrate the rest,
# quarters of mean .15, .29, .41 and .51 have .15, .26, .43 and .53.
CALIBRATION = {"cosine": [0.38, 0.46, 0.53, 0.61, 0.72], "share": [0.12, 0.25, 0.34, 0.46, 0.53]}
ATTRIBUTION = """\
The words in this folder are names of synsets of WordNet 3.0 (https://wordnet.princeton.edu), as the package timm 1.0.31
(https://pypi.org/project/timm/, Apache License 2.0, Ross Wightman) lists them for ImageNet. The vectors of classes are
means of token vectors of the package wordllama 0.4.0.post1 (https://pypi.org/project/wordllama/, MIT licence,
Copyright (c) 2024 Lee Miller) over names and definitions of these synsets. No image is part of this folder.

WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Permission to use, copy, modify and distribute
this software and database and its documentation for any purpose and without fee or royalty is hereby granted, provided
that you agree to comply with the following copyright notice and statements, including the disclaimer, and that the same
appear on ALL copies of the software, database and documentation, including modifications that you make for internal use
or for distribution. THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR
WARRANTIES, EXPRESS OR IMPLIED. BY WAY OF EXAMPLE, BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR
WARRANTIES OF MERCHANT- ABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE OF THE LICENSED SOFTWARE, DATABASE
OR DOCUMENTATION WILL NOT INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS OR OTHER RIGHTS. The name of
Princeton University or Princeton may not be used in advertising or publicity pertaining to distribution of the software
and/or database. Title to copyright in this software, database and any associated documentation shall at all times
remain with Princeton University and LICENSEE agrees to preserve same.
"""


@dataclass(frozen=True)
class PhotosTraining:
    """Settings. Raises InputError for values outside their bounds.

    k: classes that an image is a mixture of. definitions: whether classes are written with theirs, behind their names.
    """

    n_words: int = 5000
    k: int = 10
    definitions: bool = True

    def __post_init__(self) -> None:
        check_whole_numbers(self, ("n_words", 1, 10_000), ("k", 1, 1000))


def check_whole_numbers(settings: object, *limits: tuple[str, int, int]) -> None:
    """Raise InputError for the first setting of `limits`, a name with the least and the most, that is beyond them."""
    for name, least, most in limits:
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InputError(f"{name} must be a whole number from {least} to {most:,}, got {value!r}")


@dataclass(frozen=True)
class Synsets:
    """ImageNet's synsets. classes: the 1,000 in the order of classifiers; names, definitions: of all."""

    classes: tuple[str, ...]
    names: dict[str, str]
    definitions: dict[str, str]

    def text(self, synset: str, definitions: bool = True) -> str:
        """What a class is written as: all its names, and its definition."""
        return f"{self.names[synset]}: {self.definitions[synset]}" if definitions else self.names[synset]


def read_synsets() -> Synsets:
    """The synsets in the package timm. Raises InputError where another version is installed."""
    texts = {
        file: package_file("timm", file, digest, "conceptry train photos", TIMM).read_text(encoding="utf-8")
        for file, digest in SHA256.items()
    }
    names, definitions = (dict(_pair(line) for line in texts[file].splitlines()) for file in (NAMES, DEFINITIONS))
    return Synsets(tuple(texts[SYNSETS].split()), names, definitions)


def build_photos(settings: PhotosTraining, directory: Path) -> None:
    """Write the encoder's files into `directory`, which is made; see the table above.

    How often answers are right has been measured with the default settings, and is left out with others.
    """
    from safetensors.numpy import save

    synsets, texts = read_synsets(), read_wordllama(NAME)
    words = vocabulary(synsets, texts, settings.n_words)
    of_words = _unit(_means(texts, words))
    mu = of_words.mean(axis=0)
    written = [synsets.text(name, settings.definitions) for name in synsets.classes]
    of_classes = class_vectors(texts, written, mu)
    preparation = load_explained(CLASSIFIER, "cpu", outputs="logits").settings()["preprocessing"]  # type: ignore[attr-defined]  # a network over images
    directory.mkdir(parents=True, exist_ok=True)
    config = {"classifier": CLASSIFIER, "k": settings.k, "preprocessing": preparation}
    if settings == PhotosTraining():  # what it was measured with
        config["calibration"] = CALIBRATION
    write_json(directory / "conse.json", config)
    tensors = {"class_vectors": of_classes.astype(np.float16), "text_mean": mu.astype(np.float32)}
    (directory / "conse.safetensors").write_bytes(save(tensors))
    image_mean = _unit(of_words - mu).mean(axis=0).astype(np.float32)
    (directory / "image_mean.safetensors").write_bytes(save({"image_mean": image_mean}))
    write_lines(directory / "vocabulary.txt", words)
    (directory / "ATTRIBUTION.txt").write_text(ATTRIBUTION, encoding="utf-8")


def class_vectors(texts: TokenVectors, written: Sequence[str], mu: np.ndarray) -> np.ndarray:
    """s (classes, d), float64, of the texts that classes are written as."""
    return _unit(_unit(_means(texts, written)) - mu)


def vocabulary(synsets: Synsets, texts: TokenVectors, n_words: int) -> list[str]:
    """The words, least important first; see above."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    things = [synset for synset in synsets.names if int(synset[1:]) not in _PEOPLE]
    counts = Counter(
        word for s in things for text in (synsets.names[s], synsets.definitions[s]) for word in _WORD.findall(text)
    )
    names = {name.strip() for synset in things for name in synsets.names[synset].split(",")}
    known = sorted(n for n in names if _WORD.fullmatch(n) and n not in ENGLISH_STOP_WORDS and n not in INSULTS)
    tokens = dict(zip(known, texts.tokenizer(known).tolist(), strict=True))

    def importance(word: str) -> tuple:
        ids = [token for token in tokens[word] if token >= 0]
        return -counts[word], len(ids), max(ids), word

    return sorted(known, key=importance)[:n_words][::-1]


def _means(texts: TokenVectors, given: Sequence[str]) -> np.ndarray:
    """Mean token vectors (texts, d), float64."""
    vectors = texts.vectors.numpy().astype(np.float64)
    return np.stack([vectors[row[row >= 0]].mean(axis=0) for row in texts.tokenizer(given).numpy()])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _pair(line: str) -> tuple[str, str]:
    synset, _, text = line.partition("\t")
    return synset, text
