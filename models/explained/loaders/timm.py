"""timm's image classifiers, where timm is installed: with published weights, or with those of a file.

A file says nothing of its preprocessing: that of the architecture's default weights is taken, and a note says so, or,
where it is a robust network of the Madry lab's format, its own normalisation at that size.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.checkpoints import Undrawn, fill, read_checkpoint
from conceptry.models.explained.image_inputs import TorchImages
from conceptry.models.explained.loaders.vision import Network, build, described, unknown
from conceptry.models.explained.preprocessing import ASSUMED, of_timm
from conceptry.models.explained.tables import reason_of
from conceptry.models.manifest import sha256_file

_KIND = "timm"


def load_timm(rest: str, device: torch.device, outputs: str) -> TorchImages:
    """`NAME` with its pretrained weights, or `NAME@FILE`; see `load_explained`."""
    architecture, _, file = rest.partition("@")
    try:
        import timm
        from timm.data.config import resolve_model_data_config
    except ModuleNotFoundError:
        raise InputError(f"timm:{architecture} needs the package timm, which is not installed here") from None
    if not timm.is_model(architecture):
        raise unknown("timm has no model", architecture, timm.list_models())
    if file:
        return _from_file(architecture, Path(file), device, outputs)
    try:
        with torch.random.fork_rng(devices=[]):
            module: Any = timm.create_model(architecture, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"timm:{architecture}: its weights cannot be loaded or downloaded ({reason_of(error)})"
        ) from None
    preprocessing = of_timm(resolve_model_data_config(module))
    network = Network(module, _KIND, architecture, module.num_classes)
    return described(f"timm:{architecture}", network, preprocessing, device, outputs)


def _from_file(architecture: str, path: Path, device: torch.device, outputs: str) -> TorchImages:
    from timm.data.config import resolve_model_data_config

    name = f"timm:{architecture}@{path}"
    with Undrawn():
        module = build(_KIND, architecture, 1000, {})
    checkpoint = read_checkpoint(path, module.state_dict())
    preprocessing: Any = of_timm(resolve_model_data_config(module))
    notes: tuple[str, ...] = ()
    if checkpoint.mean:
        preprocessing = replace(preprocessing, mean=checkpoint.mean, std=checkpoint.std)
    else:
        notes = (f"{ASSUMED}: that of timm:{architecture} is taken ({preprocessing})",)
    classifier = getattr(module, "pretrained_cfg", {}).get("classifier") or ""
    head = checkpoint.state.get(f"{classifier if isinstance(classifier, str) else classifier[0]}.weight")
    num_classes = 1000 if head is None else len(head)
    if num_classes != 1000:
        with Undrawn():
            module = build(_KIND, architecture, num_classes, {})
    fill(module, checkpoint.state, name)
    network = Network(module, _KIND, architecture, num_classes)
    return described(name, network, preprocessing, device, outputs, sha256=sha256_file(path), notes=notes)
