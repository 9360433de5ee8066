"""TextUnlock: the features of an image classifier, mapped into a space of texts; learnt from images without labels.

"Unlocking Text Capabilities in Vision Models", 2025, arXiv:2503.10981.

| symbol | meaning | shape |
|---|---|---|
| h | features of an image: what the classifier computes without its last layer | (D,) |
| W, V, b, c | the map, a perceptron of one hidden layer | (m, D), (d, m), (m,), (d,) |
| f(image) | normalise(V gelu(W h + b) + c) | (d,) |
| s_c | vector of class c, see `conse` | (d,) |

The map is learnt so that the classes nearest to f are those that the classifier finds (`conceptry.models.training.
text_unlock`). Texts are those of `conse`, and so is the folder: its `conse.json` says which layer is left out, and how
far the map agreed with the classifier, and `conse.safetensors` holds the map. Read as `conse:FOLDER`, the same
classifier is explained without it.
"""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from conceptry.models.encoders.conse import CONFIG, MAP, ConseEncoder, ConseNetworks, is_conse, read_parts
from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import forward_hooks
from conceptry.models.explained.image_inputs import TorchImages, example_images
from conceptry.models.explained.tables import reason_of
from conceptry.models.manifest import read_json

PREFIX = f"{MAP}."


class AgreementWarning(UserWarning):
    """A map agrees with its classifier less than what needs none."""


class TextUnlockNetworks(ConseNetworks):
    """Both towers. visual: pixels (n, 3, height, width) to what is normalised to f."""

    def __init__(self, module: nn.Module, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        layers = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
        hidden, inputs = layers["0.weight"].shape
        map_ = perceptron(inputs, hidden, len(layers["2.weight"]))
        map_.load_state_dict(layers)
        super().__init__(nn.Sequential(without_layer(module, config[MAP]["head"]), map_), tensors, config["k"])

    def encode_image(self, pixels: Tensor) -> Tensor:
        return normalize(self.visual(pixels), dim=1)

    def own_tensors(self) -> dict[str, Tensor]:
        assert isinstance(self.visual, nn.Sequential)
        return super().own_tensors() | {f"{PREFIX}{n}": tensor for n, tensor in self.visual[1].state_dict().items()}


class TextUnlockEncoder(ConseEncoder):
    """A classifier, a map of its features and token vectors as a `PackagedEncoder`."""

    @staticmethod
    def networks(module: nn.Module, tensors: dict[str, Tensor], config: dict[str, Any]) -> ConseNetworks:
        return TextUnlockNetworks(module, tensors, config)


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The form of the map, with weights drawn by torch's generator, which is left as it is."""
    with torch.random.fork_rng(devices=[]):
        return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def has_map(directory: Path) -> bool:
    """Whether a folder holds an encoder of this kind."""
    return is_conse(directory) and MAP in read_json(directory / CONFIG)


def read_text_unlock(directory: Path, name: str, device: torch.device) -> TextUnlockEncoder:
    """The encoder in a folder, of a version or of a training."""
    classifier, texts, config, tensors = read_parts(directory, name, device)
    return TextUnlockEncoder(name, classifier, texts, config, tensors)


def load_text_unlock(directory: Path, name: str, device: torch.device) -> TextUnlockEncoder:
    """The encoder that a user names. Raises InputError for another folder.

    An AgreementWarning says where ConSE, or the classifier's commonest class alone, agrees with the classifier in more
    of the images held out of the training.
    """
    if not has_map(directory):
        raise InputError(
            f"{directory}: holds no map of a classifier's features; expected a folder that "
            "`conceptry train photos --images FOLDER` wrote"
        )
    encoder = read_text_unlock(directory, name, device)
    if said := shortfall(encoder.config[MAP], directory):
        warnings.warn(said, AgreementWarning, stacklevel=3)
    return encoder


def shortfall(known: dict[str, Any], directory: Path) -> str:
    """The sentence on a map that agrees with the classifier less than ConSE or a constant; empty where it does not.

    known: `agreement`, `agreement_conse` and `agreement_constant`, shares of `held_out` images.
    """
    map_, conse, constant = (known[name] for name in ("agreement", "agreement_conse", "agreement_constant"))
    said = (
        f"textunlock:{directory} names the class that the classifier finds in {map_:.3f} of {known['held_out']} "
        "held-out images, and "
    )
    if map_ < max(conse, constant) and conse < constant:
        return (
            f"{said}the class that it finds most often, named always, would be right in {constant:.3f}: its words say "
            "little of an image; train on more images, of all that the classifier tells apart"
        )
    if map_ < conse:
        return (
            f"{said}ConSE, which needs no map, in {conse:.3f}: use conse:{directory} with the vocabulary photos and "
            "the penalty .45, or train on more images"
        )
    return ""


def find_head(model: TorchImages) -> str:
    """The name of the layer that scores the classes: the last one that runs and has an output for each of them.

    Raises InputError where there is none, and for a network that does not give one row of features without it.
    """
    size, n = model.size or (224, 224), model.description.n_outputs
    if n < 2:
        raise InputError(
            f"{model.name}: has {n} output; expected a classifier with one for each of two or more classes"
        )
    parts = {name: part for name, part in model.module.named_modules() if _outputs(part) == n}
    ran: list[str] = []
    images = example_images(*size)
    with forward_hooks(model.module, parts, lambda name, _inputs, _output: ran.append(name)):
        model(images)
    if not ran:
        raise InputError(
            f"{model.name}: has no linear or convolutional layer with its {n} classes as outputs, before which its "
            "features could be read; expected a network that ends in one"
        )
    try:
        with torch.no_grad():
            pixels = model.to_pixels(images)
            features = without_layer(model.module, ran[-1])(pixels)
    except Exception as error:  # whatever a network says to a layer that is missing
        raise InputError(f"{model.name}: does not run without its last layer, {ran[-1]}: {reason_of(error)}") from None
    if not isinstance(features, Tensor) or features.ndim != 2:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"{model.name}: expected one row of features an image before {ran[-1]}, got {got}")
    return ran[-1]


def without_layer(module: nn.Module, name: str) -> nn.Module:
    """The network with its layer `name` left out; parameters are shared with `module`, which stays as it is."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    other = copy.deepcopy(module, shared)
    other.set_submodule(name, nn.Identity())
    return other


def _outputs(part: nn.Module) -> int:
    if isinstance(part, nn.Linear):
        return part.out_features
    return part.out_channels if isinstance(part, nn.Conv2d) else 0
