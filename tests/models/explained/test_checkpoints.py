"""Weights from files: every form that people have, prefixes, the robust format, and what is refused."""

import argparse
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from conceptry.models.errors import InputError
from conceptry.models.explained import PixelModel, as_pixel_model, load_explained, read_explained
from conceptry.models.explained.checkpoints import Undrawn, fill, is_file_name, read_checkpoint
from conceptry.models.explained.loaders import torchvision
from conceptry.models.explained.loaders.vision import build
from conceptry.models.explained.preprocessing import Preprocessing
from conceptry.models.manifest import sha256_file

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
WANTED = ("conv.weight", "bn.running_mean")
STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.running_mean": torch.ones(2)}
MEAN, STD = torch.tensor([0.5, 0.25, 0.125]), torch.tensor([0.25, 0.5, 0.75])


def under(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def robust(state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    """As the Madry lab's library has it: DataParallel of an attacker model, whose attacker holds it all again."""
    statistics = {"new_mean": MEAN[:, None, None], "new_std": STD[:, None, None]}
    return {
        **under("module.normalizer.", statistics),
        **under("module.model.", state),
        **under("module.attacker.normalize.", statistics),
        **under("module.attacker.model.", state),
    }


@pytest.fixture(scope="module")
def squeezenet() -> nn.Module:
    """A network of three classes."""
    from torchvision.models import squeezenet1_1

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return squeezenet1_1(num_classes=3).eval()


def literal(module: nn.Module, mean: Any, std: Any, resize: int, crop: int) -> np.ndarray:
    from torchvision.transforms._presets import ImageClassification

    preset = ImageClassification(crop_size=crop, resize_size=resize, mean=mean, std=std)
    with torch.no_grad():
        return module(preset(torch.tensor(PICTURES).permute(0, 3, 1, 2) / 255)).numpy()


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}},
        {"model": under("module.")},
        {"model": {"state_dict": under("module.model.")}},
        {"model_state_dict": under("_orig_mod.module.")},
        under("model."),
    ],
)
def test_forms_of_a_state(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth.tar")
    read = read_checkpoint(tmp_path / "weights.pth.tar", WANTED)
    assert (list(read.state), read.mean, read.std) == (list(STATE), (), ())
    assert all(torch.equal(read.state[key], STATE[key]) for key in STATE)


def test_safetensors(tmp_path: Path) -> None:
    save_file(under("model."), tmp_path / "weights.safetensors")
    read = read_checkpoint(tmp_path / "weights.safetensors", WANTED)
    assert torch.equal(read.state["conv.weight"], STATE["conv.weight"])


def test_a_name_that_fits_is_not_shortened(tmp_path: Path) -> None:
    torch.save(under("model."), tmp_path / "weights.pt")
    assert list(read_checkpoint(tmp_path / "weights.pt", under("model.")).state) == list(under("model."))


@pytest.mark.parametrize("content", [{"model": robust()}, {"state_dict": robust()}, robust()])
def test_the_robust_format(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "robust.pt")
    read = read_checkpoint(tmp_path / "robust.pt", WANTED)
    assert list(read.state) == list(STATE)
    assert (read.mean, read.std) == (tuple(MEAN.tolist()), tuple(STD.tolist()))


def test_a_normaliser_that_is_none(tmp_path: Path) -> None:
    torch.save({**STATE, "normalizer.new_mean": MEAN, "normalizer.new_std": STD - 0.25}, tmp_path / "robust.pt")
    with pytest.raises(InputError, match=r"normaliser has mean \(0.5, 0.25, 0.125\) and std \(0.0, .*std > 0"):
        read_checkpoint(tmp_path / "robust.pt", WANTED)


class Trap:
    def __reduce__(self) -> Any:
        return (print, ("code of the file ran",))


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is old
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, r"no such file; expected a checkpoint, \.safetensors or as torch\.save writes it"),
        (write_nothing, "is no checkpoint that can be read"),
        (lambda path: path.write_text("weights"), "is no checkpoint that can be read"),
        (lambda path: torch.save([1, 2], path), "holds list, expected tensors by name"),
        (
            lambda path: torch.save({"model": {"epoch": 3}}, path),
            "holds no weights; expected tensors by name, or below",
        ),
        (
            lambda path: torch.save({"model": STATE, "extra": Trap()}, path),
            r"holds print beside tensors, and is not loaded, since .* may run code from the file; where you trust it, "
            r"read it by torch\.load\(FILE, weights_only=False\) and write the state_dict alone",
        ),
        (lambda path: torch.save(nn.Linear(2, 2), path), r"holds torch\.nn\.modules\.linear\.Linear beside tensors"),
        (lambda path: path.write_bytes(pickle.dumps({"model": Trap()})), r"is no checkpoint.*\(\w+\); expected"),
        (write_script, "TorchScript archive"),
    ],
)
def test_files_that_are_refused(
    write: Callable[[Path], Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "weights.pt")
    with pytest.raises(InputError, match=message) as caught:
        read_checkpoint(tmp_path / "weights.pt", WANTED)
    assert "\n" not in str(caught.value)
    assert "ran" not in capsys.readouterr().out


def test_safetensors_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_text("weights")
    with pytest.raises(InputError, match="is no checkpoint that can be read"):
        read_checkpoint(tmp_path / "weights.safetensors", WANTED)


def test_weights_that_do_not_fit() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    state = {key: value for key, value in module.state_dict().items() if not key.startswith("1.")}
    with pytest.raises(
        InputError,
        match=r"net: the weights do not fit the network: the file lacks 1\.weight, 1\.bias, 1\.running_mean and 1 more"
        r"; it has the unknown 7\.weight; it has 2\.weight of shape \(5, 4\) instead of \(2, 4\)$",
    ):
        fill(module, {**state, "7.weight": MEAN, "2.weight": torch.zeros(5, 4)}, "net")


def test_states_of_old_files() -> None:
    from torchvision.models.densenet import DenseNet

    with torch.random.fork_rng():
        dense = DenseNet(4, (1, 1, 1, 1), 8, num_classes=2)
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): torch.randn_like(value)
        for key, value in dense.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    fill(dense, old, "dense")
    first = "features.denseblock1.denselayer1."
    assert torch.equal(dense.state_dict()[f"{first}norm1.weight"], old[f"{first}norm.1.weight"])


