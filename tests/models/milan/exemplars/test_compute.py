"""Exemplars against a literal computation over all activations, for every kind of model, and runs that are killed."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.milan.exemplars import compute, first_pass
from conceptry.models.milan.exemplars.checkpoint import UNFINISHED
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.masks import masks_of
from conceptry.models.milan.exemplars.records import read_results, write_layer
from conceptry.models.milan.exemplars.sources import ArraySource, TorchSource
from conceptry.models.milan.settings import ExemplarSettings
from support import environment

N, SIDE = 40, 16
IMAGES = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
DATA = ArraySource("noise", IMAGES)
SETTINGS = ExemplarSettings(k=4, quantile=0.9, batch_size=7)


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.Flatten(), nn.Linear(96, 3))


def pixels() -> Tensor:
    return torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255


def literal(maps: Tensor, images: np.ndarray, settings: ExemplarSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids, levels of all values at once, and masks (U, k, H, W) at these levels; images (n, H, W, 3)."""
    best = maps.amax((2, 3)).numpy()
    ids = np.stack([sorted(range(len(v)), key=lambda i: (-v[i], i))[: settings.k] for v in best.T])
    flat = maps.transpose(0, 1).flatten(1).sort(1).values
    levels = flat[:, math.ceil(settings.quantile * flat.shape[1]) - 1].numpy()
    padded = functional.pad(maps, (1, 1, 1, 1))
    factor = images.shape[1] // maps.shape[2]
    large = functional.interpolate(padded, scale_factor=float(factor), mode="bilinear")
    large = large[..., factor:-factor, factor:-factor].numpy()
    return ids, levels, np.stack([large[ids[u], u] for u in range(len(ids))])


def check(found, maps: Tensor, settings: ExemplarSettings = SETTINGS, units: list[int] | None = None) -> None:
    units = list(range(maps.shape[1])) if units is None else units
    ids, levels, large = literal(maps[:, units], IMAGES, settings)
    np.testing.assert_array_equal(found.units, units)
    np.testing.assert_array_equal(found.ids, ids)
    best = maps.amax((2, 3)).numpy().T[units][np.arange(len(ids))[:, None], ids]
    np.testing.assert_allclose(found.activations, best, rtol=1e-5, atol=1e-6)  # the network rounds by batch
    assert (np.abs(found.levels - levels) <= np.maximum(2.0**-7 * np.abs(levels), 1e-4)).all()
    np.testing.assert_array_equal(found.images, IMAGES.transpose(0, 3, 1, 2)[ids])
    away = np.abs(large - found.levels[:, None, None, None]) > 1e-5
    np.testing.assert_array_equal((found.masks[:, :, 0] > 0)[away], (large > found.levels[:, None, None, None])[away])


@pytest.mark.parametrize("batch_size", [None, 1, 7, 64])
def test_several_layers_in_one_pass(network: nn.Module, batch_size: int | None) -> None:
    settings = ExemplarSettings(k=4, quantile=0.9, batch_size=batch_size)
    found = compute_exemplars(network, DATA, ["0", "1", "2"], settings=settings)
    with torch.no_grad():
        for layer, exemplars in found.items():
            check(exemplars, network[: int(layer) + 1](pixels()), settings)
    assert list(found) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("budget", "again"),
    [(4 * 4 * (8 * 8 * 8 + 6 * 4 * 4), False), (4 * 4 * 8 * 8 * 8, True), (0, True)],  # both layers, one, none
)
def test_the_network_runs_again_only_for_maps_that_were_not_kept(
    network, monkeypatch, budget: int, again: bool
) -> None:
    monkeypatch.setattr(first_pass, "BUDGET", budget)
    seen: list[int] = []
    handle = network[0].register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    found = compute_exemplars(network, DATA, ["0", "2"], settings=SETTINGS)
    handle.remove()
    with torch.no_grad():
        check(found["0"], network[:1](pixels()))
        check(found["2"], network[:3](pixels()))
    chosen = np.unique(np.concatenate([layer.ids.ravel() for layer in found.values()]))
    assert sum(seen) == N + (len(chosen) if again else 0)


