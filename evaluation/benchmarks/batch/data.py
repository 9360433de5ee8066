"""Data sets and versions to measure batches on, in the folder of a benchmark."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from conceptry.models.images import png_bytes

CORRUPT = 100  # one picture in so many


def images(folder: Path, count: int, corrupt: bool = False) -> Path:
    """Scenes of the emoji world as PNG files; with `corrupt` one in a hundred is cut off."""
    from PIL import Image

    from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

    folder.mkdir()
    scenes = EmojiScenes("heldout", count)
    for i in range(count):
        content = png_bytes(Image.fromarray(scenes[i].image))
        cut = corrupt and i % CORRUPT == CORRUPT // 2
        (folder / f"{i:06d}.png").write_bytes(content[: len(content) // 2] if cut else content)
    return folder


def table(file: Path, count: int) -> Path:
    """Rows of the breast-cancer data, drawn again and again with a little noise, with an id."""
    from conceptry.models.zoo.datasets import load_dataset

    rows = load_dataset("breast-cancer").inputs
    rng = np.random.default_rng(0)
    drawn = rows.iloc[rng.integers(len(rows), size=count)].reset_index(drop=True)
    drawn = drawn * (1 + 0.01 * rng.standard_normal(drawn.shape))
    drawn.insert(0, "id", [str(i) for i in range(count)])
    drawn.to_parquet(file, index=False)
    return file


def embeddings(folder: Path, count: int, known: np.ndarray) -> Path:
    """Embeddings around `known` ones, (n, d), with ids, in files of 50,000."""
    folder.mkdir()
    rng, d = np.random.default_rng(0), known.shape[1]
    for first in range(0, count, 50_000):
        n = min(50_000, count - first)
        noise = 0.2 * np.linalg.norm(known, axis=1).mean() / np.sqrt(d) * rng.standard_normal((n, d))
        values = pa.array((known[rng.integers(len(known), size=n)] + noise).astype(np.float32).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(values, d).cast(pa.list_(pa.float32()))
        ids = pa.array([str(first + i) for i in range(n)])
        pyarrow.parquet.write_table(pa.table({"id": ids, "embedding": vectors}), folder / f"{first:08d}.parquet")
    return folder


def known_embeddings(uri: str, images: Path, count: int = 200) -> np.ndarray:
    """Embeddings (count, d) of pictures of a folder, as the version has them."""
    from conceptry.evaluation.batch.predictor import Predictor

    files = sorted(images.glob("*.png"))[:count]
    answers = Predictor(uri, {"return_embedding": True})(pd.DataFrame({"image": [file.read_bytes() for file in files]}))
    return np.stack(list(answers["embedding"]))


def splice_version() -> str:
    """A version over the shipped encoder."""
    from conceptry.registry import register

    return register("splice", {"l1_penalty": 0.2}, name="batch-splice").version.uri


def trees_version(folder: Path) -> str:
    """A version that explains boosted trees over thirty columns, as the demo has one."""
    from conceptry.evaluation.harsanyi.demo import TOURS
    from conceptry.registry import register

    trees = next(tour for tour in TOURS if tour.name == "tumour-harsanyi")
    return register("harsanyi", trees.prepare(folder)[0], name="batch-harsanyi").version.uri
