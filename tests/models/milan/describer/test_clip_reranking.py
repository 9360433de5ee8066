"""Ranking by a dual encoder: against a loop, with an encoder whose embeddings are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from conceptry.models.milan.describer.ranking import clip_scores

TEXTS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 3.0, 0.0), "both": (1.0, 1.0, 0.0)}


class MeanColour:
    """A picture's embedding is its mean colour, and a little of blue, so that black is somewhere."""

    name, device, runtime = "mean colour", torch.device("cpu"), "torch"

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def preprocess(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels.mean(dim=(2, 3)) + torch.tensor([0.0, 0.0, 1.0])

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.encoded += texts
        return torch.tensor([TEXTS[text] for text in texts])

    def save(self, directory: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def exemplars() -> tuple[np.ndarray, np.ndarray]:
    """Green pictures with a red corner, which is the mask of the first unit."""
    images = np.zeros((2, 3, 3, 8, 8), dtype=np.uint8)
    images[:, :, 1] = 200
    images[:, :, :, :2, :2] = np.array([250, 0, 0], dtype=np.uint8)[:, None, None]
    masks = np.zeros((2, 3, 1, 8, 8), dtype=np.uint8)
    masks[0, :, :, :2, :2] = 1
    masks[1, :, :, 2:] = 255
    return images, masks


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_scores_are_the_sum_of_cosines(weight: float, exemplars) -> None:
    images, masks = exemplars
    texts = [["red", "green", "both"], ["green"]]
    got = clip_scores(MeanColour(), images, masks, texts, weight)
    for i, unit in enumerate(texts):
        for text, score in zip(unit, got[i].tolist(), strict=True):
            u, expected = np.array(TEXTS[text]), 0.0
            for image, mask in zip(images[i], masks[i], strict=True):
                for share, seen in ((1 - weight, np.where(mask, image, 0)), (weight, image)):
                    v = seen.mean(axis=(1, 2)) + np.array([0, 0, 1])
                    expected += share * (v @ u) / np.linalg.norm(v) / np.linalg.norm(u)
            assert score == pytest.approx(expected, abs=1e-5)


def test_the_mask_decides_where_it_is_looked_at(exemplars) -> None:
    masked = clip_scores(MeanColour(), *exemplars, [["red", "green"]] * 2, weight=0.0)
    assert masked[0].argmax() == 0
    assert masked[1].argmax() == 1
    whole = clip_scores(MeanColour(), *exemplars, [["red", "green"]] * 2, weight=1.0)
    assert whole[0].argmax() == whole[1].argmax() == 1


def test_a_text_of_several_units_is_encoded_once(exemplars) -> None:
    encoder = MeanColour()
    clip_scores(encoder, *exemplars, [["red", "green"], ["green", "red"]], weight=0.5)
    assert encoder.encoded == ["red", "green"]
    assert [len(scores) for scores in clip_scores(encoder, *exemplars, [[], []], 0.5)] == [0, 0]
