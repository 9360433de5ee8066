"""The explainer object: what goes in, that it answers as a server does, and that it gets into the registry and back."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from torch import nn

import conceptry
from conceptry import registry
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.models.method import load_method, make_options
from conceptry.models.perturbation import Perturbation, Settings, counterfactual, explain_error
from conceptry.models.perturbation.settings import MODES
from support import environment


@pytest.fixture(scope="module")
def explainer() -> Perturbation:
    return Perturbation("zoo:digits-robust", device="cpu", steps=6)


@pytest.fixture(scope="module")
def images(pictures: np.ndarray) -> np.ndarray:
    return pictures


def same(first: list[dict], second: list[dict]) -> None:
    """Answers, of which one side may hold bytes and the other base64 text."""

    def plain(value):
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, (list, np.ndarray)) else value

    assert [plain(row) for row in first] == [plain(row) for row in second]


def test_images_in_every_form_are_the_same_image(explainer, images, tmp_path: Path) -> None:
    image = Image.fromarray(images[0])
    content = png_bytes(image)
    path = tmp_path / "digit.png"
    path.write_bytes(content)
    pixels = torch.from_numpy(images[0][..., 0].copy()).float()[None] / 255
    forms = [
        image, image.convert("L"), path, str(path), content, base64.b64encode(content).decode(), images[0],
        images[0][..., 0], torch.from_numpy(images[0]).permute(2, 0, 1), pixels,
    ]  # fmt: skip
    wanted = explainer.explain(image, target=3)
    for form in forms:
        same(explainer.explain(form, target="3").answers(), wanted.answers())
    assert len(explainer.explain(forms, target=3)) == len(forms)
    for batch in (images[:2], torch.stack([pixels, pixels]), list(images[:2])):
        assert torch.equal(explainer.explain(batch, target=3).explanation.start[:1], wanted.explanation.start)
    rows = [{"image": content, "target": "3"}]
    same(explainer.explain(rows).answers(), wanted.answers())
    same(explainer.explain(rows[0]).answers(), wanted.answers())
    table = explainer.explain(pd.DataFrame([*rows, {"image": content}]))
    assert torch.equal(table.explanation.start[:1], wanted.explanation.start)
    assert table.explanation.targeted.tolist() == [True, False]
    assert explainer.explain([path, image], target=3).drawable()[0]["file"] == str(path)


def test_one_image_toward_several_classes_and_several_away_from_one(explainer, images) -> None:
    several = explainer.explain(images[0], target=["3", 5, 7])
    assert [answer["target"] for answer in several.answers()] == ["3", "5", "7"]
    away = explainer.explain(images[:3], source=[0, 1, 2])
    assert not away.explanation.targeted.any()
    assert [answer["source"] for answer in away.answers()] == ["0", "1", "2"]
    mixed = explainer.explain(images[:3], target=[None, 4, None])
    assert mixed.explanation.targeted.tolist() == [False, True, False]


@pytest.mark.parametrize("mode", MODES)
def test_it_answers_as_a_server_does(explainer, images, mode, perturbation_version) -> None:
    served = registry.load(perturbation_version.uri)
    files = [png_bytes(Image.fromarray(image)) for image in images[:3]]
    asked = {
        "probe": ({}, {"target": ["3", "4", "5"]}),
        "counterfactual": ({"image": files}, {"target": ["7", "8", "9"]}),
        "explain_error": ({"image": files}, {"target": ["0", "1", "2"], "source": ["4", "5", "6"]}),
        "invert": ({"image": files}, {"source": files[::-1]}),
    }[mode]
    params = {"steps": 4, "dq": 0.05, "seed": 3, "epsilon": 12.0}
    found = explainer.explain(images[:3] if asked[0] else None, mode=mode, details=True, **asked[1], **params)
    table = pd.DataFrame({**asked[0], **asked[1]}, dtype=object)
    wanted = served.predict(table, params={**params, "mode": mode, "details": True}).to_dict("records")
    same(found.answers(), wanted)
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.to_dict()["method"] == "perturbation"
    assert "start" not in explainer.explain(images[:1], target=1, steps=1).answers()[0]


def test_inside_of_inference_mode(explainer, images) -> None:
    wanted = explainer.explain(images[:2], target=3).answers()
    with torch.inference_mode():
        same(explainer.explain(images[:2], target=3).answers(), wanted)


def test_tensors_are_those_of_the_functions(explainer, images) -> None:
    settings = Settings(steps=6)
    found = explainer.explain(images[:4], target=[9, 8, 7, 6])
    wanted = counterfactual(explainer.model, images[:4], [9, 8, 7, 6], settings=settings)
    assert torch.equal(found.explanation.perturbed, wanted.perturbed)
    assert torch.equal(found.explanation.after, wanted.after)
    assert found.other is None
    error = explainer.explain(images[:2], mode="explain_error", target=[0, 1], source=[8, 7])
    truth, wrong = explain_error(explainer.model, images[:2], [0, 1], [8, 7], settings=settings)
    assert torch.equal(error.explanation.perturbed, truth.perturbed)
    assert error.other is not None
    assert torch.equal(error.other.perturbed, wrong.perturbed)
    assert repr(error) == f"Perturbations(zoo:digits-robust, explain_error, {int(truth.success.sum())} of 2 reached)"


def test_large_requests_are_put_together_in_order(explainer, images) -> None:
    heard: list[tuple[str, float]] = []
    targets = [k % 10 for k in range(70)]
    cells = [{"target": k, "image": images[k]} if k % 3 else {"target": k} for k in targets]
    found = explainer.explain(cells, mode="probe", steps=1, progress=lambda text, share: heard.append((text, share)))
    assert len(found.batches) == 2
    assert found.explanation.targets.tolist() == targets
    assert [answer["target"] for answer in found.answers()] == [str(k) for k in targets]
    assert [record["probe"] for record in found.drawable()] == [k % 3 == 0 for k in targets]
    assert {text for text, _ in heard} == {"probe"}
    assert [share for _, share in heard] == sorted(share for _, share in heard)
    assert heard[-1][1] == pytest.approx(1)


def test_a_record_is_drawn_and_shown(explainer, images) -> None:
    found = explainer.explain(images[:2], target=[3, 4])
    figure = found.plot()
    assert sum(len(axes.images) for axes in figure.axes) == 6  # start, result, change
    html = found._repr_html_()
    assert html.count("<img ") == 6
    assert "pixels changed" in html
    with pytest.raises(InputError, match="there is no path"):
        found.plot(view="path")
    searched = explainer.explain(images[0], target=6, sparsest=True)
    assert searched.plot(view="path").axes
    with pytest.raises(InputError, match="perturbation has no view 'graph'; expected one of grid, path"):
        found.plot(view="graph")


def test_two_networks_are_drawn_below_one_another(explainer) -> None:
    robust = explainer.explain(None, target=[3, 7, 0])
    standard = Perturbation("zoo:digits", device="cpu", steps=6).explain(None, target=[3, 7, 0])
    both = robust.beside(standard)
    assert both.titles == ["zoo:digits-robust", "zoo:digits"]
    assert [answer["version"] for answer in both.answers()] == ["zoo:digits-robust"] * 3 + ["zoo:digits"] * 3
    figure = both.plot()
    assert sum(len(axes.images) for axes in figure.axes) == 3 * 5  # one row of starts, two of results and changes
    assert {"zoo:digits-robust", "zoo:digits"} <= {text.get_text() for text in figure.findobj(Text)}
    assert both._repr_html_().count("<h4>") == 2
    l2 = explainer.explain(None, target=[3, 7, 0], optimizer="l2_projected")
    assert robust.beside(l2, l2).titles == [
        "zoo:digits-robust, optimizer l1q_frank_wolfe", "zoo:digits-robust, optimizer l2_projected",
        "zoo:digits-robust, optimizer l2_projected (3)",
    ]  # fmt: skip
    with pytest.raises(InputError, match="records beside each other must answer the same rows, got 3 and 1"):
        robust.beside(explainer.explain(None, target=1))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"epsilom": 1.0}, "unknown param 'epsilom' of perturbation; expected one of mode, details, q, dq, epsilon"),
        ({"clip": False}, "unknown param 'clip' of perturbation; expected one of"),
        ({"steps": "many"}, "steps must be of type int, got 'many'"),
        ({"steps": 0}, "steps must be 1 to 10,000, got 0"),
        ({"mode": "dream"}, "mode must be one of probe, counterfactual, explain_error, invert, got 'dream'"),
        ({"target": "ten"}, "row 0, column 'target': zoo:digits-robust has no class 'ten'"),
        ({"target": [1, 2, 3]}, "image: expected one for all rows or one for each, got 2 of image, 3 of target"),
        ({"images": None, "target": None}, "there is nothing to explain; expected at least one image, or a target"),
        ({"images": []}, "there is nothing to explain; expected at least one image, or a target"),
        ({"images": np.zeros((8, 8, 3))}, "row 0, column 'image': an array is uint8 .*, got float64 of shape"),
        ({"images": torch.zeros(2, 8)}, r"row 0, column 'image': a tensor is pixels .* got torch.float32 of shape"),
        ({"images": "nowhere.png"}, "row 0, column 'image': nowhere.png: no such file"),
        ({"images": "not an image"}, "row 0, column 'image': not a picture: expected PNG"),
        ({"images": [{"picture": 1}], "target": None}, "row 0: unknown column 'picture'; expected some of image"),
        ({"images": [{"target": 1}]}, "a table has its own targets and sources; leave target and source out"),
        ({"images": 7}, "expected one or several of them, got a int"),
    ],
)
def test_what_cannot_be_answered_is_named(explainer, images, arguments, sentence) -> None:
    given = {"images": images[:2], "target": 1} | arguments
    if given["images"] is not images and not isinstance(given["images"], np.ndarray):
        given = {"mode": "probe"} | given if arguments.get("images") is None and "images" in arguments else given
    with pytest.raises(InputError, match=sentence):
        explainer.explain(given.pop("images"), **given)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"stepz": 3}, "unknown setting 'stepz' of perturbation; expected one of mode, optimizer, q"),
        ({"steps": 3.5}, "steps must be of type int, got 3.5"),
        ({"settings": Settings(), "steps": 3}, "settings are given as one object, so leave steps out"),
        ({"model": "zoo:wine"}, "zoo:wine: takes table, expected a network over pictures"),
        ({"classes": ["a"] * 10}, "zoo:digits-robust: brings its own classes; leave it out"),
        ({"mean": [0.5], "std": [0.5]}, "zoo:digits-robust: brings its own std; leave it out"),
        ({"model": 3}, "int: takes nothing known, expected a network over pictures"),
    ],
)
def test_what_is_no_explainer_is_named(arguments, sentence) -> None:
    with pytest.raises(InputError, match=sentence):
        Perturbation(**{"model": "zoo:digits-robust", "device": "cpu"} | arguments)


def colour_network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    return nn.Sequential(*layers)


def test_a_module_of_the_users_own(tmp_path: Path) -> None:
    module = colour_network().train()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    explainer = Perturbation(module, size=12, mean=mean, std=std, classes=["cat", "dog", "owl"], steps=3, q=0.8)
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(12, 12, 3), dtype=np.uint8)
    found = explainer.explain(image, target="owl")
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    normalised = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        wanted = colour_network().eval()(normalised).softmax(1)
    torch.testing.assert_close(found.explanation.before, wanted)
    assert all(part.training for part in module.modules())
    assert all(p.requires_grad for p in module.parameters())
    assert explainer.classes == ("cat", "dog", "owl")
    larger = explainer.explain(rng.integers(256, size=(30, 20, 3), dtype=np.uint8), target="owl")
    assert larger.explanation.start.shape == (1, 3, 12, 12)
    package = explainer.to_package(tmp_path)
    assert (package.params["model"], package.params["classes"]) == ("Sequential", 3)
    read = load_method("perturbation").read(tmp_path, torch.device("cpu"))
    assert read.classes == explainer.classes
    again = read.explain(image, target="owl").explanation
    torch.testing.assert_close(again.after, found.explanation.after)
    assert read.settings == explainer.settings
    any_size = Perturbation(module, steps=2)
    assert any_size.classes == ("class_0", "class_1", "class_2")
    two = any_size.explain([image, np.zeros((16, 14, 3), np.uint8)], target=1)
    assert [batch.explanations[0].start.shape[2:] for batch in two.batches] == [(12, 12), (16, 14)]
    with pytest.raises(InputError, match="the images have several sizes, so there is no tensor of all"):
        _ = two.explanation
    with pytest.raises(InputError, match="Sequential: takes pictures of any size, so it needs a picture to start from"):
        any_size.explain(None, target=1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"classes": ["a", "b"]}, r"Sequential: expected 3 different names in classes, got \['a', 'b'\]"),
        ({"classes": ["a", "b", "a"]}, "Sequential: expected 3 different names in classes"),
        ({"size": (1, 2, 3)}, r"Sequential: size must be \(height, width\) or one number for both, got \(1, 2, 3\)"),
        ({"mean": (0.5,) * 3}, "Sequential: mean and std must be one number for each channel, and std above 0"),
        ({"mean": (0.5,), "std": (0.5,)}, "Sequential: the model failed on 2 samples"),
        ({"size": 1}, "Sequential: the model failed on 2 samples"),
        ({"outputs": "values"}, "Sequential: puts out values, not classes; expected a classifier"),
    ],
)
def test_what_does_not_fit_a_module_is_named(arguments, sentence) -> None:
    with pytest.raises(InputError, match=sentence):
        Perturbation(colour_network(), **arguments)


def test_classes_and_preprocessing_of_a_file(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=3)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    name = f"torchvision:squeezenet1_1@{tmp_path / 'net.pth'}"
    half = (0.5, 0.5, 0.5)
    explainer = Perturbation(name, classes=["cat", "dog", "owl"], size=48, mean=half, std=half, steps=2)
    image = np.random.default_rng(0).integers(256, size=(48, 48, 3), dtype=np.uint8)
    found = explainer.explain(image, target="owl")
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        wanted = network.eval()((pixels - 0.5) / 0.5).softmax(1)
    torch.testing.assert_close(found.explanation.before, wanted, rtol=1e-4, atol=1e-5)
    (tmp_path / "package").mkdir()
    package = explainer.to_package(tmp_path / "package")
    assert package.notes == ()
    again = load_method("perturbation").read(tmp_path / "package", torch.device("cpu"))
    assert again.classes == ("cat", "dog", "owl")
    same(again.explain(image, target="owl").answers(), found.answers())
    with pytest.raises(InputError, match="expected 3 numbers in mean and std, got 1"):
        Perturbation(name, mean=[0.5], std=[0.5])


def test_an_object_that_is_a_pixel_model(user_network, tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = user_network(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    explainer = Perturbation(own, steps=2, q=0.5)
    assert explainer.explain(torch.rand(2, 1, 4, 4), target="yes").explanation.targets.tolist() == [1, 1]
    with pytest.raises(InputError, match="mine: an object of the class UserNetwork cannot be packaged; log its"):
        explainer.to_package(tmp_path)
    with pytest.raises(InputError, match="size is of a module or a name, and a UserNetwork says what it is"):
        Perturbation(own, size=4)


def test_packages_of_options_and_of_objects_are_the_same_bytes(tmp_path: Path) -> None:
    method = load_method("perturbation")
    options = {"model": "zoo:digits", "mode": "probe", "steps": 7}
    contents = []
    for name, write in (
        ("options", lambda folder: method.build(make_options(method, options), folder)),
        ("object", Perturbation(**options, device="cpu").to_package),
    ):
        folder = tmp_path / name
        folder.mkdir()
        package = write(folder)
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        contents.append((files, package))
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("store")
def test_it_gets_into_the_registry_and_back(images) -> None:
    import mlflow

    explainer, equal = (Perturbation("zoo:digits-robust", device="cpu", steps=5, q=0.8) for _ in range(2))
    for either in (explainer, equal):  # the second one is the version that is there
        info = conceptry.log_model(either, registered_model_name="object-perturbation")
        assert info.registered_model_version == 1
    wanted = explainer.explain(images[:2], target=[4, 5]).answers()
    loaded = conceptry.load_model("object-perturbation/1", device="cpu")
    assert isinstance(loaded, Perturbation)
    assert loaded.settings == explainer.settings
    same(loaded.explain(images[:2], target=[4, 5]).answers(), wanted)
    files = [png_bytes(Image.fromarray(image)) for image in images[:2]]
    table = pd.DataFrame({"image": files, "target": ["4", "5"]}, dtype=object)
    served = mlflow.pyfunc.load_model("models:/object-perturbation/1").predict(table)
    same(served.to_dict("records"), wanted)


def test_making_one_imports_no_mlflow() -> None:
    script = (
        "import sys, conceptry; assert 'torch' not in sys.modules; "
        "conceptry.Perturbation('zoo:digits', device='cpu', steps=1).explain(None, target=1).answers(); "
        "assert 'mlflow' not in sys.modules and 'pandas' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=environment())
