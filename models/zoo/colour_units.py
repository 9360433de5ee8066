"""Units that respond to a colour by arithmetic on the channels: known by construction, without any training.

| symbol | meaning |
|---|---|
| r, g, b | channels of a picture in [0, 1], each the mean of a window of 9 x 9 pixels |

| unit | activation | greatest for |
|---|---|---|
| red | r - max(g, b) | (1, 0, 0) |
| green | g - max(r, b) | (0, 1, 0) |
| blue | b - max(r, g) | (0, 0, 1) |
| yellow | min(r, g) - b | (1, 1, 0) |
| purple | min(r, b) - g | (1, 0, 1) |
| black | 1 - max(r, g, b) | (0, 0, 0) |
| white | min(r, g, b) | (1, 1, 1) |

The window is what a receptive field is to a real unit: an area of the colour counts, a speck does not.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

COLOUR_UNITS = ("red", "green", "blue", "yellow", "purple", "black", "white")
_WINDOW = 9  # pixels


class ColourUnits(nn.Module):
    """(n, 3, H, W) in [0, 1] -> (n, 7, H, W); unit `i` responds to `COLOUR_UNITS[i]`. Layer `units` puts them out."""

    def __init__(self) -> None:
        super().__init__()
        self.units = _Arithmetic()

    def forward(self, pixels: Tensor) -> Tensor:
        # Beyond the border nothing counts: the mean is over the pixels that there are.
        blurred = functional.avg_pool2d(pixels, _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False)
        return self.units(blurred)


class _Arithmetic(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        r, g, b = pixels.unbind(dim=1)
        return torch.stack(
            [
                r - torch.maximum(g, b),
                g - torch.maximum(r, b),
                b - torch.maximum(r, g),
                torch.minimum(r, g) - b,
                torch.minimum(r, b) - g,
                1 - pixels.amax(dim=1),
                pixels.amin(dim=1),
            ],
            dim=1,
        )
