"""Released describers, and all descriptions of a network, by the published names."""

import csv
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from conceptry.models.encoders.load import load_encoder
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import InputError
from conceptry.models.milan.annotations.annotations import GROUPS, AnnotatedUnits
from conceptry.models.milan.describer.describer import CONFIG, Describer, load_describer, read_describer
from conceptry.models.milan.model import Milan
from conceptry.models.milan.original.annotations import TopImagesDataset, load
from conceptry.models.milan.original.folders import models_dir, results_dir
from conceptry.models.milan.settings import EMOJI_CLIP, EMOJI_MILAN, DecodingSettings
from conceptry.models.milan.units import Unit

_PAGE = "the project page of MILAN (milan.csail.mit.edu)"
_CLIP = "+clip"
_CLIP_BEAM = 1000  # candidates that the published `+clip` ranks


def pretrained(
    config: str = "base",
    path: str | Path | None = None,
    *,
    clip_encoder: str | PackagedEncoder | None = None,
    device: str | torch.device = "auto",
) -> Describer:
    """Load a describer: a released one, converted before, or one by any name that `load_describer` knows.

    Args:
        config: the key of a released describer, such as `base`, or `zoo:emoji-milan`; with `+clip` its candidates are
            ranked by a dual encoder.
        path: the converted folder; by default MILAN_MODELS_DIR/KEY or MILAN_MODELS_DIR/milan-KEY.
        clip_encoder: what `+clip` ranks by, by name or loaded; the published implementation took `clip:ViT-B/32`.
        device: auto, cpu, cuda or cuda:INDEX.

    Returns:
        A describer; called with images and masks of n units, it returns their `captions` and `scores`.

    Raises:
        InputError: for unknown keys, and where there is no converted folder; the sentence says how to make one.

    Example:
        >>> import numpy as np
        >>> decoder = pretrained("zoo:emoji-milan")
        >>> images, masks = np.zeros((2, 5, 3, 64, 64)), np.ones((2, 5, 1, 64, 64))
        >>> len(decoder(images, masks, strategy="greedy").captions)
        2
    """
    key = config.removesuffix(_CLIP)
    clip = _ranker(key, clip_encoder, device) if config.endswith(_CLIP) else None
    if ":" in key and path is None:
        describer = load_describer(key, device, clip=clip)
    else:
        folder = _converted(key, path)
        describer = read_describer(folder, device, name=f"describer:{folder}", clip=clip)
    if clip is not None:
        describer.settings = DecodingSettings(clip=True, beam_size=_CLIP_BEAM)
    return describer


def _ranker(key: str, encoder: str | PackagedEncoder | None, device: str | torch.device) -> PackagedEncoder:
    encoder = encoder or (EMOJI_CLIP if key == EMOJI_MILAN else None)
    if encoder is None:
        raise InputError(
            f"{key}{_CLIP} ranks by a dual encoder: name it as clip_encoder, such as clip:ViT-B/32 of the published "
            "implementation or open_clip:ViT-B-32@FILE"
        )
    return load_encoder(encoder, device) if isinstance(encoder, str) else encoder


def _converted(key: str, path: str | Path | None) -> Path:
    """The folder of a converted describer; InputError says how to convert one."""
    if path is None and key not in GROUPS:
        raise InputError(f"there is no released describer {key!r}; expected one of {', '.join(GROUPS)}")
    folders = [Path(path)] if path else [models_dir() / key, models_dir() / f"milan-{key}"]
    for folder in folders:
        if (folder / CONFIG).is_file():
            return folder
    files = [folder.with_suffix(".pth") for folder in folders if folder.suffix != ".pth"]
    file = next((file for file in files if file.is_file()), None)
    what = f"{file} is there, unconverted" if file else f"get milan-{key}.pth from {_PAGE}"
    raise InputError(
        f"{folders[0]}: there is no converted describer; {what}; convert it once: conceptry convert milan "
        f"{file or f'milan-{key}.pth'} --output {folders[0]}"
    )


def compute_milan_descriptions(
    name: str,
    milan: str | Describer = "base",
    *,
    path: str | Path | None = None,
    results_root: str | Path | None = None,
    device: str | torch.device = "auto",
    **settings: Any,
) -> Path:
    """Describe all units of a network whose exemplars are there.

    Args:
        name: MODEL/DATASET, as `load` takes it.
        milan: the key of a describer, as `pretrained` takes it, or a describer.
        path: the folder of the exemplars, see `load`.
        results_root: by default MILAN_RESULTS_DIR/descriptions.
        device: auto, cpu, cuda or cuda:INDEX.
        **settings: fields of `DecodingSettings`, such as temperature and beam_size.

    Returns:
        The file `results_root`/MODEL_DATASET.csv with the columns layer, unit and description.
    """
    dataset = load(name, path, annotations=False)
    describer = pretrained(milan, device=device) if isinstance(milan, str) else milan
    explainer = Milan(describer=describer, device=device)
    chosen = explainer.override(asdict(describer.settings) | settings)
    samples = [Unit(*dataset.unit(row), partial(_exemplars, dataset, row)) for row in range(len(dataset))]
    file = Path(results_root or results_dir() / "descriptions") / f"{name.replace('/', '_')}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("layer", "unit", "description"))
        for said in explainer.describe(samples, chosen):
            writer.writerow((said.layer, said.unit, said.text))
    return file


def _exemplars(dataset: AnnotatedUnits | TopImagesDataset, row: int) -> tuple[np.ndarray, np.ndarray]:
    exemplars = dataset[row]
    return exemplars.images, exemplars.masks


milan = SimpleNamespace(pretrained=pretrained)
