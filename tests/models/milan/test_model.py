"""The explainer in Python: units by name and by their exemplars, what comes back, and the way into the registry."""

import gc
import io
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import colours
import conceptry
from conceptry import Milan, load_model, log_model, save_model
from conceptry.models.errors import InputError
from conceptry.models.images import decode_image, decode_mask, image_bytes
from conceptry.models.milan import ArraySource, UnitDescriptions, load_describer, read_results
from conceptry.models.milan.exemplars.records import LayerExemplars
from conceptry.registry import find_version

pytestmark = pytest.mark.usefixtures("store")  # of a registered version that others of this file are compared with


@pytest.fixture(scope="module")
def milan(milan_options: dict[str, str]) -> Milan:
    return Milan(**milan_options)


def exemplars(layer: str = "first", unit: int = 0) -> tuple[np.ndarray, np.ndarray]:
    found = colours.exemplars(layer).unit(unit)
    return found.images, found.masks


@pytest.mark.parametrize(
    ("units", "names", "texts"),
    [
        ("first:1", ["first:1"], ["Green"]),
        (("first", 2), ["first:2"], ["Blue"]),
        ("7", ["7:2", "7:5", "7:11"], ["Green", "Red", "Blue"]),
        ("7:11", ["7:11"], ["Blue"]),
        ((7, np.int64(5)), ["7:5"], ["Red"]),
        ("first:0-1", ["first:0", "first:1"], ["Red", "Green"]),
        (["first:3", ("7", 2), "first:0"], ["first:3", "7:2", "first:0"], ["", "Green", "Red"]),
        ([], [], []),
    ],
)
def test_units_by_name(milan: Milan, units: Any, names: list[str], texts: list[str]) -> None:
    record = milan.explain(units)
    assert [unit.name for unit in record] == names
    assert record.texts == texts
    assert [unit.active for unit in record] == [bool(text) for text in texts]


def test_an_explanation_keeps_its_exemplars_and_scores(milan: Milan) -> None:
    (unit,) = milan.explain("first:0")
    images, masks = exemplars()
    np.testing.assert_array_equal(unit.exemplars.images, images)
    np.testing.assert_array_equal(unit.exemplars.masks, masks)
    likely = colours.log_likelihoods((255, 0, 0))[0]
    assert unit.score == pytest.approx(likely - 0.2 * colours.LM, abs=1e-5)
    assert unit.description.pmi == pytest.approx(likely - colours.LM, abs=1e-5)
    (other,) = milan.explain("first:0", temperature=0.7, alternatives=1)
    assert other.score == pytest.approx(likely - 0.7 * colours.LM, abs=1e-5)
    assert len(other.alternatives) == 1
    assert milan.settings.temperature == 0.2


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def test_exemplars_of_another_network_in_any_form(milan: Milan, tmp_path: Path) -> None:
    images, masks = exemplars()
    (expected,) = milan.explain("first:0").answers()
    files = [np.moveaxis(image, 0, -1) for image in images]
    shades = [mask[0] * np.uint8(255) for mask in masks]
    for number, (image, shade) in enumerate(zip(files, shades, strict=True)):
        Image.fromarray(image).save(tmp_path / f"image-{number}.png")
        Image.fromarray(shade).save(tmp_path / f"mask-{number}.png")
    paths = {kind: [tmp_path / f"{kind}-{number}.png" for number in range(len(images))] for kind in ("image", "mask")}
    pil = [Image.fromarray(image) for image in files], [Image.fromarray(shade) for shade in shades]
    for given in (
        (images, masks),
        (torch.tensor(images), torch.tensor(masks).bool()),
        (images / 255.0, masks.astype(np.float32)),
        (torch.tensor(images) / 255, torch.tensor(masks) * 255),
        (list(torch.tensor(images)), list(torch.tensor(masks))),
        pil,
        ([png(image) for image in files], [png(shade) for shade in shades]),
        (paths["image"], [str(path) for path in paths["mask"]]),
    ):
        (answer,) = milan.explain(images=given[0], masks=given[1]).answers()
        assert answer | {
            "layer": "first",
            "unit": 0,
            "ids": expected["ids"],
            "activations": expected["activations"],
        } == (expected)
        assert (answer["layer"], answer["unit"], answer["ids"]) == ("", -1, [])
    several = [exemplars("first", unit) for unit in (2, 3, 0)]
    record = milan.explain(images=np.stack([i for i, _ in several]), masks=np.stack([m for _, m in several]))
    assert record.texts == ["Blue", "", "Red"]


