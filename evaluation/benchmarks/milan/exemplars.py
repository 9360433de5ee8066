"""Exemplars of every unit of a network beside the forward passes that they need, and what memory they take.

The floor: the network alone, in evaluation mode and without gradients, over all pictures once (pass 1) and once more
over those that are an exemplar of some unit (pass 2), in the same batches. Its inputs are prepared beforehand, ours
come from bytes as a user's do. Ours writes its files, and keeps the maps of the best pictures instead of passing them
again.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conceptry.evaluation.benchmarks.measure import Record, Target, median_ratio, peak_mb, rounds_side_by_side
from conceptry.evaluation.benchmarks.perturbation.problems import IMAGENET_THERE
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.inputs import Feed
from conceptry.models.milan.exemplars.records import LayerExemplars
from conceptry.models.milan.exemplars.sources import ArraySource, FolderSource, SceneSource, Source
from conceptry.models.milan.network import default_layers, load_network
from conceptry.models.milan.settings import ExemplarSettings

BARE, OURS = "forward passes", "conceptry"
CASE, MEMORY, TIMES = "exemplars", "memory of exemplars", "x passes"
LIMIT, MEMORY_LIMIT = 1.2, 1.05
_THRESHOLD = "MALLOC_MMAP_THRESHOLD_"


@dataclass(frozen=True)
class Network:
    """One network of the benchmark. images: of the data; files: width and height of JPEGs, None for no files."""

    title: str
    name: str
    images: int
    settings: ExemplarSettings = field(default_factory=ExemplarSettings)
    files: tuple[int, int] | None = None

    @property
    def there(self) -> bool:
        return IMAGENET_THERE or not self.name.startswith("imagenet:")


NETWORKS = (
    Network("trunk of emoji-clip", "zoo:emoji-clip", 4000),
    Network("classifier of scenes", "zoo:scenes", 4000),
)
IMAGENET = Network("EfficientNet-Lite0", "imagenet:efficientnet-lite0", 128, files=(500, 375))


def exemplars(network: Network, rounds: int, folder: Path) -> tuple[list[Record], list[Target]]:
    """Seconds of all layers of a network, beside the forward passes; files go to the empty `folder`."""
    source = _source(network, folder)
    model = load_network(network.name, "cpu")
    layers = default_layers(model.module)

    def ours() -> dict[str, LayerExemplars]:
        # In place of those before: files that pile up would take fresh memory of the system, a gigabyte each time.
        return compute_exemplars(model, source, layers, folder / "found", network.settings, resume=False)

    found = ours()
    chosen = np.unique(np.concatenate([layer.ids.ravel() for layer in found.values()]))
    n_units = sum(map(len, found.values()))
    del found  # which holds its files
    inputs = _inputs(model, source)
    size = Feed(model, source, network.name, None, None, None).batch_size(network.settings.batch_size)
    seconds = rounds_side_by_side({BARE: partial(passes, model, inputs, chosen, size), OURS: ours}, rounds)
    case = f"{CASE}, {network.title}, {n_units:,} units, {len(source):,} and {len(chosen):,} pictures"
    records = [
        Record(case, name, statistics.median(taken), extra={TIMES: median_ratio(taken, seconds[BARE])})
        for name, taken in seconds.items()
    ]
    title = f"exemplars of {network.title}, times {BARE}"
    return records, [Target(title, median_ratio(seconds[OURS], seconds[BARE]), LIMIT, "max")]


def passes(model: Any, inputs: Tensor, chosen: np.ndarray, batch_size: int) -> None:
    """The network over all inputs, then over the chosen ones."""
    with torch.no_grad():
        for rows in (torch.arange(len(inputs)), torch.from_numpy(chosen)):
            for batch in rows.split(batch_size):
                model.from_pixels(inputs[batch])


def _inputs(model: Any, source: Any) -> Tensor:
    """What the network sees of the pictures, (n, C, H, W) in [0, 1]."""
    return torch.cat([model.to_pixels(source.read_images([i])[0][None]) for i in range(len(source))])


def _source(network: Network, folder: Path) -> Source:
    scenes = SceneSource("zoo:emoji-scenes", network.images)
    images = np.stack(scenes.read_images(range(network.images)))
    if not network.files:
        return ArraySource("scenes", images)  # drawn beforehand: drawing is no reading
    files = folder / "pictures"
    files.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).resize(network.files, Image.Resampling.BICUBIC).save(files / f"{i:05}.jpg", quality=90)
    return FolderSource(files)


class Noise:
    """Pictures of 64 x 64 pixels in coarse random colours, each made anew when it is read: they keep no memory."""

    name, digest, labels, classes, parallel = "noise", "noise", None, (), True

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def read_images(self, indices: Sequence[int]) -> list[np.ndarray]:
        coarse = [np.random.default_rng(i).integers(0, 256, (8, 8, 3)).astype(np.uint8) for i in indices]
        return [image.repeat(8, axis=0).repeat(8, axis=1) for image in coarse]


def memory(quick: bool) -> tuple[list[Record], list[Target]]:
    """Peak memory over n pictures and over four times as many, each in a process of its own.

    There the C library hands back what is freed. By default it keeps what threads free in pieces, and resident memory
    tells of these holes, which differ from run to run by more than a half.
    """
    n = 500 if quick else 2000
    with _holes_given_back():
        rises = {size: peak_mb(_prepared, size) for size in (n, 4 * n)}
    records = [Record(f"{MEMORY}, zoo:scenes", f"{size:,} pictures", None, mb) for size, mb in rises.items()]
    few, many = rises.values()
    ratio = many / few if few and many else None
    return records, [Target("peak memory of four times the pictures, times", ratio, MEMORY_LIMIT, "max")]


@contextmanager
def _holes_given_back() -> Iterator[None]:
    """For processes started in the block: glibc maps every block of 64 KiB or more, and unmaps it when freed."""
    before = os.environ.get(_THRESHOLD)
    os.environ[_THRESHOLD] = "65536"
    try:
        yield
    finally:
        os.environ.pop(_THRESHOLD)
        os.environ.update({} if before is None else {_THRESHOLD: before})


def _prepared(n: int) -> Callable[[], Any]:
    """Exemplars over n pictures, after a run that loads and compiles all that is used."""
    torch.set_num_threads(1)
    model = load_network("zoo:scenes", "cpu")
    layers = default_layers(model.module)

    def run(size: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            compute_exemplars(model, Noise(size), layers, Path(folder) / "found")

    run(32)
    return partial(run, n)
