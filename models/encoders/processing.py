"""Pictures to pixels and words to tokens, as configured in a folder of open_clip's `local-dir` layout."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from conceptry.models.errors import InputError

CONFIG = "open_clip_config.json"
TOKENS = "tokens.json"


@dataclass(frozen=True)
class Processing:
    """The two halves of an encoder that come before its networks, and the files that describe them.

    `files` maps a file name to its content, so that a copy of the processing can be written anywhere.
    """

    preprocess: Callable[[Image.Image], Tensor]
    tokenize: Callable[[Sequence[str]], Tensor]
    files: dict[str, bytes]

    def save(self, directory: Path) -> None:
        """Write the files into `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (directory / name).write_bytes(content)


def read_processing(directory: Path) -> Processing:
    """Read the processing from `open_clip_config.json`, and `tokens.json` or tokeniser files where there are any."""
    import open_clip  # slow to import, and not needed before an encoder is
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config_path = directory / CONFIG
    if not config_path.is_file():
        raise InputError(f"{directory}: holds no {CONFIG}; expected a folder in open_clip's local-dir layout")
    config = json.loads(config_path.read_bytes())
    size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
    preprocess: Any = image_transform_v2(
        PreprocessCfg(**{"size": size, **config.get("preprocess_cfg", {})}), is_train=False
    )
    files = {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if path.suffix in (".json", ".txt", ".model") and path.name in _PROCESSING_FILES
    }
    if TOKENS in files:
        from conceptry.models.encoders.tokens import CompactTokenizer

        stored = json.loads(files[TOKENS])
        return Processing(preprocess, CompactTokenizer(stored["bpe_ids"], stored["context_length"]), files)
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