def test_without_a_network_exemplars_are_described_alone(colour_describer: Path) -> None:
    explainer = Milan(describer=colour_describer, strategy="greedy")
    images, masks = exemplars("first", 1)
    assert explainer.explain(images=images, masks=masks).texts == ["Green"]
    assert explainer.layers == ()
    with pytest.raises(InputError, match="has no network; give images and masks, or make it with a network"):
        explainer.explain("first:1")
    with pytest.raises(InputError, match="a version describes the units of a network: make Milan with a network"):
        save_model(explainer, colour_describer / "never")


def test_answers_are_those_of_a_served_version(milan: Milan, milan_version) -> None:
    served = mlflow.pyfunc.load_model(milan_version.uri)
    rows = pd.DataFrame({"layer": ["first", "7", "first"], "unit": [0, 11, 3]})
    params = {"strategy": "beam", "alternatives": 2, "exemplars": True}
    answers = milan.explain(["first:0", "7:11", "first:3"], **params).answers()
    json.dumps(answers, allow_nan=False)
    for answer, row in zip(answers, served.predict(rows, params).to_dict("records"), strict=True):
        assert answer.keys() == row.keys()
        files = {name: [image_bytes(content) for content in answer[name]] for name in ("images", "masks")}
        assert answer | files == row
    assert milan.explain("first:0").answers()[0]["images"] == []
    (delivered,) = milan.explain("first:0", exemplars=True).answers()
    images, masks = exemplars()
    np.testing.assert_array_equal(
        np.asarray(decode_image(image_bytes(delivered["images"][1]))).transpose(2, 0, 1), images[1]
    )
    np.testing.assert_array_equal(decode_mask(image_bytes(delivered["masks"][1])), masks[1, 0] == 1)


def test_a_record_is_written_drawn_and_shown(milan: Milan) -> None:
    record = milan.explain(["first:0", "first:3"])
    assert isinstance(record, UnitDescriptions)
    assert record.to_dict() == {"method": "milan", "explanations": record.answers()}
    assert json.loads(record.to_json()) == record.to_dict()
    assert repr(record) == "UnitDescriptions(first:0: 'Red', first:3: '')"
    figure = record.plot()
    assert isinstance(figure, Figure)
    shown = [text.get_text() for text in figure.texts]
    assert {"first, unit 0", "Red", "first, unit 3"} <= set(shown)
    page = record._repr_html_()
    assert page.count("<img ") == 2
    assert "first:0" in page
    assert "never active" in page
    images, masks = exemplars()
    given = milan.explain(images=np.stack([images, images]), masks=np.stack([masks, 1 - masks]))
    assert [entry["sample"] for entry in given.drawable()] == ["unit 0", "unit 1"]
    assert isinstance(given.plot(), Figure)
    with pytest.raises(InputError, match="units"):
        record.plot("no-view")


