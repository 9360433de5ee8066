"""Torch modules as MLflow logs them: pt2, differentiable where gradients pass, of any size of batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained import DifferentiableModel, PixelModel, load_explained, read_explained
from conceptry.models.explained.image_inputs import Scaling, to_pixels

ROWS = pd.DataFrame(np.random.default_rng(0).normal(2.0, [1, 5, 0.1], (40, 3)).astype(np.float32), columns=list("abc"))


class Rounded(nn.Module):
    """Piecewise constant and cut off from its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().round()


class Cloud(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(x)).amax(1)


class Picture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x).mean((2, 3))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).eval()


@pytest.fixture(scope="module")
def log(store: str) -> Callable[..., str]:
    """Log a module and return its URI."""
    import mlflow

    def log(module: nn.Module, example: np.ndarray, **options: Any) -> str:
        with mlflow.start_run():
            return mlflow.pytorch.log_model(
                module.eval(), name="network", input_example=example, pip_requirements=["torch"], **options
            ).model_uri

    return log


@pytest.fixture(scope="module")
def uri(log: Callable[..., str], network: nn.Module) -> str:
    return log(network, ROWS.to_numpy()[:2])


def expected(network: nn.Module, rows: pd.DataFrame) -> np.ndarray:
    with torch.no_grad():
        return network(torch.tensor(rows.to_numpy(np.float32))).numpy()


def test_an_exported_module_is_differentiable_in_units_of_spread(uri: str, network: nn.Module) -> None:
    model = load_explained(uri, "cpu", statistics=ROWS, outputs="logits")
    assert isinstance(model, DifferentiableModel)
    assert (model.form, model.classes, model.requirements) == ("logits", ("class_0", "class_1"), ("torch",))
    np.testing.assert_allclose(model(ROWS), expected(network, ROWS), atol=1e-6)
    x = model.encode(ROWS).requires_grad_()
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.detach().mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(x.detach().std(0, correction=0), 1, atol=1e-4)
    outputs = model.forward(x)
    np.testing.assert_allclose(outputs.detach(), model(ROWS), atol=1e-5)
    (gradient,) = torch.autograd.grad(outputs[:, 1].sum(), x)
    raw = torch.tensor(ROWS.to_numpy(), requires_grad=True)
    (literal,) = torch.autograd.grad(network(raw)[:, 1].sum(), raw)
    spread = torch.tensor([column.std for column in model.columns])
    np.testing.assert_allclose(gradient, literal * spread, rtol=1e-3, atol=1e-6)
    assert model.feature_owner(ROWS).tolist() == [0, 1, 2]


def test_an_unknown_form_is_values_and_a_wrong_one_is_refused(uri: str) -> None:
    model = load_explained(uri, "cpu", statistics=ROWS)
    assert (model.form, model.classes) == ("values", ("output_0", "output_1"))
    with pytest.raises(InputError, match="no probabilities"):
        load_explained(uri, "cpu", statistics=ROWS, outputs="probabilities")


def test_columns_are_counted(uri: str) -> None:
    numbered = ROWS.set_axis(["x1", "x2", "x3"], axis=1).assign(label=1)
    assert [c.name for c in load_explained(uri, "cpu", statistics=numbered).columns] == ["x1", "x2", "x3"]
    with pytest.raises(InputError, match=r"takes 3 unnamed columns, the background rows have 4 .*columns x1 to x3"):
        load_explained(uri, "cpu", statistics=ROWS.assign(label=1))


def test_saved_and_read(uri: str, tmp_path: Path) -> None:
    model = load_explained(uri, "cpu", statistics=ROWS)
    model.save(tmp_path / "explained")
    read = read_explained(tmp_path / "explained", "cpu")
    assert isinstance(read, DifferentiableModel)
    np.testing.assert_array_equal(read(ROWS), model(ROWS))


def test_a_module_without_gradients_is_a_black_box(log: Callable[..., str]) -> None:
    model = load_explained(log(Rounded(), ROWS.to_numpy()[:2]), "cpu", statistics=ROWS)
    assert not isinstance(model, DifferentiableModel)
    np.testing.assert_array_equal(model(ROWS), ROWS.to_numpy().round())


def test_a_module_of_one_size_of_batch_is_refused(log: Callable[..., str], network: nn.Module) -> None:
    uri = log(network, ROWS.to_numpy()[:1])
    with pytest.raises(InputError, match=r"does not take a batch of 2 .*input example of two rows or more"):
        load_explained(uri, "cpu", statistics=ROWS)


def test_a_pickled_module_needs_consent(log: Callable[..., str], network: nn.Module) -> None:
    uri = log(network, ROWS.to_numpy()[:2], serialization_format="pickle")
    with pytest.raises(InputError, match=r"model\.pth is a pickle.*pt2.*--allow-pickle"):
        load_explained(uri, "cpu", statistics=ROWS)
    model = load_explained(uri, "cpu", statistics=ROWS, allow_pickle=True)
    np.testing.assert_allclose(model(ROWS), expected(network, ROWS), atol=1e-6)


def test_an_archive_with_a_pickle_inside_is_refused(uri: str, tmp_path: Path) -> None:
    import zipfile

    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(uri, dst_path=str(tmp_path / "model")))
    load_explained(uri, "cpu", statistics=ROWS).save(tmp_path / "explained")
    archive = tmp_path / "explained" / "model" / "data" / "model.pt2"
    with zipfile.ZipFile(folder / "data" / "model.pt2") as source, zipfile.ZipFile(archive, "w") as target:
        for info in source.infolist():
            target.writestr(info, source.read(info))
        target.writestr("model/data/sample_inputs/evil.pt", b"\x80\x04cos\nsystem\n.")
    with pytest.raises(InputError, match="in a form that may run code when it is read, and is not loaded"):
        read_explained(tmp_path / "explained", "cpu")


