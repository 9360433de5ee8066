"""How far an explanation moves where its input hardly does.

Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019 (max-sensitivity); Agarwal et al.,
"Rethinking Stability for Attribution-based Explanations", 2022 (relative stability, reported as its logarithm).

| symbol | meaning | shape |
|---|---|---|
| x, x_j | input, and the input with noise j | (p,), (draws, p) |
| e, e_j | explanations of both, as vectors | (q,), (draws, q) |
| h, h_j | outputs of the model | (o,), (draws, o) |

    max-sensitivity       max_j |e_j - e| / |e|
    relative input        max_j |(e_j - e) / e| / max(|(x_j - x) / x|, eps)     all norms Euclidean
    relative output       max_j |(e_j - e) / e| / max(|h_j - h|, eps)

Entries of e and x below eps in size are divided by eps.
"""

import numpy as np
from PIL import Image

from conceptry.models.images import decode_image, png_bytes

EPSILON = 1e-6


def noise_of(key: str, draw: int) -> np.random.Generator:
    """Source of the noise of a draw, the same for every version: `key` is that of the sample."""
    return np.random.default_rng(np.random.SeedSequence([*key.encode(), 53, draw]))


def noisy_image(content: bytes, rng: np.random.Generator, noise: float) -> bytes:
    """The picture as a PNG with normal noise in every pixel, its standard deviation as a share of white."""
    return png_bytes(Image.fromarray(noisy_pixels(np.asarray(decode_image(content)), rng, noise)))


def noisy_pixels(pixels: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Pixels uint8, of any shape, with such noise."""
    noisy = np.rint(pixels + rng.normal(scale=255 * noise, size=pixels.shape))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def sensitivity_max(e: np.ndarray, moved: np.ndarray) -> float:
    """Max-sensitivity; NaN for an explanation that is 0."""
    size = float(np.linalg.norm(e))
    return float(np.linalg.norm(moved - e, axis=1).max()) / size if size else float("nan")


def relative_input_stability(e: np.ndarray, moved: np.ndarray, x: np.ndarray, noisy: np.ndarray) -> float:
    """The greatest relative change of the explanation over that of the input."""
    change = np.linalg.norm(_relative(moved - e, e), axis=1)
    return float((change / np.maximum(np.linalg.norm(_relative(noisy - x, x), axis=1), EPSILON)).max())


def relative_output_stability(e: np.ndarray, moved: np.ndarray, h: np.ndarray, outputs: np.ndarray) -> float:
    """The greatest relative change of the explanation over the change of the model's outputs."""
    change = np.linalg.norm(_relative(moved - e, e), axis=1)
    return float((change / np.maximum(np.linalg.norm(outputs - h, axis=1), EPSILON)).max())


def _relative(change: np.ndarray, start: np.ndarray) -> np.ndarray:
    return change / np.where(np.abs(start) < EPSILON, EPSILON, start)
