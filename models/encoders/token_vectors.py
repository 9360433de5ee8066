"""Static vectors of tokens, from the package wordllama: its two files, read by their digests with code of ours.

The extra `photos` installs the package. It is not imported: its loader may download, and these are files alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from conceptry.models.errors import InputError, IntegrityError
from conceptry.models.manifest import read_tensors, sha256_file

PACKAGE, VERSION = "wordllama", "0.4.0.post1"
EXTRA = "pip install 'conceptry[photos]'"
TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
VECTORS = "wordllama/weights/l2_supercat_256.safetensors"
SHA256 = {
    TOKENIZER: "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
    VECTORS: "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
}
MOST_TOKENS = 1000  # of a text: rows of a batch are as long as its longest
NONE = -1  # fills a row of tokens that is shorter than the longest


class StaticTokenizer:
    """Texts to rows of token ids of any length, by the content of a `tokenizer.json`."""

    def __init__(self, content: bytes) -> None:
        from tokenizers import Tokenizer

        self.content = content
        self._tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __len__(self) -> int:
        """Ids there are."""
        return self._tokenizer.get_vocab_size()

    def __call__(self, texts: Sequence[str] | str) -> Tensor:
        """Token ids, int64 (texts, longest), -1 behind the end of a text. Raises InputError for a text without any."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = [row.ids for row in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        longest = min(max(map(len, rows), default=1), MOST_TOKENS)
        tokens = torch.full((len(rows), longest), NONE, dtype=torch.int64)
        for row, (ids, text) in enumerate(zip(rows, texts, strict=True)):
            if not ids:
                raise InputError(f"text {text!r} has no tokens; expected one that is not blank")
            if len(ids) > MOST_TOKENS:
                raise InputError(
                    f"a text of {len(text):,} characters has {len(ids):,} tokens; at most {MOST_TOKENS:,} are read"
                )
            tokens[row, : len(ids)] = torch.tensor(ids)
        return tokens


@dataclass(frozen=True)
class TokenVectors:
    """What texts are embedded by. vectors: float16 (tokens, d)."""

    tokenizer: StaticTokenizer
    vectors: Tensor


def read_wordllama(name: str) -> TokenVectors:
    """The token vectors of wordllama, 32,000 of 256 dimensions; `name` is what sentences call the encoder.

    Raises InputError where the package is missing or of another version, IntegrityError for files with other digests.
    """
    tokenizer, vectors = (package_file(PACKAGE, file, digest, name) for file, digest in SHA256.items())
    (table,) = read_tensors(vectors).values()
    return TokenVectors(StaticTokenizer(tokenizer.read_bytes()), table)


def package_file(package: str, file: str, sha256: str, name: str, version: str = VERSION) -> Path:
    """A file of an installed package with the digest that it must have; nothing of the package is run."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise InputError(f"{name} needs the package {package}, which is not installed here: {EXTRA}") from None
    path = Path(str(distribution.locate_file(file)))
    if path.is_file() and sha256_file(path) == sha256:
        return path
    if distribution.version != version:
        raise InputError(f"{name} needs {package} {version}, and {distribution.version} is installed: {EXTRA}")
    raise IntegrityError(f"{path}: expected SHA-256 {sha256}; install {package} {version} again")
