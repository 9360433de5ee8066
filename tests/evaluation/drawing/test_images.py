"""Every method draws records by one function, from images in any form, and refuses views and styles by name."""

import importlib
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from conceptry.evaluation.drawing.images import image_of, image_text
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.models.method import METHODS

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8))
MASK = Image.fromarray(np.eye(12, dtype=np.uint8) * 255)
FORMS = {"PIL": lambda image: image, "bytes": png_bytes, "base64": lambda image: image_text(png_bytes(image))}
SIDE = {"target": "b", "source": None, "success": True, "after": [{"class": "b", "probability": 0.7}]}
GRAPH = '{"players": ["left", "right"], "patterns": [], "coalitions": []}'


def record(method: str, form: Any) -> dict[str, Any]:
    """A served answer with its image."""
    image, mask = form(IMAGE), form(MASK)
    return {
        "splice": {"concepts": [{"concept": "cat", "weight": 0.5}], "l0": 1, "cosine": 0.9, "image": image},
        "harsanyi": {
            "file": "a.png", "modality": "image", "groups": {}, "target": "cat", "v_full": 2.0, "v_empty": 0.0,
            "sample": {"segments": [[0, 1]] * 2}, "picture": image, "graph": GRAPH, "n_kept": 1, "n_salient": 1,
            "explain_ratio": 1.0, "patterns": [{"players": ["left"], "effect": 1.0, "kind": "and"}],
            "shapley": [{"player": "left", "value": 1.0}],
        },
        "perturbation": SIDE | {
            "probe": False, "before": [{"class": "a", "probability": 0.9}], "start": image, "image": image,
            "delta": image, "other": [], "path": [],
        },
        "milan": {
            "sample": "layer1:0", "layer": "layer1", "unit": 0, "description": "cats", "score": -1.0, "pmi": 2.0,
            "alternatives": [], "images": [image], "masks": [mask],
        },
    }[method]  # fmt: skip


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize("method", METHODS)
def test_images_of_any_form_are_drawn_alike(method: str) -> None:
    plots = importlib.import_module(f"conceptry.evaluation.{method}.plots")
    view = "patterns" if method == "harsanyi" else None
    drawn = [pixels(plots.draw([record(method, form)], view)) for form in FORMS.values()]
    assert len(np.unique(drawn[0].reshape(-1, 4), axis=0)) > 100  # the noise of the image
    for other in drawn[1:]:
        np.testing.assert_array_equal(drawn[0], other)
    blank = record(method, FORMS["PIL"])
    for name in ("image", "picture", "images", "start"):
        if name in blank:
            white = Image.new("RGB", IMAGE.size, "white")
            blank[name] = [white] if isinstance(blank[name], list) else white
    assert (pixels(plots.draw([blank], view)) != drawn[0]).any()


@pytest.mark.parametrize("method", METHODS)
def test_views_and_styles_that_are_not_known_are_refused(method: str) -> None:
    plots = importlib.import_module(f"conceptry.evaluation.{method}.plots")
    one = record(method, FORMS["PIL"])
    with pytest.raises(InputError, match=f"{method} has no view 'no'; expected one of {plots.VIEWS[0]}"):
        plots.draw([one], "no")
    with pytest.raises(InputError, match="no style 'size'"):
        plots.draw([one], size=3)
    if method == "harsanyi":
        with pytest.raises(InputError, match="harsanyi draws one explanation in a figure, got 2"):
            plots.draw([one, one])


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="not a picture"):
        image_of("a.png")
