"""The published names: the README's examples as they stand but for the import, the variables, and every sentence."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, ToTensor

import colours
from conceptry.models.errors import InputError
from conceptry.models.milan import Milan, load_describer
from conceptry.models.milan.exemplars.records import read_results, write_layer
from conceptry.models.milan.original import (
    DatasetConfig,
    DiscriminativeModelExemplarsConfig,
    ModelConfig,
    ModelExemplarsConfig,
    compute_exemplars,
    compute_milan_descriptions,
    milan,
    milannotations,
)

LAYER = "blocks.9.mlp.fc1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the variables are unset, so that their defaults are below it."""
    for kind in ("DATA", "MODELS", "RESULTS"):
        monkeypatch.delenv(f"MILAN_{kind}_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_annotated(root: Path, layer: str, units: dict[int, str]) -> None:
    """The units of `colours` of these colours, in the published layout, with three captions each."""
    folder = root / layer
    folder.mkdir(parents=True)
    found = colours.exemplars("first")
    rows = [{"red": 0, "green": 1, "blue": 2}[colour] for colour in units.values()]
    np.save(folder / "images.npy", found.images[rows])
    np.save(folder / "masks.npy", found.masks[rows])
    np.save(folder / "units.npy", np.array(list(units)))
    np.savetxt(folder / "ids.csv", found.ids[rows], "%d", ",")
    with (root / "annotations.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("layer", "unit", "summary"))
        writer.writerows((layer, unit, f"{colour} {n}") for unit, colour in units.items() for n in range(3))


def test_the_examples_of_the_readme(home: Path) -> None:
    write_annotated(home / "data/dino_vits8/imagenet", LAYER, {3: "red", 10: "blue"})
    write_annotated(home / "data/biggan/places365", "layer1", {0: "green"})
    write_annotated(home / "data/biggan/imagenet", "layer1", {0: "red"})
    colours.save_describer(home / "models/base")

    decoder = milan.pretrained("base")
    dataset = milannotations.load("dino_vits8/imagenet")
    sample = dataset.lookup(LAYER, 10)
    outputs = decoder(sample.images[None], masks=sample.masks[None])

    assert outputs.captions[0] == "Blue"
    assert (sample.layer, sample.unit, sample.annotations) == (LAYER, 10, ("blue 0", "blue 1", "blue 2"))
    assert outputs.scores.shape == (1,)
    assert outputs.scores[0] == outputs.descriptions[0].score
    assert len(milannotations.load("gen")) == 2
    assert milannotations.KEYS[-1] == "dino_vits8/imagenet"
    assert len(milannotations.DATASET_GROUPINGS["gen"]) == 2
    assert dataset.unit(1) == (LAYER, 10)
    float_images = torch.tensor(sample.images[None]) / 255
    assert decoder(float_images, masks=torch.tensor(sample.masks[None]).float()).captions == ("Blue",)


def test_variables_say_where_things_are(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("DATA", "MODELS", "RESULTS"):
        monkeypatch.setenv(f"MILAN_{kind}_DIR", str(home / kind))
    write_annotated(home / "DATA/dino_vits8/imagenet", LAYER, {3: "red"})
    write_layer(home / "RESULTS/exemplars/palette/squares", colours.exemplars("first"))
    colours.save_describer(home / "MODELS/milan-places365")
    assert milannotations.load("dino_vits8/imagenet").lookup(LAYER, 3).annotations[0] == "red 0"
    assert milannotations.load("palette/squares").lookup("first", 1).unit == 1
    assert milan.pretrained("places365").vocabulary.words == colours.WORDS


def test_images_of_imagenet_come_from_the_users_folder(home: Path) -> None:
    write_annotated(home / "data/dino_vits8/imagenet", LAYER, {3: "red"})
    (home / f"data/dino_vits8/imagenet/{LAYER}/images.npy").unlink()
    with pytest.raises(InputError, match=r"has no images.npy.*name your own folder of its 50,000 validation pictures"):
        milannotations.load("dino_vits8/imagenet")
    (home / "data/imagenet/val/n01").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(home / "data/imagenet/val/n01/a.png")
    with pytest.raises(InputError, match="imagenet/val: holds 1 pictures in 1 folders; expected the 50,000"):
        milannotations.load("dino_vits8/imagenet")


def test_a_folder_can_be_named(home: Path) -> None:
    write_annotated(home / "mine/dino_vits8/imagenet", LAYER, {3: "red"})
    folder = home / "mine/dino_vits8/imagenet"
    assert len(milannotations.load("dino_vits8/imagenet", path=folder)) == 1
    plain = milannotations.load("dino_vits8/imagenet", path=folder, annotations=False)
    assert (len(plain), plain.k, plain.layers, plain.name) == (1, colours.K, (LAYER,), "dino_vits8/imagenet")
    with pytest.raises(InputError, match="expected a folder that ends in alexnet/imagenet, or a name that goes by"):
        milannotations.load("alexnet/imagenet", path=folder)
    with pytest.raises(InputError, match=r"get biggan-imagenet.zip from the project page of MILAN"):
        milannotations.load("gen", path=home / "mine")
    colours.save_describer(home / "somewhere")
    assert milan.pretrained("base", path=home / "somewhere").name == f"describer:{home / 'somewhere'}"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: milan.pretrained("bse"), "there is no released describer 'bse'; expected one of base, cls, gen"),
        (
            lambda: milan.pretrained("cls"),
            r"models/cls: there is no converted describer; get milan-cls.pth from the project page .*; convert it "
            r"once: conceptry convert milan milan-cls.pth --output models/cls$",
        ),
        (
            lambda: milan.pretrained("base"),
            r"models/milan-base.pth is there, unconverted; convert it once: conceptry convert milan "
            r"models/milan-base.pth --output models/base$",
        ),
        (
            lambda: milan.pretrained("base+clip"),
            r"base\+clip ranks by a dual encoder: name it as clip_encoder",
        ),
        (lambda: milannotations.load("resnet18/imagenet"), "there are no exemplars of 'resnet18/imagenet': expected "),
        (lambda: milannotations.load("biggan/imagenet"), "get biggan-imagenet.zip from the project page of MILAN"),
        (
            lambda: compute_exemplars("resnet18", ModelConfig(Eyes), DatasetConfig(ImageFolder)),
            "expected MODEL/DATASET, such as resnet18/imagenet, got 'resnet18'",
        ),
        (
            lambda: compute_exemplars(
                "eyes/imagenet", ModelConfig(Eyes, url="example.org/x"), DatasetConfig(ImageFolder)
            ),
            "models/eyes/imagenet.pth: there is no such file of weights, and nothing is downloaded; get example.org/x",
        ),
        (
            lambda: compute_exemplars(
                "eyes/places", ModelConfig(Eyes, load_weights=False), DatasetConfig(ImageFolder, url="example.org/y")
            ),
            "data/places: there is no such data set, and nothing is downloaded; get example.org/y",
        ),
        (lambda: ModelConfig(Eyes, requires_path=True).load(), "None: there is no such file of weights"),
    ],
)
def test_what_is_missing_is_said(home: Path, call, sentence: str) -> None:
    (home / "models").mkdir()
    (home / "models/milan-base.pth").touch()
    with pytest.raises(InputError, match=sentence):
        call()


