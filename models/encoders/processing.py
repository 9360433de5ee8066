"""Images to pixels and words to tokens, as configured in a folder of open_clip's `local-dir` layout."""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
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
class Normalize:
    """Pixels (3, height, width) less the mean of their channel, over its standard deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return pixels.sub(mean).div_(std)


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
        fit, normalize = self.transforms
        return normalize(fit(image))

    @property
    def transforms(self) -> tuple[Callable[[Image.Image], Tensor], Normalize]:
        """The steps from an image to its pixels, named as in a `Compose` of torchvision; the last one normalises."""
        return self.fit, Normalize(*self.normalisation)

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel."""
        mean, std = (
            tuple(values) if isinstance(values, list | tuple) else (float(values),) * 3  # type: ignore[arg-type]
            for values in (
                OPENAI_MEAN if self.mean is None else self.mean,
                OPENAI_STD if self.std is None else self.std,
            )
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

    `files` maps a file name to its content, so that a copy of the processing can be written anywhere. calibration: from
    the largest cosines (n,) of images with words to how often such answers are right (n,), where that is known.
    any_length: whether rows of tokens are as long as the longest text of a batch.
    """

    preprocess: Callable[[Image.Image], Tensor]
    tokenize: Callable[[Sequence[str]], Tensor]
    files: dict[str, bytes]
    calibration: Callable[[Tensor], Tensor] | None = None
    any_length: bool = False

    def save(self, directory: Path) -> None:
        """Write the files into `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (directory / name).write_bytes(content)


def read_processing(directory: Path) -> Processing:
    """Read the processing from `open_clip_config.json`, and `tokens.json` or tokeniser files where there are any.

    That of a classifier with token vectors comes from its own files; see `conse`.
    """
    from conceptry.models.encoders.conse import is_conse, read_conse_processing

    if is_conse(directory):
        found: Any = read_conse_processing(directory)  # pyright knows this file by two names
        return found
    config = read_config(directory)
    size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
    given = {
        key: value for key, value in config["preprocess_cfg"].items() if key in PREPROCESSING and value is not None
    }
    preprocess = Preprocess(**{"size": size, **given})
    files = {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if path.suffix in (".json", ".txt", ".model") and path.name in _PROCESSING_FILES
    }
    if TOKENS in files:
        from conceptry.models.encoders.tokens import CompactTokenizer

        stored = json.loads(files[TOKENS])
        return Processing(preprocess, CompactTokenizer(stored["bpe_ids"], stored["context_length"]), files)
    if _is_of_hugging_face(config["model_cfg"]["text_cfg"]):
        return Processing(preprocess, hugging_face_tokenizer(f"local-dir:{directory}", str(directory)), files)
    import open_clip  # slow to import

    tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{directory}")
    return Processing(preprocess, tokenizer, files)


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of a folder in the `local-dir` layout: model_cfg and preprocess_cfg, {} where it has none.

    What open_clip overlooks in it is left alone. Raises InputError where it is none of open_clip, naming the file.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise InputError(f"{directory}: holds no {CONFIG}; expected a folder in open_clip's local-dir layout")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:  # no JSON, or no text
        raise InputError(f"{path}: is no JSON, or is cut off ({error}); download it again") from None
    model = config.get("model_cfg") if isinstance(config, dict) else None
    parts = ("vision_cfg", "text_cfg")
    if not isinstance(model, dict) or not all(isinstance(model.get(part), dict) for part in parts):
        raise InputError(
            f"{path}: is no configuration of open_clip; expected model_cfg with {' and '.join(parts)}, as "
            "open_clip.get_model_config gives them"
        )
    preprocess = config.get("preprocess_cfg") or {}
    if not isinstance(preprocess, dict):
        raise InputError(f"{path}: preprocess_cfg must be an object with size, mean and std, got {preprocess!r}")
    for key, known in _CHOICES.items():
        if (value := preprocess.get(key)) is not None and value not in known:
            raise InputError(f"{path}: {key} must be one of {', '.join(known)}, got {value!r}")
    check_texts(model["text_cfg"], str(path))
    return {"model_cfg": model, "preprocess_cfg": preprocess}


def check_texts(text_cfg: Mapping[str, Any], name: str) -> None:
    """Raise InputError for a text tower that conceptry lacks, and for a tokeniser whose package is not installed."""
    if "hf_model_name" in text_cfg:
        raise InputError(f"{name} has a Hugging Face text tower, which is not supported")
    if _is_of_hugging_face(text_cfg) and importlib.util.find_spec("transformers") is None:
        raise InputError(
            f"{name} has a tokeniser of Hugging Face, which needs the package transformers: "
            "pip install 'conceptry[huggingface]'"
        )


def requirements_of(directory: Path) -> tuple[str, ...]:
    """The packages that the tokenisers of encoders below a folder need besides open_clip's own."""
    from conceptry.models.encoders import conse

    configs = [read_config(path.parent) for path in sorted(directory.rglob(CONFIG))]
    of_texts = any(_is_of_hugging_face(each["model_cfg"]["text_cfg"]) for each in configs)
    others = [conse.requirements_of_conse(path.parent) for path in sorted(directory.rglob(conse.CONFIG))]
    return (*(("transformers",) if of_texts else ()), *dict.fromkeys(name for names in others for name in names))


def _is_of_hugging_face(text_cfg: Mapping[str, Any]) -> bool:
    return bool(text_cfg.get("hf_tokenizer_name"))


def hugging_face_tokenizer(source: str, name: str) -> Any:
    """open_clip's tokeniser of an architecture or of `local-dir:FOLDER`, made of Hugging Face's.

    Raises InputError where it can be neither read nor downloaded; `name` is what the sentence calls the encoder.
    """
    import open_clip

    try:
        return open_clip.get_tokenizer(source)
    except Exception as error:  # a network, a missing file and a missing package come as a dozen types
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{name}: its Hugging Face tokeniser cannot be downloaded or read: {reason}") from None


PREPROCESSING = tuple(field.name for field in fields(Preprocess))
_CHOICES = {
    "interpolation": ("bicubic", "bilinear"),
    "resize_mode": ("shortest", "longest", "squash"),
    "mode": ("RGB",),
}
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
