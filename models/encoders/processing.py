"""Images to pixels and words to tokens, as configured in a folder of open_clip's `local-dir` layout."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conceptry.models.errors import InputError

CONFIG = "open_clip_config.json"
TOKENS = "tokens.json"
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """Images to pixels, bit for bit as open_clip's transforms for inference, whose import takes seconds.

    The fields are those of open_clip's `PreprocessCfg`; None stands for their defaults. Where an image is not resized
    to a square by its shortest side, or squashed, open_clip's own transforms run.
    """

    size: int | Sequence[int] = 224
    mode: str = "RGB"
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    interpolation: str | None = None
    resize_mode: str | None = None
    fill_color: int = 0

    def __call__(self, image: Image.Image) -> Tensor:
        """An image to normalised pixels (3, height, width), float32."""
        mean, std = (torch.tensor(values)[:, None, None] for values in self.normalisation)
        return self.fit(image).sub_(mean).div_(std)

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel."""
        mean, std = (
            tuple(values) if isinstance(values, list | tuple) else (float(values),) * 3  # type: ignore[arg-type]
            for values in (self.mean or OPENAI_MEAN, self.std or OPENAI_STD)
        )
        return mean, std

    def fit(self, image: Image.Image) -> Tensor:
        """An image, resized and cropped, to pixels (3, height, width) in [0, 1], float32."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        kind = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
        if self.resize_mode == "squash":
            image = image.resize((width, height), kind)
        elif self.resize_mode in (None, "shortest") and height == width:
            shortest, longest = sorted(image.size)
            scaled = int(height * longest / shortest)
            image = image.resize((height, scaled) if image.width <= image.height else (scaled, height), kind)
            left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
            image = image.crop((left, top, left + width, top + height))
        else:
            return self._fit_by_open_clip(image)
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous().float().div(255)

    def _fit_by_open_clip(self, image: Image.Image) -> Tensor:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        given = {name: value for name, value in vars(self).items() if value is not None}
        transforms: Any = image_transform_v2(PreprocessCfg(**given), is_train=False)
        pixels: Any = image
        for step in transforms.transforms[:-1]:  # the last one normalises
            pixels = step(pixels)
        return pixels


@dataclass(frozen=True)
class Processing:
    """The two halves of an encoder that come before its networks, and the files that describe them.

    `files` maps a file name to its content, so that a copy of the processing can be written anywhere.
    """

    preprocess: Preprocess
    tokenize: Callable[[Sequence[str]], Tensor]
    files: dict[str, bytes]

    def save(self, directory: Path) -> None:
        """Write the files into `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (directory / name).write_bytes(content)


def read_processing(directory: Path) -> Processing:
    """Read the processing from `open_clip_config.json`, and `tokens.json` or tokeniser files where there are any."""
    config_path = directory / CONFIG
    if not config_path.is_file():
        raise InputError(f"{directory}: holds no {CONFIG}; expected a folder in open_clip's local-dir layout")
    config = json.loads(config_path.read_bytes())
    size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
    preprocess = Preprocess(**{"size": size, **config.get("preprocess_cfg", {})})
    files = {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if path.suffix in (".json", ".txt", ".model") and path.name in _PROCESSING_FILES
    }
    if TOKENS in files:
        from conceptry.models.encoders.tokens import CompactTokenizer

        stored = json.loads(files[TOKENS])
        return Processing(preprocess, CompactTokenizer(stored["bpe_ids"], stored["context_length"]), files)
    import open_clip  # slow to import

    tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{directory}")
    return Processing(preprocess, tokenizer, files)


_PROCESSING_FILES = {
    CONFIG,
    TOKENS,
    # the files that Hugging Face tokenisers are made of
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "added_tokens.json",
}