def test_states_without_the_version_of_their_format() -> None:
    with torch.random.fork_rng():
        module = build("torchvision", "mnasnet0_5", 2, {})
    state = {key: torch.ones_like(value) for key, value in module.state_dict().items()}
    fill(module, state, "mnasnet")
    assert all((value == 1).all() for value in module.state_dict().values())


@pytest.mark.parametrize("architecture", ["regnet_y_400mf", "inception_v3", "mnasnet0_5"])
def test_shapes_are_known_without_weights(architecture: str) -> None:
    shapes = torchvision._shapes(architecture)
    assert list(shapes.items())[-1] in [(f"{head}.bias", (1000,)) for head in ("fc", "classifier.1")]
    assert not any("aux" in key.lower() for key in shapes)


def test_names_of_files() -> None:
    assert [is_file_name(tag) for tag in ("a.pt", "folder/a", "IMAGENET1K_V1")] == [True, True, False]


def test_torchvision_with_the_weights_of_a_file(squeezenet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": under("module.", squeezenet.state_dict())}, path)
    drawn = torch.random.get_rng_state()
    model = as_pixel_model(load_explained(f"torchvision:squeezenet1_1@{path}", "cpu"))
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert (model.form, model.classes, model.size) == ("logits", ("class_0", "class_1", "class_2"), (224, 224))
    expected = literal(squeezenet, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256, 224)
    np.testing.assert_allclose(model(PICTURES), expected, atol=1e-5)
    np.testing.assert_allclose(model.from_pixels(model.to_pixels(PICTURES)), expected, atol=1e-5)
    packaged: Any = model
    assert packaged.lineage["explained_sha256"] == sha256_file(path)
    assert "that of torchvision:squeezenet1_1@IMAGENET1K_V1 is taken" in packaged.notes[0]
    torch.save({"layers": torch.zeros(2)}, path)
    with pytest.raises(
        InputError, match=r"the file lacks features\.0\.weight.* and 49 more; it has the unknown layers"
    ):
        load_explained(f"torchvision:squeezenet1_1@{path}", "cpu")


def test_a_robust_network_brings_its_normalisation(squeezenet: nn.Module, tmp_path: Path) -> None:
    torch.save({"model": robust(dict(squeezenet.state_dict())), "epoch": 90}, tmp_path / "imagenet_l2_3_0.pt")
    model: Any = load_explained(f"torchvision:squeezenet1_1@{tmp_path / 'imagenet_l2_3_0.pt'}", "cpu")
    assert model.preparation == Preprocessing((256,), (224, 224), tuple(MEAN.tolist()), tuple(STD.tolist()))
    assert model.notes == ()
    np.testing.assert_allclose(model(PICTURES), literal(squeezenet, MEAN, STD, 256, 224), atol=1e-5)
    model.save(tmp_path / "explained")
    (tmp_path / "imagenet_l2_3_0.pt").unlink()
    read: Any = read_explained(tmp_path / "explained", "cpu")
    assert read.name == "torchvision:squeezenet1_1@imagenet_l2_3_0.pt"
    np.testing.assert_array_equal(read(PICTURES), model(PICTURES))
    assert (read.preparation, read.lineage, read.classes) == (model.preparation, model.lineage, model.classes)


def test_a_published_file_is_known_by_its_digest(
    squeezenet: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import SqueezeNet1_1_Weights

    path = tmp_path / "downloaded.pth"
    torch.save(squeezenet.state_dict(), path)
    weights = SqueezeNet1_1_Weights.IMAGENET1K_V1.value
    url = f"https://download.pytorch.org/models/squeezenet1_1-{sha256_file(path)[:8]}.pth"
    monkeypatch.setattr(weights, "url", url)
    model: Any = load_explained(f"torchvision:squeezenet1_1@{path}", "cpu")
    assert (model.notes, model.classes) == ((), ("class_0", "class_1", "class_2"))


def test_timm_with_the_weights_of_a_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model("test_resnet", pretrained=False, num_classes=5).eval()
    save_file(module.state_dict(), tmp_path / "mine.safetensors")
    model = as_pixel_model(load_explained(f"timm:test_resnet@{tmp_path / 'mine.safetensors'}", "cpu"))
    packaged: Any = model
    assert len(model.classes) == 5
    assert "that of timm:test_resnet is taken" in packaged.notes[0]
    prepared = packaged.preparation
    x = model.to_pixels(PICTURES)
    with torch.no_grad():
        normalised = (x - torch.tensor(prepared.mean)[:, None, None]) / torch.tensor(prepared.std)[:, None, None]
        torch.testing.assert_close(model.from_pixels(x), module(normalised))
    packaged.save(tmp_path / "explained")
    read = read_explained(tmp_path / "explained", "cpu")
    assert isinstance(read, PixelModel)
    np.testing.assert_array_equal(read(PICTURES), model(PICTURES))
    torch.save(robust(dict(module.state_dict())), tmp_path / "robust.pt")
    tough: Any = load_explained(f"timm:test_resnet@{tmp_path / 'robust.pt'}", "cpu")
    assert (tough.preparation.mean, tough.size, tough.notes) == (tuple(MEAN.tolist()), model.size, ())


class Parts(nn.Module):
    """Parameters of every kind, a buffer in the state, and one that is in no state."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
        self.attention = nn.MultiheadAttention(4, 2)
        self.positions = nn.Parameter(torch.randn(2, 4))
        self.register_buffer("scale", nn.init.constant_(torch.empty(2), 3.0), persistent=False)


def test_parameters_that_a_file_sets_are_not_drawn() -> None:
    saved = Parts()
    torch.manual_seed(0)
    torch.randn(2, 4)  # what is drawn before it is a parameter
    expected = torch.rand(3)
    torch.manual_seed(0)
    with Undrawn():
        read = Parts()
    assert torch.equal(torch.rand(3), expected)
    fill(read, saved.state_dict(), "parts")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name
    assert read.scale.tolist() == [3.0, 3.0]
    assert nn.Linear(2, 2).weight.abs().sum() > 0  # drawn again


def test_networks_of_other_threads_are_drawn() -> None:
    with Undrawn(), ThreadPoolExecutor(1) as pool:
        other = pool.submit(nn.LayerNorm, 1000).result()
    assert other.weight.tolist() == [1.0] * 1000
