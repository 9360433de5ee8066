"""Images to pixels: bit for bit what open_clip's own transforms give."""

from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from conceptry.models.encoders.processing import Preprocess

CONFIGS: list[dict[str, Any]] = [
    {},
    {"size": 64, "mean": (0.5, 0.4, 0.3), "std": [0.2, 0.3, 0.4]},
    {"size": (40, 40), "interpolation": "bilinear"},
    {"size": 33, "mean": 0.5, "std": 0.25, "resize_mode": "shortest"},
    {"size": 48, "resize_mode": "squash"},
    {"size": [20, 50], "resize_mode": "squash", "interpolation": "bilinear"},
    {"size": 48, "resize_mode": "longest", "fill_color": 7},
    {"size": (48, 20)},
]
SIZES = [(64, 64), (48, 48), (20, 300), (97, 41), (41, 97), (333, 500), (20, 21), (7, 5)]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_pixels_equal_those_of_open_clip(config: dict[str, Any]) -> None:
    theirs: Any = image_transform_v2(PreprocessCfg(**config), is_train=False)
    ours, rng = Preprocess(**config), np.random.default_rng(0)
    for width, height in SIZES:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for given in (image, image.convert("L")):
            expected = theirs(given)
            assert torch.equal(ours(given), expected)
        mean, std = (torch.tensor(values)[:, None, None] for values in ours.normalisation)
        torch.testing.assert_close(ours.fit(image).sub(mean).div(std), theirs(image), atol=0, rtol=0)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        Preprocess(colour=1)  # type: ignore[arg-type]