def test_pictures_of_any_size(log: Callable[..., str]) -> None:
    network = Picture().eval()
    uri = log(network, np.zeros((2, 3, 16, 12), np.float32))
    model = load_explained(uri, "cpu")
    assert isinstance(model, PixelModel)
    assert model.modality == "image"
    assert model.module.eval() is model.module.train(False)
    assert not any(part.training for part in model.module.modules())
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert "own normalisation" in model.notes[0]
    pictures = np.random.default_rng(0).integers(0, 256, (70, 16, 12, 3), np.uint8)
    with torch.no_grad():
        literal = network(torch.tensor(pictures).permute(0, 3, 1, 2) / 255).numpy()
    np.testing.assert_allclose(model(pictures), literal, atol=1e-5)
    x = model.encode(np.zeros((1, 40, 50, 3), np.uint8)).requires_grad_()
    assert x.shape == (1, 3, 40, 50)
    assert torch.autograd.grad(model.forward(x).sum(), x)[0].shape == x.shape
    owner = model.feature_owner(np.zeros((1, 40, 50, 3), np.uint8))
    assert owner.shape == x.shape[1:]
    assert (owner == -1).all()
    with pytest.raises(InputError, match="takes pictures, for which statistics of a table mean nothing"):
        load_explained(uri, "cpu", statistics=ROWS)
    with pytest.raises(InputError, match=r"pictures must be uint8 of shape .batch, height, width, 3., got float64"):
        model(np.zeros((1, 16, 12, 3)))


def test_clouds_of_points(log: Callable[..., str]) -> None:
    network = Cloud().eval()
    uri = log(network, np.zeros((2, 20, 3), np.float32))
    model = load_explained(uri, "cpu", outputs="logits")
    assert isinstance(model, DifferentiableModel)
    assert (model.modality, len(model.classes)) == ("points", 4)
    clouds = np.random.default_rng(0).normal(size=(5, 20, 3))
    with torch.no_grad():
        literal = network(torch.tensor(clouds, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(model(clouds), literal, atol=1e-6)
    x = model.encode(clouds).requires_grad_()
    assert torch.autograd.grad(model.forward(x).sum(), x)[0].shape == (5, 20, 3)
    np.testing.assert_array_equal(model.feature_owner(clouds), np.arange(20)[:, None].repeat(3, 1))
    with pytest.raises(InputError, match=r"takes clouds of 20 points .batch, points, 3., got .1, 7, 3."):
        model(np.zeros((1, 7, 3)))
    with pytest.raises(InputError, match="takes points, for which statistics of a table mean nothing"):
        load_explained(uri, "cpu", statistics=ROWS)


def test_one_channel_is_the_luma() -> None:
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    grey = Scaling((1, -1, -1)).fit(to_pixels(picture[None], torch.device("cpu")))[0, 0] * 255
    np.testing.assert_allclose(grey, np.asarray(Image.fromarray(picture).convert("L")), atol=1.0)


def test_arrays_of_other_shapes_are_refused(log: Callable[..., str]) -> None:
    uri = log(nn.Flatten(), np.zeros((2, 5, 4), np.float32))
    with pytest.raises(InputError, match=r"shape .batch, 5, 4. and type float32; expected a table"):
        load_explained(uri, "cpu", statistics=ROWS)


class InPlace(Picture):
    """Normalises its input in place, as training code does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5).div_(0.25))


def test_a_network_that_normalises_in_place_leaves_the_pixels_alone() -> None:
    from conceptry.models.explained.loaders.objects import module_of_images

    torch.manual_seed(0)
    model: Any = module_of_images(InPlace(), size=8)
    x = torch.rand(2, 3, 8, 8)
    before = x.clone()
    outputs = model.from_pixels(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(outputs, Picture.forward(model.module, (x - 0.5) / 0.25))
    leaf = x.clone().requires_grad_()
    assert torch.autograd.grad(model.from_pixels(leaf).sum(), leaf)[0].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_of_another_precision_are_called_in_their_own(dtype: torch.dtype) -> None:
    from conceptry.models.explained.loaders.objects import as_explained, module_of_images

    torch.manual_seed(0)
    picture = Picture()
    images = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    model: Any = module_of_images(picture.to(dtype), size=8)
    expected = picture.double()(torch.tensor(images).permute(0, 3, 1, 2).double() / 255).detach()
    np.testing.assert_allclose(model(images), expected, atol=1e-6 if dtype == torch.float64 else 0.02)
    x = model.to_pixels(images).requires_grad_()
    assert torch.autograd.grad(model.from_pixels(x).sum(), x)[0].dtype == torch.float32
    table: Any = as_explained(nn.Linear(3, 2).to(dtype), statistics=ROWS)
    assert table(ROWS.head(2)).shape == (2, 2)
    cloud: Any = as_explained(Cloud().to(dtype), shape=(5, 3))
    assert cloud(np.zeros((2, 5, 3))).shape == (2, 4)


def test_probabilities_that_are_called_logits_are_noted() -> None:
    from conceptry.models.explained.loaders.objects import as_explained, module_of_images

    torch.manual_seed(0)
    model = module_of_images(nn.Sequential(Picture(), nn.Softmax(1)), size=8, outputs="logits")
    assert any("as probabilities are" in note and "--outputs probabilities" in note for note in model.notes)
    assert not any("as probabilities are" in note for note in module_of_images(Picture(), size=8).notes)
    table: Any = as_explained(nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), statistics=ROWS, outputs="logits")
    assert any("as probabilities are" in note for note in table.notes)