def test_pictures_of_several_sizes() -> None:
    """One at a time; the mask of each is that of its own map."""
    sides = [8 + 4 * (i % 3) for i in range(12)]
    items = [torch.rand(3, side, side, generator=torch.Generator().manual_seed(i)) for i, side in enumerate(sides)]
    torch.manual_seed(0)
    model = nn.Conv2d(3, 2, 1)
    settings = ExemplarSettings(k=5, quantile=0.5, image_size=24, batch_size=1)
    found = compute_exemplars(nn.Sequential(model), TorchSource(items, "sizes"), ["0"], settings=settings)["0"]
    assert found.levels is not None
    for unit in range(2):
        for place, number in enumerate(found.ids[unit].tolist()):
            with torch.no_grad():
                of_unit = model(items[number][None])[0, unit : unit + 1].numpy()
            expected = masks_of(of_unit, found.levels[unit : unit + 1], (24, 24))[0]
            np.testing.assert_array_equal(found.masks[unit, place, 0], expected)


def test_a_subset_of_units(network: nn.Module, tmp_path: Path) -> None:
    for directory in (None, tmp_path):
        found = compute_exemplars(network, DATA, ["0", "2"], directory, SETTINGS, units={"2": [5, 1]})
        with torch.no_grad():
            check(found["2"], network[:3](pixels()), units=[5, 1])
            check(found["0"], network[:1](pixels()))
        assert found["2"].unit(5).unit == 5


def test_the_model_is_left_as_it_was(network: nn.Module) -> None:
    network.train()
    network[0].weight.requires_grad_(True)
    compute_exemplars(network, DATA, ["1"], settings=SETTINGS)
    with pytest.raises(InputError):
        compute_exemplars(network, DATA, ["1"], settings=SETTINGS, transform_hiddens=lambda _: None)  # type: ignore
    assert network.training
    assert network[0].weight.requires_grad
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


class Wide(nn.Module):
    """Writes over the output of its first layer, and runs its activation twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))))


def test_outputs_that_are_written_over_and_layers_that_run_twice() -> None:
    torch.manual_seed(1)
    model = Wide()
    found = compute_exemplars(model, DATA, ["first", "relu"], settings=SETTINGS)
    with torch.no_grad():
        first = model.first(pixels())
        check(found["first"], first)  # before the ReLU
        check(found["relu"], model.second(first.relu()).relu())  # the last time


def test_tokens_are_folded_without_the_first() -> None:
    torch.manual_seed(0)

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.block = nn.Conv2d(3, 5, 4, 4), nn.Linear(5, 6)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            return self.block(torch.cat([tokens.mean(1, keepdim=True) + 9, tokens], 1))

    model = Tokens()
    found = compute_exemplars(model, DATA, ["block"], settings=SETTINGS)["block"]
    with torch.no_grad():
        check(found, model.block(model.embed(pixels()).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_transformers_of_libraries(library: str) -> None:
    from conceptry.models.milan.network import default_layers

    torch.manual_seed(0)
    if library == "timm":
        timm = pytest.importorskip("timm")
        model = timm.models.VisionTransformer(img_size=SIDE, patch_size=4, embed_dim=12, depth=2, num_heads=2)
    else:
        from torchvision.models import VisionTransformer

        model = VisionTransformer(SIDE, 4, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=24, num_classes=3)
    layers = default_layers(model)
    found = compute_exemplars(model, DATA, layers, settings=SETTINGS)
    assert len(layers) == 2
    for exemplars in found.values():
        assert exemplars.images.shape == (len(exemplars), 4, 3, SIDE, SIDE)
        assert exemplars.masks.any((1, 2, 3, 4)).all()


def test_a_generator_delivers_what_it_makes(tmp_path: Path) -> None:
    torch.manual_seed(0)

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.paint = nn.ConvTranspose2d(4, 5, 4), nn.ConvTranspose2d(5, 3, 4, 4)

        def forward(self, z: Tensor, y: Tensor) -> tuple[Tensor, str]:
            return self.paint(self.up(z + y[:, None, None, None])).tanh(), "and more"

    model = Generator()
    latents = torch.utils.data.TensorDataset(torch.randn(30, 4, 1, 1), torch.arange(30) / 30)
    found = compute_exemplars(
        model,
        TorchSource(latents, "latents"),
        ["up"],
        tmp_path,
        SETTINGS,
        transform_inputs=lambda z, y: (z, y),
        transform_outputs=lambda output: output[0] / 2 + 0.5,
    )["up"]
    with torch.no_grad():
        z, y = latents.tensors
        painted, _ = model(z, y)
        best = model.up(z + y[:, None, None, None]).amax((2, 3))
    np.testing.assert_array_equal(found.ids[:, 0], best.argmax(0))
    expected = painted.div(2).add(0.5).mul(255).round().to(torch.uint8).numpy()
    np.testing.assert_allclose(found.images.astype(int), expected[found.ids], atol=1)  # of other batches


def test_masks_of_a_generator_belong_to_the_pictures_that_it_delivers() -> None:
    """One with noise of its own makes another picture each time: a bright pixel, which its unit sees."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise, self.layer = torch.Generator().manual_seed(0), nn.Identity()

        def forward(self, z: Tensor) -> Tensor:
            places = torch.randint(64, (len(z),), generator=self.noise)
            return self.layer(functional.one_hot(places, 64).float().view(-1, 1, 8, 8))

    latents = TorchSource([torch.zeros(1) for _ in range(30)], "latents")
    settings = ExemplarSettings(k=5, quantile=0.9, batch_size=7)
    found = compute_exemplars(Noisy(), latents, ["layer"], settings=settings, transform_outputs=lambda x: x)["layer"]
    bright = found.images[0, :, 0] > 0
    assert bright.sum((1, 2)).tolist() == [1] * 5
    assert found.masks[0, :, 0][bright].all()


