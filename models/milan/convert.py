"""Released describers, `milan-KEY.pth`, to a folder of safetensors, JSON and text.

Such a file is a nested mapping {properties, children, state_dict}. Its weights go to the parts of a describer so:

| in the file | here |
|---|---|
| init_h.0, init_c.0 | decoder: initial_hidden, initial_cell |
| attend.query_to_hidden, attend.key_to_hidden, attend.output.0 | decoder: query, key, attention |
| feature_gate.0, embedding, lstm, output.1 | decoder: feature_gate, embedding, lstm, output |
| lm.embedding, lm.lstm, lm.output.0 | language model: embedding, lstm, output |
| encoder.encoder.model.* | the trunk of the feature encoder |
| properties.indexer.properties.vocab.properties.tokens | the words |

Tokens are numbered alike: words, then start, stop, pad, unk. The pickled tokenizer is left out; see `vocabulary`.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from conceptry.models.artifacts import sha256_file
from conceptry.models.errors import InputError
from conceptry.models.explained.checkpoint import fill
from conceptry.models.folders import check_new, new_folder
from conceptry.models.milan.decoder import Decoder
from conceptry.models.milan.describer import Describer
from conceptry.models.milan.feature_encoders import load_feature_encoder
from conceptry.models.milan.features import FeatureEncoder
from conceptry.models.milan.language_model import LAYERS, LanguageModel
from conceptry.models.milan.released_file import read_released
from conceptry.models.milan.vocabulary import SPECIALS, Vocabulary

_DECODER = {
    "init_h.0": "initial_hidden",
    "init_c.0": "initial_cell",
    "embedding": "embedding",
    "attend.query_to_hidden": "query",
    "attend.key_to_hidden": "key",
    "attend.output.0": "attention",
    "feature_gate.0": "feature_gate",
    "lstm": "lstm",
    "output.1": "output",
}
_LANGUAGE_MODEL = {"lm.embedding": "embedding", "lm.lstm": "lstm", "lm.output.0": "output"}
_TRUNK = "encoder.encoder.model."
_WORDS = ("indexer", "vocab", "tokens")


@dataclass(frozen=True)
class Conversion:
    """describer: what was written. foreign: names of other libraries in the file, whose objects were left out."""

    describer: Describer
    foreign: tuple[str, ...]


def convert_describer(path: str | Path, directory: str | Path, encoder: str | None = None) -> Conversion:
    """Write the describer in the released file `path` to the new folder `directory`.

    encoder: a feature encoder to use instead of the file's own, as torchvision:resnet101@FILE. No code in the file
    runs. Raises InputError where the folder exists, where the file is of another layout, and where parts do not fit.
    """
    path, directory = Path(path), Path(directory)
    check_new(directory)
    released = read_released(path)
    content = released.content
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not isinstance(content.get("properties"), Mapping):
        raise InputError(f"{path}: is no released describer; expected a mapping with properties and state_dict")
    state = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    vocabulary = _vocabulary(content, path)
    decoder, language_model = _decoder(state, vocabulary, path), _language_model(state, vocabulary, path)
    features = load_feature_encoder(encoder, "cpu") if encoder else _encoder(content, state, path)
    if decoder.n_features != features.n_features:
        raise InputError(
            f"{path}: its decoder reads {decoder.n_features:,} features, but {features.name} gives "
            f"{features.n_features:,}"
        )
    provenance = {"converted_from": path.name, "sha256": sha256_file(path), "left_out": list(released.foreign)}
    describer = Describer(features, decoder, language_model, vocabulary, provenance=provenance)
    with new_folder(directory) as partial:
        describer.save(partial)
    return Conversion(describer, released.foreign)


def _property(content: Any, *names: str) -> Any:
    """What lies under properties.NAME.properties.NAME..., None where it is not there."""
    for name in names:
        content = content.get("properties") if isinstance(content, Mapping) else None
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _vocabulary(content: Any, path: Path) -> Vocabulary:
    words = _property(content, *_WORDS)
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{path}: holds no words; expected texts at properties.{'.properties.'.join(_WORDS)}")
    others = _property(content, "lm", *_WORDS)
    if others is not None and tuple(others) != tuple(words):
        raise InputError(f"{path}: the words of its language model are not those of its decoder")
    try:
        return Vocabulary([*words])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _encoder(content: Any, state: Mapping[str, Tensor], path: Path) -> FeatureEncoder:
    architecture = _property(content, "encoder", "config")
    trunk = {key.removeprefix(_TRUNK): value.clone() for key, value in state.items() if key.startswith(_TRUNK)}
    if not isinstance(architecture, str) or not re.fullmatch(r"\w+", architecture) or not trunk:
        raise InputError(
            f"{path}: does not hold its feature encoder with the name of the architecture; name one by --encoder, "
            "as torchvision:resnet101@FILE"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{path.stem}.safetensors"
        save_file(trunk, str(file))
        try:
            found = load_feature_encoder(f"torchvision:{architecture}@{file}", "cpu")
        except InputError as error:
            raise InputError(f"{path}: its feature encoder: {str(error).replace(str(file), file.name)}") from None
    found.name = found.config["name"] = f"torchvision:{architecture}@{file.name}"
    return found


def _decoder(state: Mapping[str, Tensor], vocabulary: Vocabulary, path: Path) -> Decoder:
    own = _renamed(state, _DECODER)
    (n_tokens, embedding), (hidden, n_features), (attention, _) = (
        _shape(own, name, path) for name in ("embedding.weight", "initial_hidden.weight", "query.weight")
    )
    _check_words(n_tokens, vocabulary, "decoder", path)
    decoder = Decoder(n_tokens, n_features, hidden, embedding, attention)
    fill(decoder, own, f"{path}, decoder")
    return decoder.eval()


def _language_model(state: Mapping[str, Tensor], vocabulary: Vocabulary, path: Path) -> LanguageModel:
    own = _renamed(state, _LANGUAGE_MODEL)
    if not own:
        raise InputError(f"{path}: holds no language model, without which nothing is ranked by mutual information")
    (n_tokens, embedding), (_, hidden) = (_shape(own, name, path) for name in ("embedding.weight", "lstm.weight_hh_l0"))
    _check_words(n_tokens, vocabulary, "language model", path)
    if deeper := [key for key in own if key.endswith(f"_l{LAYERS}")]:
        raise InputError(f"{path}: its language model has more than {LAYERS} layers, as {deeper[0]} says")
    model = LanguageModel(n_tokens, hidden, embedding)
    fill(model, own, f"{path}, language model")
    return model.eval()


def _check_words(n_tokens: int, vocabulary: Vocabulary, part: str, path: Path) -> None:
    if n_tokens != len(vocabulary):
        raise InputError(
            f"{path}: its {part} knows {n_tokens:,} tokens; expected {len(vocabulary):,}, "
            f"its words and {len(SPECIALS)} specials"
        )


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors NAME.PARAMETER under the names that they have here; others are left out."""
    pairs = ((key.rpartition("."), value) for key, value in state.items())
    return {f"{names[name]}.{parameter}": value.float() for (name, _, parameter), value in pairs if name in names}


def _shape(own: Mapping[str, Tensor], name: str, path: Path) -> tuple[int, int]:
    found = own.get(name)
    if found is None or found.ndim != 2:
        got = "nothing" if found is None else f"shape {tuple(found.shape)}"
        raise InputError(f"{path}: is no released describer: expected a matrix for {name}, got {got}")
    return found.shape[0], found.shape[1]
