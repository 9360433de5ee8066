"""What each method shows of a record on the page of a comparison."""

import base64

import pytest
from PIL import Image

from conceptry.evaluation.presenter import Shown, presenter_of
from conceptry.models.images import png_bytes

PICTURE = base64.b64encode(png_bytes(Image.new("RGB", (8, 8), "red"))).decode()
MASK = base64.b64encode(png_bytes(Image.new("RGB", (8, 8), "white"))).decode()
BEFORE, AFTER = [{"class": "0", "probability": 1.0}], [{"class": "6", "probability": 0.5}]


@pytest.mark.parametrize(
    ("method", "record", "what", "says"),
    [
        (
            "splice",
            {"image": PICTURE, "l0": 1, "cosine": 0.5, "concepts": [{"concept": "dog", "weight": 0.4}], "known": "dog"},
            Shown((("", PICTURE),), "dog"),
            Shown(text="1 word, cosine 0.500", bars=(("dog", 0.4),)),
        ),
        (
            "milan",
            {"images": [PICTURE], "masks": [MASK], "description": "dogs", "truth": ["dog"],
             "alternatives": [{"text": "cats", "score": 0.1}]},
            Shown((("", PICTURE),), "known to be: dog"),  # all of it is active
            Shown(text="dogs", bars=(("cats", 0.1),), gist="dogs"),
        ),
        (
            "perturbation",
            {"before": BEFORE, "after": AFTER, "success": False, "changed": 0.1, "l2": 1.0, "probe": False,
             "target": "6", "source": None, "start": PICTURE, "image": MASK, "delta": MASK},
            Shown((("", PICTURE),), "toward 6"),
            Shown(
                (("perturbed", MASK), ("change", MASK)),
                "0 1.00 → 6 0.50, not reached; 10.0% of pixels changed, L2 1.00",
                gist="0 1.00 → 6 0.50, not reached",
            ),
        ),
    ],
)  # fmt: skip
def test_a_record_is_shown_as_what_was_explained_and_what_is_said(method, record, what: Shown, says: Shown) -> None:
    assert presenter_of(method).shown(record) == (what, says)