def test_normalised_items_come_back_as_pictures(network: nn.Module) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    normalised = (pixels() - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    items = [(picture, label) for label, picture in enumerate(normalised)]
    source = TorchSource(items, "items", mean, std)
    found = compute_exemplars(network, source, ["0"], settings=SETTINGS)["0"]
    np.testing.assert_array_equal(found.images, IMAGES.transpose(0, 3, 1, 2)[found.ids])
    with pytest.raises(
        InputError, match=r"items: give mean and std, or transform_outputs: its items are not pictures in"
    ):
        compute_exemplars(network, TorchSource(items, "items"), ["0"], settings=SETTINGS)


def test_plain_features_light_up_whole_pictures() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4))
    found = compute_exemplars(model, DATA, ["1"], settings=ExemplarSettings(k=2, quantile=0.9))["1"]
    assert found.masks[:, 0, 0, SIDE // 2, SIDE // 2].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_of_another_precision(network: nn.Module, dtype: torch.dtype) -> None:
    found = compute_exemplars(network.to(dtype), DATA, ["2"], settings=SETTINGS)["2"]
    expected = network[:3](pixels().to(dtype)).float().amax((2, 3))  # type: ignore[index]  # a Sequential
    np.testing.assert_allclose(found.activations[:, 0], expected.detach().amax(0), atol=0.02)
    assert np.array_equal(np.moveaxis(found.images[0, 0], 0, -1), IMAGES[found.ids[0, 0]])  # not rounded


def test_inside_of_inference_mode(network: nn.Module) -> None:
    wanted = compute_exemplars(network, DATA, ["1", "2"], settings=SETTINGS)
    with torch.inference_mode():
        found = compute_exemplars(network, DATA, ["1", "2"], settings=SETTINGS)
    for layer, units in wanted.items():
        np.testing.assert_array_equal(found[layer].ids, units.ids)
        np.testing.assert_array_equal(found[layer].masks, units.masks)


def test_items_that_are_no_tensors_are_named(network: nn.Module) -> None:
    items = [{"pixel_values": image, "labels": 0} for image in pixels()]
    with pytest.raises(InputError, match="items of mine are of type dict with pixel_values, labels, expected a ten"):
        compute_exemplars(network, TorchSource(items, "mine"), ["2"], settings=SETTINGS)
    images = {"transform_inputs": lambda item: item["pixel_values"]}
    with pytest.raises(InputError, match="transform_outputs: its items are not pictures"):
        compute_exemplars(network, TorchSource(items, "mine"), ["2"], settings=SETTINGS, **images)


def test_images_of_another_size(network: nn.Module) -> None:
    found = compute_exemplars(network, DATA, ["0"], settings=ExemplarSettings(k=2, image_size=(48, 32)))["0"]
    nearest = IMAGES.repeat(3, 1).repeat(2, 2).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found.images, nearest[found.ids])
    assert found.masks.shape == (8, 2, 1, 48, 32)


