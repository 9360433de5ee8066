"""Torchvision's image classifiers: with published weights, or with those of a file.

Published weights are downloaded by torchvision because the user named them. A file says nothing of its preprocessing:
where it is one that torchvision publishes, by its digest, that of those weights is taken; where it is a robust
network of the Madry lab's format, its own normalisation after a shorter side of 256 and a crop of 224; else that of
the architecture's first published weights, the recipe that most trainings of one's own repeat, and a note says so.
"""

from pathlib import Path
from typing import Any

import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.checkpoints import Checkpoint, Undrawn, fill, is_file_name, read_checkpoint
from conceptry.models.explained.image_inputs import TorchImages
from conceptry.models.explained.loaders.vision import Network, build, described, unknown
from conceptry.models.explained.preprocessing import ASSUMED, Preprocessing, of_torchvision
from conceptry.models.manifest import sha256_file

_KIND = "torchvision"
# Published with a normalisation of their own besides, and with auxiliary heads, which are silent at evaluation.
_AUXILIARY = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}
_ROBUST = 256, 224  # shorter side and crop of the Madry lab's ImageNet networks


def load_torchvision(rest: str, device: torch.device, outputs: str) -> TorchImages:
    """`NAME[@WEIGHTS]`, the default weights where none are named, or `NAME@FILE`; see `load_explained`."""
    import torchvision.models
    from torchvision.models import list_models

    architecture, _, tag = rest.partition("@")
    if architecture not in list_models(module=torchvision.models):
        raise unknown("torchvision has no image classifier", architecture, list_models(torchvision.models))
    published = torchvision.models.get_model_weights(architecture)
    if tag and tag not in published.__members__:
        if is_file_name(tag):
            return _from_file(architecture, published, Path(tag), device, outputs)
        raise unknown(f"torchvision's {architecture} has no weights", tag, list(published.__members__))
    weights = published[tag] if tag else published["DEFAULT"]
    name = f"torchvision:{architecture}@{weights.name}"
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise InputError(
            f"{name}: its weights are not in the cache and cannot be downloaded from {weights.url} "
            f"({getattr(error, 'reason', error)})"
        ) from None
    network = _network(name, architecture, Checkpoint(state), published=True)
    preprocessing = of_torchvision(weights.transforms())
    return described(name, network, preprocessing, device, outputs, names=weights.meta["categories"])


def _from_file(architecture: str, published: Any, path: Path, device: torch.device, outputs: str) -> TorchImages:
    name = f"torchvision:{architecture}@{path}"
    checkpoint = read_checkpoint(path, _shapes(architecture))
    digest = sha256_file(path)
    # Torchvision ends the names of its files by the first digits of their SHA-256.
    known = next((w for w in published if digest.startswith(w.url.rpartition("-")[2].partition(".")[0])), None)
    usual = known or next(iter(published))
    preprocessing, notes = of_torchvision(usual.transforms()), ()
    if checkpoint.mean:
        short, crop = _ROBUST
        preprocessing = Preprocessing((short,), (crop, crop), checkpoint.mean, checkpoint.std)
    elif known is None:
        notes = (f"{ASSUMED}: that of torchvision:{architecture}@{usual.name} is taken ({preprocessing})",)
    network = _network(name, architecture, checkpoint, published=known is not None)
    categories = known.meta["categories"] if known else ()
    return described(name, network, preprocessing, device, outputs, names=categories, sha256=digest, notes=notes)


def _network(name: str, architecture: str, checkpoint: Checkpoint, published: bool) -> Network:
    state = checkpoint.state
    # The classifier is what every architecture defines last.
    head = [key for key, shape in _shapes(architecture).items() if len(shape) > 1 and shape[0] == 1000][-1]
    num_classes = len(state[head]) if head in state else 1000
    auxiliary = any(key.startswith(_AUXILIARY.get(architecture, "\0")) for key in state)
    options = _options(architecture, auxiliary, published)
    with Undrawn():
        module = build(_KIND, architecture, num_classes, options)
    fill(module, state, name)
    return Network(module, _KIND, architecture, num_classes, options)


def _shapes(architecture: str) -> dict[str, torch.Size]:
    """The names and shapes of the state for 1,000 classes, without auxiliary heads."""
    options = _options(architecture, False, False)
    try:
        with torch.device("meta"):  # no weights are drawn
            module = build(_KIND, architecture, 1000, options)
    except NotImplementedError:  # regnets compute their widths by tensors
        module = build(_KIND, architecture, 1000, options)
    return {key: tensor.shape for key, tensor in module.state_dict().items()}


def _options(architecture: str, auxiliary: bool, published: bool) -> dict[str, Any]:
    if architecture not in _AUXILIARY:
        return {}
    return {"transform_input": published, "aux_logits": auxiliary, "init_weights": False}
