"""What the pyfunc makes of the cells of a request, without a server around it."""

import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.models.splice import Splice
from conceptry.models.splice.pyfunc import SpliceExplainer

D = 16


@pytest.fixture
def explainer() -> SpliceExplainer:
    generator = torch.Generator().manual_seed(0)
    explainer = SpliceExplainer("")
    dictionary = normalize(torch.randn(30, D, generator=generator), dim=1)
    words = [f"word{i}" for i in range(30)]
    explainer.model = Splice(None, words, dictionary, torch.full((D,), 0.01), torch.zeros(D), l1_penalty=0.1)
    return explainer


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e-20, 1.0, 1e20, 1e30, 1e300])
def test_embeddings_of_any_scale_give_one_answer(explainer: SpliceExplainer, scale: float) -> None:
    values = np.random.default_rng(0).normal(size=D)
    rows = pd.DataFrame({"embedding": [values.tolist(), (values * scale).tolist(), values * scale]})
    expected, *others = explainer.explain(rows, {"return_embedding": True}).to_dict("records")
    assert np.allclose(expected["embedding"], values / np.linalg.norm(values), atol=1e-6)
    for other in others:
        assert np.allclose(other["embedding"], expected["embedding"], atol=1e-6)
        assert [c["concept"] for c in other["concepts"]] == [c["concept"] for c in expected["concepts"]]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (["1.0"] * D, f"expected {D} numbers"),
        ([1.0] * (D - 1) + ["2"], f"expected {D} numbers"),
        ([True] * D, f"expected {D} numbers"),
        (np.ones(D, dtype=bool), f"expected {D} numbers"),
        ([1.0] * (D - 1) + [False], f"expected {D} numbers"),
        ("abc", f"expected {D} numbers"),
        ({"a": 1}, f"expected {D} numbers"),
        ([[1.0], [1.0, 2.0]], f"expected {D} numbers"),
        ([1.0] * 3, f"expected {D} numbers, got shape (3,)"),
        ([[1.0] * D], f"expected {D} numbers, got shape (1, {D})"),
        ([10**400] * D, f"expected {D} finite numbers, got NaN or infinite values"),
        ([float("inf")] * D, f"expected {D} finite numbers, got NaN or infinite values"),
        ([None] * D, f"expected {D} finite numbers, got NaN or infinite values"),
        ([0] * D, "the zero vector has no direction; expected at least one number that is not 0"),
    ],
)
def test_what_is_no_embedding_is_refused(explainer: SpliceExplainer, value: object, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        explainer.explain(pd.DataFrame({"embedding": [[1] * D, value]}), {})
    assert str(caught.value) == f"row 1, column 'embedding': {sentence}"


class Counting:
    """An encoder that counts how many decoded pictures exist whenever it is given one."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.seen: list[weakref.ref] = []
        self.most = 0

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        self.seen.append(weakref.ref(image))
        self.most = max(self.most, sum(ref() is not None for ref in self.seen))
        return torch.full((3, 2, 2), float(image.getpixel((0, 0))[0]))

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean(dim=(1, 2, 3))[:, None] * torch.eye(D)[0] + torch.eye(D)[1]


def test_one_decoded_picture_exists_at_a_time(explainer: SpliceExplainer) -> None:
    encoder = Counting()
    explainer.model.encoder = encoder  # type: ignore[assignment]  # it needs no texts here
    greys = [1 + i for i in range(70)]
    rows = pd.DataFrame({"image": [png_bytes(Image.new("RGB", (8, 8), (grey,) * 3)) for grey in greys]})
    answer = explainer.explain(rows, {"return_embedding": True})
    assert len(encoder.seen) == 70
    assert encoder.most == 1
    # and each row has the answer of its own picture, across batches
    assert np.allclose([e[0] / e[1] for e in answer["embedding"]], greys, rtol=1e-4)