def test_clip_ranks_as_published(home: Path, tiny_encoder: Path) -> None:
    colours.save_describer(home / "models/base")
    decoder = milan.pretrained("base+clip", clip_encoder=f"open_clip:local-dir:{tiny_encoder}")
    assert (decoder.settings.clip, decoder.settings.beam_size, decoder.settings.clip_temperature) == (True, 1000, 0.5)
    found = colours.exemplars("first").unit(0)
    outputs = decoder(found.images[None], found.masks[None], length=2)
    assert 0 < abs(outputs.scores[0]) < colours.K


class Eyes(nn.Module):
    """A unit for each channel of an image, less the others."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.sight = nn.Conv2d(3, 3, 1, bias=False)
        self.lids = nn.Identity()
        with torch.no_grad():
            self.sight.weight[:] = gain * (1.5 * torch.eye(3) - 0.5)[:, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lids(self.sight(x)).mean((2, 3))


@pytest.fixture
def squares(home: Path) -> Path:
    """An ImageFolder of squares in three colours, as data/squares."""
    for number in range(12):
        colour = colours.WORDS[number % 3]
        folder = home / "data/squares" / colour
        folder.mkdir(parents=True, exist_ok=True)
        image = np.moveaxis(colours.scene(colour, number)[0], 0, -1)
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return home


def test_the_three_steps_for_a_model_of_ones_own(squares: Path) -> None:
    colours.save_describer(squares / "models/base")
    normalise = Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    (squares / "models").mkdir(exist_ok=True)
    torch.save({"state_dict": Eyes(gain=1.0).state_dict()}, squares / "models/eyes-squares.pth")
    config = ModelConfig(
        Eyes,
        transform_weights=lambda weights: weights["state_dict"],
        layers=("lids", "sight"),
        exemplars=DiscriminativeModelExemplarsConfig(k=3, output_size=32),
        gain=-1.0,  # which the weights of the file undo
    )
    folder = compute_exemplars("eyes/squares", config, DatasetConfig(ImageFolder, transform=normalise), layers=[1])
    assert folder == Path("results/exemplars/eyes/squares")
    assert list(read_results(folder)) == ["sight"]

    dataset = milannotations.load("eyes/squares")
    assert (dataset.k, dataset.layers, len(dataset)) == (3, ("sight",), 3)
    decoder = milan.pretrained("base")
    said = [decoder(sample.images[None], masks=sample.masks[None]).captions[0] for sample in dataset]
    assert said == ["Red", "Green", "Blue"]

    table = compute_milan_descriptions("eyes/squares")
    assert table == Path("results/descriptions/eyes_squares.csv")
    assert table.read_text().splitlines() == ["layer,unit,description", "sight,0,Red", "sight,1,Green", "sight,2,Blue"]
    assert Milan(folder, decoder).explain("sight").texts == said


def test_the_first_units_and_the_published_sizes(squares: Path) -> None:
    config = ModelConfig(Eyes, load_weights=False, layers=["sight"], exemplars=ModelExemplarsConfig(k=2))
    folder = compute_exemplars("eyes/squares", config, DatasetConfig(ImageFolder, transform=ToTensor()), units=2)
    found = read_results(folder)["sight"]
    assert found.units.tolist() == [0, 1]
    assert found.images.shape == (2, 2, 3, 224, 224)
    published = ModelExemplarsConfig().settings
    assert (published.k, published.quantile, published.size) == (15, 0.99, (224, 224))


def test_weights_are_read_as_tensors_alone(home: Path) -> None:
    file = home / "weights.pth"
    torch.save(Eyes(gain=2.0).state_dict(), file)
    assert torch.equal(ModelConfig(Eyes).load(file).sight.weight, Eyes(2.0).sight.weight)  # type: ignore[union-attr]
    assert torch.equal(ModelConfig(Eyes).load().sight.weight, Eyes().sight.weight)  # type: ignore[union-attr]
    assert ModelConfig(lambda path: Eyes(float(path.exists())), requires_path=True, load_weights=False).load(file)
    torch.save(Eyes(), file)
    with pytest.raises(InputError, match=r"weights.pth: does not hold the weights of the network: "):
        ModelConfig(Eyes).load(file)
    torch.save({}, file)
    with pytest.raises(InputError, match=r"weights.pth: does not hold the weights of the network: 'state_dict'"):
        ModelConfig(Eyes, transform_weights=lambda weights: weights["state_dict"]).load(file)


def test_a_describer_is_called_as_the_decoder_was(colour_describer: Path) -> None:
    decoder = load_describer(f"describer:{colour_describer}")
    found = colours.exemplars("first")
    images, masks = found.images[:3], found.masks[:3]
    assert decoder(images, masks).captions == ("Red", "Green", "Blue")
    assert decoder(images / 255.0, masks.astype(bool)).captions == ("Red", "Green", "Blue")
    features = decoder.features(images, masks)
    assert decoder(features, strategy="greedy").captions == ("Red", "Green", "Blue")
    warm, cold = (decoder(images, masks, temperature=t, beam_size=None).scores for t in (0.2, 0.7))
    assert torch.allclose(cold - warm, torch.full((3,), -0.5 * colours.LM, dtype=torch.float64), atol=1e-5)
    with pytest.raises(InputError, match="unknown setting 'mi' of a describer; expected one of strategy, temperature"):
        decoder(images, masks, mi=True)
    with pytest.raises(InputError, match="strategy must be one of greedy, sample, beam, mi, rerank, got 'bream'"):
        decoder(images, masks, strategy="bream")
    with pytest.raises(InputError, match="images must be of shape"):
        decoder(images[:, 0], masks[:, 0])