def test_units_that_are_dead_or_saturate() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            flat = torch.full_like(x[:, :1], 2.0)
            saturating = (x[:, :1] > 0.02).float()
            return self.layer(torch.cat([flat * 0, flat, saturating, -x[:, :1]], 1))

    found = compute_exemplars(Odd(), DATA, ["layer"], settings=SETTINGS)["layer"]
    assert [found.unit(unit).is_inactive for unit in range(4)] == [True, True, False, False]
    assert found.ids[:3].tolist() == [[0, 1, 2, 3]] * 3  # equal ones: the first
    x = IMAGES[:4, :, :, 0] / 255
    inside = found.masks[2, :, 0][:, 1:-1, 1:-1]
    np.testing.assert_array_equal(inside, (x > 0.02)[:, 1:-1, 1:-1])


def test_one_picture(network: nn.Module) -> None:
    found = compute_exemplars(network, ArraySource("one", IMAGES[:1]), ["0"], settings=ExemplarSettings(k=1))["0"]
    assert (found.ids == 0).all()


def test_what_is_asked_wrongly(network: nn.Module, tmp_path: Path) -> None:
    def refused(
        sentence: str, *layers: str, data=DATA, settings=SETTINGS, directory=None, model=network, **more
    ) -> None:
        with pytest.raises(InputError, match=sentence):
            compute_exemplars(model, data, list(layers), directory, settings, name="mine", **more)

    refused("mine: has no layer '7'; expected one such as 0, 1, 2, 3, 4", "7")
    refused("mine: expected one or more layers, each once, got", "0", "0")
    refused("mine: expected one or more layers")
    refused("k is 41, but noise holds 40 pictures; ask for fewer", "0", settings=ExemplarSettings(k=41))
    refused("noise: holds nothing", "0", data=ArraySource("noise", IMAGES[:0]))
    refused("mine: layer '0' has units 0 to 7, got 8", "0", units={"0": [1, 8]})
    refused("mine: units are asked for of layer '2', which is not among the layers", "0", units={"2": [1]})
    refused("expected one or more units of layer '0', each once, got", "0", units={"0": [1, 1]})
    refused("mine: lies on cpu, not on cuda; move it there first", "0", device="cuda")
    refused("mine: expected a torch module, or a network of pictures, got str", "0", model="zoo:scenes")
    refused("data must be a source of pictures or items, got ndarray", "0", data=IMAGES)
    network.add_module("spare", nn.Identity())
    network.forward = lambda x: network[0](x)  # type: ignore[method-assign]
    refused("mine: layer 'spare' is not run in a forward pass", "spare")
    for key, value, sentence in (
        ("k", 0, "k, the pictures of each unit, must be a whole number of at least 1, got 0"),
        ("quantile", 1.0, "quantile must be between 0 and 1, both excluded, got 1.0"),
        ("batch_size", True, "batch_size must be a whole number"),
        ("image_size", (3, 0), "image_size must be a side or"),
    ):
        with pytest.raises(InputError, match=sentence):
            ExemplarSettings(**{key: value})


def test_activations_that_are_not_finite(network: nn.Module) -> None:
    with torch.no_grad():
        network[0].weight[2] = float("nan")
    with pytest.raises(InputError, match="mine: layer '2' gives NaN or infinite activations for picture 0 of noise"):
        compute_exemplars(network, DATA, ["2"], settings=SETTINGS, name="mine")


# -- results on disk ---------------------------------------------------------------------------------------------------