@pytest.mark.parametrize(
    ("units", "given", "sentence"),
    [
        ("frist:0", {}, "there is no layer 'frist' among these exemplars; expected one such as first"),
        ("first:9", {}, "layer first has no unit 9; expected 0 to 3"),
        ("7:3", {}, "layer 7 has no unit 3; expected one such as "),
        ("first:2-1", {}, "'first:2-1': expected LAYER:FIRST-LAST in ascending order"),
        ("first:0-99999999", {}, "layer first has no unit 99999999"),
        ([3], {}, r"a unit is named LAYER:UNIT or \(layer, unit\), got 3"),
        (None, {}, "no unit is named; expected LAYER:UNIT or LAYER, such as 7:0"),
        ("first:0", {"temprature": 1}, "unknown param 'temprature' of milan; expected one of strategy, temperature"),
        ("first:0", {"temperature": "hot"}, "temperature must be of type float, got 'hot'"),
        ("first:0", {"beam_size": 0}, "beam_size must be from 1"),
        ("first:0", {"images": exemplars()[0]}, "units and images are both given"),
        (None, {"images": exemplars()[0]}, "images are given without masks"),
        (None, {"images": exemplars()[0], "masks": exemplars()[1][:2]}, r"images must be \(k, 3, H, W\) and masks"),
        (None, {"images": exemplars()[0] * 2.0, "masks": exemplars()[1]}, r"not pictures in \[0, 1\], got values from"),
        (None, {"images": "x.png", "masks": exemplars()[1]}, "images must be an array, a tensor or a list of images"),
        (None, {"images": ["none.png"], "masks": exemplars()[1]}, "image 0: none.png: no such file"),
        (
            None,
            {"images": [Image.new("RGB", (4, 4)), Image.new("RGB", (5, 4))], "masks": exemplars()[1]},
            r"images must be of one size, got \(3, 4, 4\) and \(3, 4, 5\)",
        ),
    ],
)
def test_what_is_asked_wrongly(milan: Milan, units: Any, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        milan.explain(units, **given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"temprature": 1}, "unknown setting 'temprature' of Milan; expected one of strategy"),
        ({"beam_size": 2.5}, "beam_size must be of type int, got 2.5"),
        ({"describer": 3}, "describer must be a name, a folder, a Describer or a ClipDissect, got int"),
        (
            {"clip_encoder": 3},
            "clip_encoder must be the name of a dual encoder or one that",
        ),
        ({"exemplars": []}, r"exemplars must be a folder or LayerExemplars by layer, got \[\]"),
        ({"network": 3, "data": "zoo:digits"}, "expected the name of a network or a torch module, got int"),
        ({"network": nn.Identity()}, "Identity: the exemplars of one's own network need data to choose from"),
        ({"network": nn.Identity(), "data": np.zeros((4, 8, 8, 3), np.uint8), "size": 2}, "give a smaller data set"),
        ({"describer": "clip-dissect"}, "clip-dissect asks how frequent words are in the data of exemplars; give some"),
        ({"clip": True, "clip_encoder": "none"}, "clip needs a dual encoder; name it as clip_encoder"),
    ],
)
def test_what_is_made_wrongly(colour_describer: Path, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Milan(**({"describer": colour_describer} | given))


class Eyes(nn.Module):
    """A unit for each channel of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.sight = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.sight.weight[:] = (1.5 * torch.eye(3) - 0.5)[:, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sight(x).mean((2, 3))


class Scenes(torch.utils.data.Dataset):
    """Squares of three colours, as tensors in [0, 1]."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(colours.scene(colours.WORDS[index % 3], index)[0]) / 255


@pytest.mark.parametrize("data", [Scenes(), np.stack([np.moveaxis(colours.scene(colours.WORDS[i % 3], i)[0], 0, -1)
                                                     for i in range(12)])], ids=["dataset", "array"])  # fmt: skip
def test_a_network_of_ones_own(colour_describer: Path, data: Any) -> None:
    explainer = Milan(Eyes(), load_describer(f"describer:{colour_describer}"), data=data, layers="sight", k=3)
    assert explainer.explain("sight").texts == ["Red", "Green", "Blue"]
    assert repr(explainer) == f"Milan(sight (3 units); describer:{colour_describer})"


def test_computed_exemplars_last_as_long_as_someone_holds_them(colour_describer: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    explainer = Milan(Eyes(), colour_describer, data=Scenes(), layers=["sight"], k=3, units={"sight": [2, 0]})
    (folder,) = tmp_path.iterdir()
    record = explainer.explain("sight")
    del explainer
    gc.collect()
    assert folder.is_dir()
    assert record.texts == ["Blue", "Red"]
    assert record[0].exemplars.images.shape == (3, 3, 32, 32)
    del record
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="has no layer 'eyes'"):
        Milan(Eyes(), colour_describer, data=Scenes(), layers=["eyes"], k=3)
    assert list(tmp_path.iterdir()) == []
    Milan(Eyes(), colour_describer, data=Scenes(), layers=["sight"], k=3, directory=tmp_path / "kept")
    assert list(read_results(tmp_path / "kept")) == ["sight"]


def test_names_and_objects_are_one_version(milan: Milan, milan_options, milan_version, tmp_path: Path) -> None:
    info = log_model(milan, registered_model_name="tiny-milan")
    assert info.registered_model_version == milan_version.version
    objects = Milan(
        read_results(Path(milan_options["exemplars"])),
        load_describer(milan_options["describer"]),
        clip_encoder=milan_options["clip_encoder"],
        name="palette",
        data="squares",
    )
    info = log_model(objects, registered_model_name="tiny-milan")
    assert info.registered_model_version == milan_version.version


def test_a_describer_and_a_network_of_ones_own_are_registered(colour_describer: Path) -> None:
    describer = load_describer(f"describer:{colour_describer}")
    describer.name = "just trained"
    made = Milan(Eyes(), describer, data=Scenes(), layers=["sight"], k=3, name="eyes", strategy="beam")
    expected = made.explain("sight", exemplars=True).answers()
    info = log_model(made, name="own-eyes", registered_model_name="own-eyes")
    version = find_version("own-eyes/1")
    named = {"model": "eyes", "describer": "just trained", "data": "Scenes", "layers": "sight", "strategy": "beam"}
    assert named.items() <= version.params.items()
    assert version.lineage["explained_model"] == "eyes"
    assert log_model(made, registered_model_name="own-eyes").registered_model_version == info.registered_model_version
    again = Milan(Eyes(), describer, data=Scenes(), layers=["sight"], k=3, name="eyes", strategy="beam")
    assert log_model(again, registered_model_name="own-eyes").registered_model_version == info.registered_model_version
    read = load_model("own-eyes/1")
    assert isinstance(read, conceptry.Milan)
    assert read.explain("sight", exemplars=True).answers() == expected
    rows = pd.DataFrame({"layer": ["sight"] * 3, "unit": [0, 1, 2]})
    served = mlflow.pyfunc.load_model(info.model_uri).predict(rows, {"exemplars": True})
    for answer, row in zip(expected, served.to_dict("records"), strict=True):
        files = {name: [image_bytes(content) for content in answer[name]] for name in ("images", "masks")}
        assert answer | files == row
    with pytest.raises(InputError, match="was read from a version, which alone knows its network and data; log"):
        log_model(read, registered_model_name="own-eyes")
    assert version.fingerprint == version.recorded.fingerprint


def test_a_saved_explainer_ranks_by_its_encoder_again(milan: Milan, tmp_path: Path) -> None:
    save_model(milan, tmp_path / "saved")
    read = load_model(tmp_path / "saved")
    assert read.may_rank
    for params in ({"clip": True, "beam_size": 4, "length": 3}, {"strategy": "greedy"}, {}):
        assert read.explain("7", **params).answers() == milan.explain("7", **params).answers()


def test_words_of_ones_own(milan_options: dict[str, str]) -> None:
    pixels = np.stack([np.moveaxis(colours.scene(colours.WORDS[i % 3], i)[0], 0, -1) for i in range(6)])
    source = ArraySource("squares", pixels)
    words = Milan(
        exemplars=milan_options["exemplars"], describer="clip-dissect", data=source, words=["red", "green", "blue"]
    )
    record = words.explain("first:0-2", alternatives=2)
    assert set(record.texts) <= {"red", "green", "blue"}
    assert [len(unit.alternatives) for unit in record] == [2, 2, 2]
    again = Milan(exemplars=milan_options["exemplars"], describer=words.describer.words)  # type: ignore[attr-defined]
    assert again.explain("first:0-2", alternatives=2).answers() == record.answers()
    with pytest.raises(InputError, match="strategy is of describers that search for words one after another"):
        again.explain("first:0", strategy="greedy")


def test_layers_are_chosen_among_exemplars() -> None:
    found = {layer: colours.exemplars(layer) for layer in colours.UNITS}
    assert isinstance(found["7"], LayerExemplars)
    assert Milan(found, layers=["7"]).layers == ("7",)
    with pytest.raises(InputError, match="exemplars: holds no layer 'eight'; expected one such as first, 7"):
        Milan(found, layers=["eight"])
