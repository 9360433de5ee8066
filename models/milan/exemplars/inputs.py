"""From a source to what a network reads, and to the images that are delivered: read ahead by worker threads.

Reading, decoding, resizing and cropping take place in the workers, a few images at a time, so that no more than two
batches are held and no more than a few images in their full size.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import module_of
from conceptry.models.explained.image_inputs import as_pixel_model
from conceptry.models.milan.exemplars.sources import ImageSource, ItemSource, Source, as_bytes, to_bytes

_AT_ONCE = 16  # pictures that a worker reads at most before it asks for more work
_WORKERS = 4
_BATCH, _PIXELS = 128, 2**18


class Feed:
    """The inputs of a network, the call of it, and its images.

    transform_inputs: the parts of a batch -> the arguments of the network (default: the first part). transform_outputs:
    the output of the network -> the pictures to deliver (n, 3, H, W), uint8 or in [0, 1] (default: the inputs).
    """

    def __init__(
        self,
        model: Any,
        source: Source,
        name: str,
        transform_inputs: Callable[..., Any] | None,
        transform_outputs: Callable[[Any], Tensor] | None,
        device: str | torch.device | None,
    ) -> None:
        module = module_of(model)
        if module is None:
            raise InputError(f"{name}: expected a torch module, or a network of pictures, got {type(model).__name__}")
        self.model, self.module, self.source, self.name = model, module, source, name
        self.transform_inputs, self.transform_outputs = transform_inputs, transform_outputs
        self.pixel_model = None if isinstance(model, nn.Module) else as_pixel_model(model)
        # isinstance would read every attribute, the digest included.
        self._of_images: ImageSource | None = cast(ImageSource, source) if hasattr(source, "read_images") else None
        self._of_items: ItemSource | None = cast(ItemSource, source) if hasattr(source, "items") else None
        if self._of_images is None and self._of_items is None:
            raise InputError(f"{name}: data must be a source of pictures or items, got {type(source).__name__}")
        if self.pixel_model is not None and self._of_images is None:
            raise InputError(f"{name}: takes pictures, which {source.name} does not hold; pass the module alone")
        weights = next(module.parameters(), next(module.buffers(), torch.zeros(0)))
        self.device = weights.device
        self.dtype = next((w.dtype for w in module.parameters() if w.is_floating_point()), torch.float32)
        if device is not None and torch.device(device).type != self.device.type:
            raise InputError(f"{name}: lies on {self.device}, not on {device}; move it there first")

    @property
    def delivers_outputs(self) -> bool:
        """Whether the pictures are what the network puts out."""
        return self.transform_outputs is not None

    def batch_size(self, asked: int | None) -> int:
        """Pictures in one forward pass: as `asked`, else 128, as in the original, but on a CPU no more than its caches
        bear: with 5 pictures of 224 x 224 EfficientNet-Lite0 takes .020 s for each, with 10 .033, with 64 .055.
        """
        if asked is not None or self.device.type != "cpu":
            return asked or _BATCH
        size = self.pixel_model.size if self.pixel_model else None
        return _BATCH // 4 if size is None else min(max(_PIXELS // (size[0] * size[1]), 1), _BATCH)

    def batches(self, indices: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, Any]]:
        """The numbers of each batch, and what `run` takes; read ahead by a batch."""
        starts = range(0, len(indices), size)
        if not starts:
            return
        # One reader where the source asks for it: no more than one item of it is then read at a time.
        n_workers = _WORKERS if self.source.parallel else 1
        with ThreadPoolExecutor(n_workers) as workers:

            def submit(start: int) -> list[Future[Any]]:
                batch = indices[start : start + size].tolist()
                step = min(_AT_ONCE, -(-len(batch) // n_workers)) if self._of_images else len(batch)
                return [workers.submit(self._load, batch[i : i + step]) for i in range(0, len(batch), step)]

            waiting = [(start, submit(start)) for start in starts[:1]]
            try:
                for following in [*starts[1:], None]:
                    start, parts = waiting.pop()
                    if following is not None:
                        waiting.append((following, submit(following)))
                    loaded = [part.result() for part in parts]
                    yield indices[start : start + size], self._joined(loaded)
            finally:
                for _, parts in waiting:
                    for part in parts:
                        part.cancel()

    def _load(self, indices: list[int]) -> Any:
        if self._of_images is None:
            assert self._of_items is not None
            return self._of_items.items(indices)
        wanted = None if self.pixel_model is None else self.pixel_model.size
        found: list[Tensor | np.ndarray] = []
        for index in indices:
            (image,) = self._of_images.read_images([index])
            if self.pixel_model is not None and image.shape[:2] != wanted:
                # A picture in its full size can be large: it is brought to size before the next one is read.
                try:
                    image = self.pixel_model.to_pixels(image[None])[0]
                except InputError as error:
                    raise InputError(f"picture {index} of {self.source.name}: {error}") from None
            found.append(image)
        shapes = {tuple(one.shape) for one in found}
        if len(shapes) == 1 and isinstance(found[0], np.ndarray):
            stacked = np.stack([np.asarray(one) for one in found])
            return self._pixels(stacked)
        parts = [one if isinstance(one, Tensor) else self._pixels(one[None])[0] for one in found]
        return self._stacked(parts)

    def _pixels(self, images: np.ndarray) -> Tensor:
        """uint8 (n, H, W, 3) of one size to what the network sees, (n, C, h, w) in [0, 1]."""
        if self.pixel_model is not None:
            return self.pixel_model.to_pixels(images)
        return torch.tensor(images, device=self.device).permute(0, 3, 1, 2).float() / 255

    def _stacked(self, pixels: list[Tensor]) -> Tensor:
        sizes = sorted({tuple(one.shape[-2:]) for one in pixels})
        if len(sizes) > 1:
            (h0, w0), (h1, w1) = sizes[:2]
            raise InputError(
                f"{self.name}: {self.source.name} holds pictures of different sizes, such as {w0} x {h0} and "
                f"{w1} x {h1}; the module takes one size: load it by a name that resizes, or wrap a data set that does"
            )
        return torch.stack(pixels)

    def _joined(self, loaded: list[Any]) -> tuple[Any, ...]:
        if self._of_images is None:
            (items,) = loaded
            return tuple(part.to(self.device) if isinstance(part, Tensor) else part for part in items)
        if len({tuple(part.shape[1:]) for part in loaded}) > 1:
            self._stacked([part[0] for part in loaded])
        return (loaded[0] if len(loaded) == 1 else torch.cat(loaded),)

    def run(self, batch: tuple[Any, ...]) -> Any:
        """The output of the network for a batch."""
        if self.pixel_model is not None and self.transform_inputs is None:
            return self.pixel_model.from_pixels(batch[0])
        if self.transform_inputs is not None:
            arguments = self.transform_inputs(*batch)
        elif isinstance(batch[0], Tensor):
            pixels = batch[0]  # in the precision of the module; those that are delivered keep theirs
            arguments = pixels.to(self.dtype) if pixels.is_floating_point() else pixels
        else:
            keys = f" with {', '.join(map(str, batch[0]))}" if isinstance(batch[0], dict) else ""
            raise InputError(
                f"{self.name}: the items of {self.source.name} are of type {type(batch[0]).__name__}{keys}, expected a "
                "tensor or a tuple that starts with one; pass transform_inputs, or wrap the data set"
            )
        return self.module(*arguments) if isinstance(arguments, tuple) else self.module(arguments)

    def images(self, batch: tuple[Any, ...], output: Any) -> Tensor:
        """The images of a batch, uint8 (n, 3, H, W) on the CPU."""
        if self.transform_outputs is not None:
            images = as_bytes(self.transform_outputs(output), f"{self.name}: the results of transform_outputs")
        elif self._of_items is None:
            images = to_bytes(batch[0])
        else:
            images = self._of_items.to_images(batch)
        return images.cpu()