def content(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_folder_holds_what_memory_holds(network: nn.Module, tmp_path: Path) -> None:
    kept = compute_exemplars(network, DATA, ["0", "2"], settings=SETTINGS)
    found = compute_exemplars(network, DATA, ["0", "2"], tmp_path / "a" / "b", SETTINGS)
    for layer, exemplars in read_results(tmp_path / "a" / "b").items():
        for name in ("units", "images", "masks", "ids", "levels"):
            np.testing.assert_array_equal(getattr(exemplars, name), getattr(kept[layer], name))
            np.testing.assert_array_equal(getattr(found[layer], name), getattr(kept[layer], name))
        np.testing.assert_allclose(exemplars.activations, kept[layer].activations, rtol=1e-5)
    assert not (tmp_path / "a" / "b" / UNFINISHED).exists()


class Stop(Exception):  # noqa: N818
    pass


def stopping_at(share: float):
    def progress(_what: str, done: float) -> None:
        if done >= share:
            raise Stop

    return progress


@pytest.mark.parametrize("budget", [first_pass.BUDGET, 0])
@pytest.mark.parametrize("share", [0.2, 0.45, 0.5, 0.6, 0.95])
def test_a_run_that_was_stopped_goes_on(network, tmp_path: Path, monkeypatch, share: float, budget: int) -> None:
    monkeypatch.setattr(first_pass, "BUDGET", budget)
    monkeypatch.setattr(compute, "CHECKPOINT_SECONDS", 0.0)
    through, stopped = tmp_path / "through", tmp_path / "stopped"
    compute_exemplars(network, DATA, ["0", "2"], through, SETTINGS)
    for _ in range(2):  # stopped twice
        with pytest.raises(Stop):
            compute_exemplars(network, DATA, ["0", "2"], stopped, SETTINGS, progress=stopping_at(share))
    seen = []
    compute_exemplars(network, DATA, ["0", "2"], stopped, SETTINGS, progress=lambda _, done: seen.append(done))
    assert content(stopped) == content(through)
    assert all(done >= share - 0.2 for done in seen)  # what was done is not done again


def test_an_unfinished_run_of_another_kind(network: nn.Module, tmp_path: Path, monkeypatch) -> None:
    def run(**changes) -> None:
        given = {"model": network, "data": DATA, "layers": ["0"], "settings": SETTINGS, "directory": tmp_path} | changes
        compute_exemplars(**given)

    monkeypatch.setattr(compute, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Stop):
        run(progress=stopping_at(0.2))
    other = nn.Sequential(nn.Conv2d(3, 8, 3))
    for changes, sentence in (
        ({"settings": ExemplarSettings(k=5, quantile=0.9, batch_size=7)}, "a run with k 4, now 5 is unfinished there"),
        ({"settings": ExemplarSettings(k=4, quantile=0.9, batch_size=8)}, "a run with batch_size 7, now 8"),
        ({"layers": ["2"]}, "a run with the layers 0, now 2 is unfinished there; name another folder, or start over"),
        ({"model": other}, "a run with other weights of the network is unfinished"),
        ({"data": ArraySource("noise", IMAGES[::-1].copy())}, "a run with other data is unfinished"),
        ({"data": ArraySource("grain", IMAGES[::-1].copy())}, "a run with data noise, now grain is unfinished"),
        ({"transform_inputs": lambda x: x * 1}, "a run with other hooks"),
    ):
        with pytest.raises(InputError, match=sentence):
            run(**changes)
    run(layers=["2"], resume=False)
    assert list(read_results(tmp_path)) == ["2"]


def test_a_run_that_had_done_nothing_stands_in_no_way(network: nn.Module, tmp_path: Path) -> None:
    broken = nn.Sequential(nn.Conv2d(3, 8, 3))
    with torch.no_grad():
        broken[0].weight.fill_(float("inf"))
    with pytest.raises(InputError, match="NaN or infinite"):
        compute_exemplars(broken, DATA, ["0"], tmp_path, SETTINGS)
    compute_exemplars(network, DATA, ["0"], tmp_path, SETTINGS)


def test_layers_that_are_there_are_kept(network: nn.Module, tmp_path: Path) -> None:
    compute_exemplars(network, DATA, ["0"], tmp_path, SETTINGS)
    before = (tmp_path / "0" / "images.npy").stat().st_mtime_ns
    steps: list[float] = []
    found = compute_exemplars(network, DATA, ["2", "0"], tmp_path, SETTINGS, progress=lambda _, s: steps.append(s))
    assert list(found) == ["2", "0"]
    assert (tmp_path / "0" / "images.npy").stat().st_mtime_ns == before
    n_steps = len(steps)
    compute_exemplars(network, DATA, ["0"], tmp_path, SETTINGS, progress=lambda _, s: steps.append(s))
    assert len(steps) == n_steps
    with pytest.raises(InputError, match="holds exemplars of a run with k 4, now 3; name another folder"):
        compute_exemplars(network, DATA, ["0"], tmp_path, ExemplarSettings(k=3, quantile=0.9))
    with pytest.raises(InputError, match="holds exemplars of a run with other units"):
        compute_exemplars(network, DATA, ["0"], tmp_path, SETTINGS, units={"0": [1]})


def test_two_runs_at_once(network: nn.Module, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another run is writing exemplars there"):
        compute_exemplars(network, DATA, ["0"], tmp_path, SETTINGS)
    compute_exemplars(network, DATA, ["0"], tmp_path, SETTINGS)


def test_a_folder_that_cannot_be_written(network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConceptryError, match=r"file.inside: cannot be written: "):
        compute_exemplars(network, DATA, ["0"], tmp_path / "file" / "inside", SETTINGS)


_KILLED = """
import os, signal, sys, numpy as np, torch
from pathlib import Path
from torch import nn
from conceptry.models.milan.exemplars import compute
from conceptry.models.milan.settings import ExemplarSettings
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.sources import ArraySource

compute.CHECKPOINT_SECONDS = 0.0
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.Flatten(), nn.Linear(96, 3))
images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)

settings = ExemplarSettings(k=4, quantile=0.9, batch_size=7)
for share in (0.3, 0.7):  # in the first pass, in the second
    def kill(what, done):
        if done >= share:
            os.kill(os.getpid(), signal.SIGKILL)

    if child := os.fork():
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert os.listdir(Path(sys.argv[1]) / ".unfinished")
    else:
        compute_exemplars(network, ArraySource("noise", images), ["0", "2"], Path(sys.argv[1]), settings, progress=kill)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that split")
def test_a_run_that_was_killed_goes_on(network: nn.Module, tmp_path: Path) -> None:
    through, killed = tmp_path / "through", tmp_path / "killed"
    compute_exemplars(network, DATA, ["0", "2"], through, SETTINGS)
    subprocess.run([sys.executable, "-c", _KILLED, str(killed)], env=environment(), timeout=120, check=True)
    (killed / UNFINISHED / ".first.npz.0.part").write_bytes(b"half")  # as one killed while it writes leaves it
    with pytest.raises(Stop):
        compute_exemplars(network, DATA, ["0", "2"], killed, SETTINGS, progress=stopping_at(0))
    assert not list((killed / UNFINISHED).glob(".*.part"))
    compute_exemplars(network, DATA, ["0", "2"], killed, SETTINGS)
    assert content(killed) == content(through)


def test_a_run_that_was_killed_when_all_was_done_stands_in_no_way(network, tmp_path: Path, monkeypatch) -> None:
    def kill(folder: Path, **_: object) -> None:
        if folder.name == UNFINISHED:
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", kill)
    with pytest.raises(KeyboardInterrupt):
        compute_exemplars(network, DATA, ["0"], tmp_path, SETTINGS)
    monkeypatch.undo()
    assert (tmp_path / UNFINISHED).is_dir()
    compute_exemplars(network, DATA, ["0", "2"], tmp_path, SETTINGS)
    assert set(read_results(tmp_path)) == {"0", "2"}
    assert not (tmp_path / UNFINISHED).exists()


def test_what_no_run_has_written_is_not_replaced(network, tmp_path: Path) -> None:
    found = compute_exemplars(network, DATA, ["0"], None, SETTINGS)["0"]
    write_layer(tmp_path, found)
    before = (tmp_path / "0" / "masks.npy").read_bytes()
    for resume in (True, False):
        with pytest.raises(InputError, match="a folder 0 that no run has recorded; move it away, or name another"):
            compute_exemplars(network, DATA, ["0"], tmp_path, ExemplarSettings(k=2), resume=resume)
    assert (tmp_path / "0" / "masks.npy").read_bytes() == before
