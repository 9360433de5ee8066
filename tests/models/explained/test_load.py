"""Names that lead to a model and names that do not; ONNX graphs, published weights and classifiers of the zoo."""

import subprocess
import sys
import urllib.error
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.explained import DifferentiableModel, PackagedModel, load_explained, read_explained
from conceptry.models.explained.base import without_folders
from support import environment

ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 4)), columns=list("abcd"))
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)


def export(module: nn.Module, example: torch.Tensor, path: Path, free: bool = True, **options: Any) -> str:
    """Write a module as ONNX, with a free batch dimension or not; returns the name to load it by."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        shapes = ({0: torch.export.Dim("n")},) if free else None
        program = torch.onnx.export(
            module.eval(), (example,), dynamo=True, verbose=False, dynamic_shapes=shapes, **options
        )
    assert program is not None
    program.save(str(path), external_data=False)
    return f"onnx:{path}"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(-1))


@pytest.mark.parametrize("name", ["wine", "zoo", "zoo:", "model:/a/1", "onnx"])
def test_names_of_no_scheme(name: str) -> None:
    with pytest.raises(
        InputError, match=f"unknown model '{name}'; expected one of zoo:NAME, classifier:FOLDER, models"
    ):
        load_explained(name, "cpu")


def test_a_folder_of_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no explained\.json"):
        read_explained(tmp_path, "cpu")


def test_importing_is_light() -> None:
    code = (
        "import sys, conceptry.models.explained; "
        "print({'mlflow', 'sklearn', 'torchvision', 'onnxruntime', 'timm', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("torchvision:resnet18@/home/ann/net.pt", "torchvision:resnet18@net.pt"),
        ("torchvision:resnet18@IMAGENET1K_V1", "torchvision:resnet18@IMAGENET1K_V1"),
        ("timm:test_vit@nets/net.safetensors", "timm:test_vit@net.safetensors"),
        ("onnx:/home/ann/graph.onnx", "onnx:graph.onnx"),
        ("classifier:nets/mine", "classifier:mine"),
        ("models:/churn@champion", "models:/churn@champion"),
        ("runs:/12/model", "runs:/12/model"),
    ],
)
def test_a_package_does_not_tell_where_files_lay(name: str, told: str) -> None:
    assert without_folders(name) == told


def test_an_onnx_table(network: nn.Module, tmp_path: Path) -> None:
    name = export(network, torch.zeros(2, 4), tmp_path / "table.onnx")
    model = load_explained(name, "cpu", statistics=ROWS, outputs="probabilities")
    with torch.no_grad():
        literal = network(torch.tensor(ROWS.to_numpy(np.float32))).numpy()
    np.testing.assert_allclose(model(ROWS), literal, atol=1e-6)
    assert isinstance(model, PackagedModel)
    assert not isinstance(model, DifferentiableModel)
    model.save(tmp_path / "explained")
    (tmp_path / "table.onnx").unlink()
    read = read_explained(tmp_path / "explained", "cpu")
    np.testing.assert_array_equal(read(ROWS), model(ROWS))
    assert (read.lineage, read.columns, read.form) == (model.lineage, model.columns, "probabilities")
    assert read.name == "onnx:table.onnx"


def test_onnx_with_weights_in_a_file_beside_it(network: nn.Module, tmp_path: Path) -> None:
    import onnx

    name = export(network, torch.zeros(2, 4), tmp_path / "whole.onnx")
    options: Any = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save_model(onnx.load(str(tmp_path / "whole.onnx")), str(tmp_path / "split.onnx"), **options)
    model = load_explained(f"onnx:{tmp_path / 'split.onnx'}", "cpu", statistics=ROWS)
    model.save(tmp_path / "explained")
    digest = model.lineage["explained_sha256"]
    whole = load_explained(name, "cpu", statistics=ROWS)
    np.testing.assert_allclose(read_explained(tmp_path / "explained", "cpu")(ROWS), whole(ROWS), atol=1e-6)
    with (tmp_path / "weights.bin").open("r+b") as stream:
        stream.write(b"\0\0\0\0")
    changed = load_explained(f"onnx:{tmp_path / 'split.onnx'}", "cpu", statistics=ROWS)
    assert changed.lineage["explained_sha256"] != digest


def test_an_onnx_graph_over_pictures(tmp_path: Path) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model = load_explained(export(network, torch.zeros(2, 3, 40, 50), tmp_path / "image.onnx"), "cpu")
    assert model.modality == "image"
    literal = network(torch.tensor(PICTURES).permute(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(model(PICTURES), literal, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "free", "message"),
    [((2, 4), False, "takes batches of exactly 2; export it with a free"), ((2, 4, 5), True, r"shape \(batch, 4, 5\)")],
)
def test_onnx_graphs_that_are_refused(tmp_path: Path, shape: tuple[int, ...], free: bool, message: str) -> None:
    name = export(nn.ReLU(), torch.zeros(shape), tmp_path / "graph.onnx", free)
    with pytest.raises(InputError, match=message):
        load_explained(name, "cpu", statistics=ROWS)


def test_onnx_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; expected an ONNX graph"):
        load_explained(f"onnx:{tmp_path / 'none.onnx'}", "cpu")


def test_published_weights_come_with_their_preprocessing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = squeezenet1_1(weights=None).eval()
    asked = {}

    def state(weights: Any, **options: Any) -> Any:
        asked.update(options)
        return original.state_dict()

    monkeypatch.setattr(SqueezeNet1_1_Weights, "get_state_dict", state)
    drawn = torch.random.get_rng_state()
    model = load_explained("torchvision:squeezenet1_1", "cpu")
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert asked["weights_only"] is True
    assert asked["check_hash"] is True
    assert model.name == "torchvision:squeezenet1_1@IMAGENET1K_V1"
    assert isinstance(model, DifferentiableModel)
    assert (model.form, len(model.classes), model.classes[0]) == ("logits", 1000, "tench")
    transform: Any = SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    with torch.no_grad():
        literal = original(transform(torch.tensor(PICTURES).permute(0, 3, 1, 2) / 255)).numpy()
    np.testing.assert_allclose(model(PICTURES), literal, atol=1e-5)
    x = model.encode(PICTURES[:1]).requires_grad_()
    assert torch.autograd.grad(model.forward(x)[:, 0].sum(), x)[0].abs().sum() > 0
    model.save(tmp_path / "explained")
    monkeypatch.undo()
    read = read_explained(tmp_path / "explained", "cpu")
    np.testing.assert_array_equal(read(PICTURES), model(PICTURES))
    assert read.lineage == model.lineage


def test_published_weights_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet18_Weights

    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(InputError, match=r"resnet18@IMAGENET1K_V1: its weights are not in the cache.*no route to host"):
        load_explained("torchvision:resnet18", "cpu")
    with pytest.raises(InputError, match="no image classifier 'resnt18'; did you mean resnet18"):
        load_explained("torchvision:resnt18", "cpu")
    with pytest.raises(InputError, match="resnet18 has no weights 'V9'; did you mean"):
        load_explained("torchvision:resnet18@V9", "cpu")


def test_timm_with_its_preprocessing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **options | {"pretrained": False}))
    model = load_explained("timm:test_vit", "cpu")
    assert isinstance(model, DifferentiableModel)
    assert (model.form, model.classes[:2]) == ("logits", ("tench", "goldfish"))
    model.save(tmp_path / "explained")
    read = read_explained(tmp_path / "explained", "cpu")
    np.testing.assert_array_equal(read(PICTURES), model(PICTURES))
    with pytest.raises(InputError, match="timm has no model 'test_vot'; did you mean test_vit"):
        load_explained("timm:test_vot", "cpu")


def test_classifiers_of_the_zoo_and_of_a_folder(tmp_path: Path) -> None:
    model = load_explained("zoo:wine", "cpu")
    assert isinstance(model, DifferentiableModel)
    assert isinstance(model, PackagedModel)
    rows = pd.DataFrame([{column.name: column.median for column in model.columns}])
    model.save(tmp_path / "explained")
    read = read_explained(tmp_path / "explained", "cpu")
    assert (read.name, read.lineage, read.columns) == ("zoo:wine", model.lineage, model.columns)
    np.testing.assert_array_equal(read(rows), model(rows))
    folder = load_explained(f"classifier:{tmp_path / 'explained'}", "cpu")
    assert folder.lineage["explained_sha256"] == model.lineage["explained_sha256"]
    folder.save(tmp_path / "again")
    assert read_explained(tmp_path / "again", "cpu").name == "classifier:explained"
    with pytest.raises(InputError, match="zoo:wine: its outputs are logits, not probabilities"):
        load_explained("zoo:wine", "cpu", outputs="probabilities")
    with pytest.raises(InputError, match="statistics are for tables of models that do not bring their own"):
        load_explained("zoo:wine", "cpu", statistics=rows)
    with pytest.raises(InputError, match="wyne"):
        load_explained("zoo:wyne", "cpu")
